"""The report of a sweep, as Markdown and HTML with figures, and its tables as CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import plain
from harness.sweep.analysis import ENOUGH_SEEDS, Analysis, Answer
from harness.sweep.figures import cost_figure, pareto_figure, shares_figure, surface_figure
from harness.sweep.plan import Plan, write_json
from harness.sweep.simplex import describe
from harness.sweep.trial import Outcome
from harness.task import task_registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Written:
    """A report on disk.

    Attributes:
        folder: with `report.md`, `report.html`, `summary.json`, figures and tables.
        text: the Markdown.
        summary: the answers as plain data.
    """

    folder: Path
    text: str
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class _Words:
    text: str


@dataclass(frozen=True)
class _Rows:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Picture:
    name: str
    caption: str


_Block = _Heading | _Words | _Rows | _Picture


def write_report(analysis: Analysis, folder: Path, *, dropped: Sequence[tuple[int, str]] = ()) -> Written:
    """Writes Markdown, HTML, figures, tables and `summary.json`; the same trials give the same report.

    Args:
        analysis: of the sweep.
        folder: of the report.
        dropped: numbers of pruned trials with their reasons.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [*_opening(analysis, dropped), *_answers(analysis, folder), *_between(analysis, folder)]
    blocks += [*_fits(analysis), *_costs(analysis, folder), *_trials(analysis)]
    text = "\n\n".join(_markdown(block) for block in blocks) + "\n"
    (folder / "report.md").write_text(text, "utf-8")
    (folder / "report.html").write_text(_page(analysis.plan.spec.name, blocks), "utf-8")
    result = summary(analysis)
    write_json(folder / "summary.json", result)
    export(analysis.plan, analysis.outcomes, folder)
    return Written(folder, text, result)


def summary(analysis: Analysis) -> dict[str, Any]:
    """The answers as plain data."""
    names = analysis.plan.spec.names
    return {
        "sweep": analysis.plan.spec.name,
        "study": analysis.plan.study,
        "trials": len(analysis.outcomes),
        "parts": list(names),
        "answers": {
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
                "optima": {family: dict(zip(names, mixture, strict=True)) for family, mixture in a.optima.items()},
            }
            for key, a in analysis.answers.items()
        },
        "pareto": analysis.pareto,
        "regret": analysis.regret,
        "transfer": {size: {k: list(v) for k, v in table.items()} for size, table in analysis.transfer.items()},
    }


