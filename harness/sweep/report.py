"""The report of a sweep, as Markdown and HTML with figures, and its tables as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import plain
from harness.files import write_json, write_text
from harness.sweep.analysis import Analysis
from harness.sweep.blocks import markdown, page
from harness.sweep.export import export
from harness.sweep.sections import costs, fits, opening, optimum_sections, trade_offs, trials


@dataclass(frozen=True)
class SweepReport:
    """The report of a sweep, written.

    Attributes:
        folder: with `report.md`, `report.html`, `summary.json`, figures and tables.
        text: the Markdown.
        summary: the optima as plain data.
    """

    folder: Path
    text: str
    summary: dict[str, Any]


def write_report(analysis: Analysis, folder: Path, *, dropped: Sequence[tuple[int, str]] = ()) -> SweepReport:
    """Writes Markdown, HTML, figures, tables and `summary.json`; the same trials give the same report.

    Args:
        analysis: of the sweep.
        folder: of the report.
        dropped: numbers of pruned trials with their reasons.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [*opening(analysis, dropped), *optimum_sections(analysis, folder), *trade_offs(analysis, folder)]
    blocks += [*fits(analysis), *costs(analysis, folder), *trials(analysis)]
    text = "\n\n".join(markdown(block) for block in blocks) + "\n"
    write_text(folder / "report.md", text)
    write_text(folder / "report.html", page(analysis.plan.spec.name, blocks))
    result = summary(analysis)
    write_json(folder / "summary.json", result)
    export(analysis.plan, analysis.results, folder)
    return SweepReport(folder, text, result)


def summary(analysis: Analysis) -> dict[str, Any]:
    """The optima as plain data."""
    names = analysis.plan.spec.names
    return {
        "sweep": analysis.plan.spec.name,
        "study": analysis.plan.study,
        "trials": len(analysis.results),
        "parts": list(names),
        "optima": {
            key: {
                "mixture": dict(zip(names, a.mixture, strict=True)),
                "shares_ci95": {n: list(ci) for n, ci in zip(names, a.shares_ci95, strict=True)},
                "value": a.value,
                "value_ci95": list(a.value_ci95),
                "uniform": a.uniform,
                "gain": a.gain,
                "gain_ci95": list(a.gain_ci95),
                "surface": a.surface.name,
                "formula": a.surface.formula(a.scale),
                "scale": plain(a.scale),
                "indifferent_share": float(np.mean(a.indifferent)),
                "comparison": plain(a.comparison),
                "verdict": a.verdict,
                "errors": [plain(row) for row in a.errors],
                "optima_by_family": {
                    family: dict(zip(names, mixture, strict=True)) for family, mixture in a.optima_by_family.items()
                },
            }
            for key, a in analysis.optima.items()
        },
        "pareto": analysis.pareto,
        "regret": analysis.regret,
        "transfer": {size: {k: list(v) for k, v in table.items()} for size, table in analysis.transfer.items()},
    }