def export(plan: Plan, outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """Writes `ratios.csv` and `metrics.csv`, a row for each trial: what regression on mixtures reads elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    names = plan.spec.names
    head = ["trial", "stage", "size", "seed"]
    keys = sorted({key for o in outcomes for key in o.metrics})
    about = [[o.ask.number, o.ask.stage, o.ask.size, o.ask.seed] for o in outcomes]
    measured = {"realized": "token_share", "realized_samples": "sample_share", "epochs": "epochs"}
    realized = [f"{word}_{n}" for word in measured for n in names]
    ratios = [
        [
            *row,
            *(o.ask.mixture[n] for n in names),
            *(o.realized.get(n, {}).get(what, 0.0) for what in measured.values() for n in names),
        ]
        for row, o in zip(about, outcomes, strict=True)
    ]
    costs = ["tokens", "flops", "train_s", "evaluate_s", "peak_memory_bytes"]
    metrics = [
        [*row, *(o.metrics[k].value if k in o.metrics else "" for k in keys), *(getattr(o, c) for c in costs)]
        for row, o in zip(about, outcomes, strict=True)
    ]
    return [
        _csv(folder / "ratios.csv", [*head, *names, *realized], ratios),
        _csv(folder / "metrics.csv", [*head, *keys, *costs], metrics),
    ]


def _csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path


# --- sections ---------------------------------------------------------------------------------------------------------


def _opening(analysis: Analysis, dropped: Sequence[tuple[int, str]]) -> list[_Block]:
    spec, swept = analysis.plan.spec, analysis.swept()
    stages = ", ".join(
        f"{sum(o.ask.stage == stage for o in analysis.outcomes)} {word}"
        for stage, word in (
            ("design", "designed"),
            ("adaptive", "adaptive"),
            ("transfer", "in other sizes"),
            ("confirm", "confirming"),
        )
        if any(o.ask.stage == stage for o in analysis.outcomes)
    )
    parameters = swept[0].flops / (6 * swept[0].tokens)
    blocks: list[_Block] = [
        _Heading(f"Sweep {spec.name}", 1),
        _Words(
            f"{len(analysis.outcomes)} complete trials ({stages}) over {', '.join(spec.names)}; shares count "
            f"{spec.ratio_unit}. Proxy `{spec.card}`, size `{spec.size}`, {parameters / 1e6:.2f}M parameters, "
            f"{spec.tokens / 1e6:.2f}M tokens a trial. Evaluated on split `{spec.split}` of "
            f"`{spec.corpus or analysis.plan.cards[spec.size].corpus}`, the same items for every trial."
        ),
    ]
    if dropped:
        reasons = "; ".join(f"trial {number}: {reason}" for number, reason in dropped)
        blocks.append(_Words(f"{len(dropped)} trials were pruned and are in no surface. {reasons}"))
    return blocks


def _answers(analysis: Analysis, folder: Path) -> list[_Block]:
    names = analysis.plan.spec.names
    rows = [
        (
            key,
            describe([round(x, 3) for x in a.mixture], names),
            f"{a.value:.4g} [{a.value_ci95[0]:.4g}, {a.value_ci95[1]:.4g}]",
            f"{a.uniform:.4g}",
            f"{a.gain:.3g} [{a.gain_ci95[0]:.3g}, {a.gain_ci95[1]:.3g}]",
            f"{100 * float(np.mean(a.indifferent)):.0f} %",
            a.verdict,
        )
        for key, a in analysis.answers.items()
    ]
    blocks: list[_Block] = [
        _Heading("Best mixtures"),
        _Rows(
            (
                "metric",
                "best mixture (%)",
                "surface there",
                "at uniform",
                "gain over uniform",
                "indifferent",
                "verdict",
            ),
            tuple(rows),
        ),
        _Words(
            "Brackets are 95 % intervals of the fitted surface, conditional on its family. A gain above 0 is better. "
            "The best mixture was chosen by the trials before those that confirm, which flatters its gain; the surface "
            "knows these too, so that a choice made by noise may show a gain below 0. Only a comparison over "
            f"{ENOUGH_SEEDS} or more further seeds settles it. `indifferent` is the share of the allowed lattice that "
            "is not worse than the best mixture with 95 % confidence."
        ),
        _Heading("How well the best shares are known", 3),
        _Rows(("metric", *names), tuple((key, *_shares(a)) for key, a in analysis.answers.items())),
        _Words(
            "Per cent; brackets hold the best mixture of 95 % of surfaces drawn from the posterior of the chosen "
            "family. They know the trials that confirm, which the best mixture was chosen without, so that it may lie "
            "outside. What other families say stands under 'Which law fits'."
        ),
        *_seeds(analysis),
        *_beside(analysis),
        _Heading("Response surfaces"),
    ]
    for key, answer in analysis.answers.items():
        caption = (
            f"{key}: surface (above) and its standard deviation (below) on the faces of the simplex. Circles: trials "
            "on the face; star: best mixture; dashed: region of indifference."
        )
        blocks.append(_save(surface_figure(analysis, answer), folder, f"surface-{_file(key)}.png", caption))
    return blocks


def _shares(answer: Answer) -> list[str]:
    return [
        f"{100 * best:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
        for best, (low, high) in zip(answer.mixture, answer.shares_ci95, strict=True)
    ]


def _seeds(analysis: Analysis) -> list[_Block]:
    rows = [_seed_row(key, a) for key, a in analysis.answers.items() if min(a.comparison.seeds) > 0]
    if not rows:
        return []
    columns = ("metric", "seeds at best / uniform", "best − uniform", "95 % interval", "p", "p, Holm")
    words = "Welch's t over seeds; corrected by Holm over the objectives, and apart from them over the other metrics."
    return [_Heading("Confirmed by seeds", 3), _Rows(columns, tuple(rows)), _Words(words)]


def _seed_row(key: str, answer: Answer) -> tuple[str, ...]:
    c = answer.comparison
    interval = "too few seeds" if c.ci95 is None else f"[{c.ci95[0]:.3g}, {c.ci95[1]:.3g}]"
    difference = "" if c.difference is None else f"{c.difference:.3g}"
    p = ["" if value is None else f"{value:.2g}" for value in (c.p, c.corrected)]
    return (key, f"{c.seeds[0]} / {c.seeds[1]}", difference, interval, *p)


def _beside(analysis: Analysis) -> list[_Block]:
    """Headline metrics, which may sit at chance, at the uniform mixture and at each objective's best trial."""
    keys = _headline(analysis)
    if not keys:
        return []
    swept = analysis.swept()
    uniform = np.abs(analysis.mixtures(swept) - analysis.plan.spec.uniform).max(axis=1) < 1e-6
    columns: list[tuple[str, list[Outcome]]] = []
    if uniform.any():
        columns.append(("uniform", [o for o, at in zip(swept, uniform, strict=True) if at]))
    for objective in analysis.plan.spec.objectives:
        sign = -1.0 if analysis.plan.higher(objective) else 1.0
        best = min(swept, key=lambda o: sign * o.metrics[objective].value)
        columns.append((f"best trial for {objective}", [best]))
    rows = []
    for key in keys:
        chance = analysis.plan.chance.get(key)
        cells = [f"{np.mean([o.metrics[key].value for o in chosen]):.3f}" for _, chosen in columns]
        rows.append((key, *cells, "" if chance is None else f"{chance:.3f}"))
    return [
        _Heading("Headline metrics beside them", 3),
        _Rows(("metric", *(name for name, _ in columns), "chance"), tuple(rows)),
        _Words("Of single trials, the uniform mixture's being a mean over its seeds; no choice was made by them."),
    ]


def _headline(analysis: Analysis) -> list[str]:
    conditions = {tuple(key.split(".")[:2]) for key in analysis.plan.spec.objectives}
    found = []
    for task in analysis.plan.spec.tasks:
        for key in task_registry().load(task).info.headline:
            if tuple(key.split(".")[:2]) in conditions and key in analysis.plan.untrained:
                found.append(key)
    return [key for key in found if key not in analysis.answers]


def _between(analysis: Analysis, folder: Path) -> list[_Block]:
    blocks: list[_Block] = []
    if len(analysis.answers) > 1:
        keys = list(analysis.answers)
        rows = tuple((key, *(f"{analysis.regret[key][other]:.3g}" for other in keys)) for key in keys)
        blocks += [
            _Heading("Regret of choosing another metric's best mixture"),
            _Rows(("metric \\ best mixture of", *keys), rows),
            _Words("How much worse each metric is there than at its own best mixture, on its surface and in its unit."),
        ]
    if len(analysis.plan.spec.objectives) > 1:
        numbers = ", ".join(str(n) for n in analysis.pareto)
        blocks += [_Heading("Pareto front"), _Words(f"Trials that no other beats in every objective: {numbers}.")]
        blocks.append(_save(pareto_figure(analysis), folder, "pareto.png", "Trade-offs between objectives."))
    if analysis.transfer:
        rows = tuple(
            (size, key, f"{rho:.2f}", str(number))
            for size, table in analysis.transfer.items()
            for key, (rho, number) in table.items()
        )
        blocks += [
            _Heading("Do ranks carry over to other sizes?"),
            _Rows(("size", "metric", "Spearman's ρ", "mixtures"), rows),
        ]
    return blocks


def _fits(analysis: Analysis) -> list[_Block]:
    names = analysis.plan.spec.names
    rows = tuple(
        (
            key,
            row.family,
            f"{row.rmse:.3g}",
            f"{row.r2:.2f}",
            describe(a.optima[row.family], names) if row.family in a.optima else "",
            a.surface.formula(a.scale) if row.family == a.surface.name else "",
        )
        for key, a in analysis.answers.items()
        for row in a.errors
    )
    return [
        _Heading("Which law fits"),
        _Rows(("metric", "surface", "error on left-out mixtures", "R²", "its best mixture (%)", "fitted"), rows),
        _Words(
            "Surfaces are fitted to log(1 + (loss − best) / unit), best being the least loss of the trials and unit "
            "how far half of them are from it: a mixture that leaves out what a metric needs costs many times what all "
            "others differ by. Root mean squared error on that scale, one mixture left out at a time with all its "
            "seeds; R² against the mean of the others. The first of each metric is the one used, where it has "
            "intervals. A linear surface and an exponential law are always best at a vertex, whatever the data: where "
            "families of like error disagree about the best mixture, it is less certain than its interval. "
            f"The exponential law is written in the metric's unit, over {', '.join(names)}; coefficients are those of "
            "the shares on the scale, a quadratic's then of their products in pairs."
        ),
    ]


def _costs(analysis: Analysis, folder: Path) -> list[_Block]:
    rows = analysis.outcomes
    seconds, evaluating = [o.train_s + o.evaluate_s for o in rows], [o.evaluate_s for o in rows]
    tokens, flops, memory = [o.tokens for o in rows], [o.flops for o in rows], [o.peak_memory_bytes for o in rows]
    return [
        _Heading("Cost"),
        _Rows(
            ("", "all trials", "median trial"),
            (
                ("tokens", f"{sum(tokens):,}", f"{int(np.median(tokens)):,}"),
                ("FLOPs", f"{sum(flops):.3g}", f"{np.median(flops):.3g}"),
                ("seconds", f"{sum(seconds):,.0f}", f"{np.median(seconds):,.0f}"),
                ("of it evaluation", f"{sum(evaluating):,.0f}", f"{np.median(evaluating):,.0f}"),
                ("peak memory (MB)", "", f"{np.median(memory) / 1e6:,.0f}"),
            ),
        ),
        _save(cost_figure(analysis), folder, "cost.png", "Best trial so far against what had been spent."),
        _save(shares_figure(rows, analysis), folder, "shares.png", "Requested and realized shares."),
    ]


def _trials(analysis: Analysis) -> list[_Block]:
    names, keys = analysis.plan.spec.names, analysis.plan.spec.objectives
    rows = tuple(
        (
            str(o.ask.number),
            o.ask.stage,
            o.ask.size,
            str(o.ask.seed),
            *(f"{100 * o.ask.mixture[n]:.3g}" for n in names),
            *(f"{o.metrics[key].value:.4g}" for key in keys),
            f"{max(r['epochs'] for r in o.realized.values()):.2f}",
        )
        for o in sorted(analysis.outcomes, key=lambda o: o.ask.number)
    )
    columns = ("trial", "stage", "size", "seed", *(f"{n} (%)" for n in names), *keys, "most epochs")
    return [_Heading("Trials"), _Rows(columns, rows)]


# --- rendering --------------------------------------------------------------------------------------------------------


def _file(key: str) -> str:
    return re.sub(r"[^\w.-]+", "_", key)


def _save(figure: Figure, folder: Path, name: str, caption: str) -> _Picture:
    from PIL import Image  # with which matplotlib writes PNG

    whole = io.BytesIO()
    figure.savefig(whole, dpi=110, metadata={"Software": None})  # the same trials give the same bytes
    # A palette makes half the size, so that reports can be kept under version control.
    Image.open(whole).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(folder / name, optimize=True)
    return _Picture(name, caption)


def _markdown(block: _Block) -> str:
    if isinstance(block, _Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, _Rows):
        lines = [block.columns, tuple("---" for _ in block.columns), *block.rows]
        return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    if isinstance(block, _Picture):
        return f"![{block.caption}]({block.name})"
    return block.text


def _page(title: str, blocks: Sequence[_Block]) -> str:
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
        "td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left}img{max-width:100%}"
        "figcaption{color:#555}"
    )
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _html(block: _Block) -> str:
    if isinstance(block, _Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, _Rows):
        head = "".join(f"<th>{html.escape(c)}</th>" for c in block.columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in block.rows)
        return f"<table><tr>{head}</tr>{body}</table>"
    if isinstance(block, _Picture):
        caption = html.escape(block.caption)
        return f'<figure><img src="{block.name}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    marked = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(block.text))
    return f"<p>{marked}</p>"
