"""Comparisons as tables of two lines a metric: values, and differences to the baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.config import plain
from harness.report.compare import ALPHA, Comparison, ComparisonCell, ComparisonRow, Difference
from harness.report.tables import (
    Table,
    blocks,
    decimals,
    given_marks,
    given_notes,
    metric_cell,
    number,
    p_text,
    parts_of,
)


def comparison_title(c: Comparison) -> str:
    """What is compared with what."""
    metrics = "1 metric" if len(c.rows) == 1 else f"{len(c.rows)} metrics"
    return f"{len(c.labels)} runs, {metrics}; differences to {c.labels[c.baseline]}"


def comparison_notes(c: Comparison) -> list[str]:
    """How to read the table, and every caveat that applies to it."""
    differences = [e.difference for row in c.rows for e in row.entries if e and e.difference]
    tested = [d for d in differences if d.paired]
    notes = ["brackets: 95 % intervals; Δ: difference to the baseline"]
    if tested:
        notes.append(
            f"Δ is paired on common items, clustered by their group, {c.num_resamples:,} resamples (seed {c.seed}); "
            f"p of {' or '.join(_TESTS[name] for name in sorted({str(d.test) for d in tested}))}, corrected by "
            f"{c.correction}'s method over the table's {_tests(c.num_tests)}; * p < {ALPHA:g}"
        )
        notes.append("mde: smallest true difference that this test, corrected, finds with 80 % power, if it can")
        notes.append("each checkpoint is one pretraining: Δ compares checkpoints and is no verdict on how to pretrain")
    if len(tested) < len(differences):
        notes.append(
            "~ unpaired: no mean over items, or other items; interval from the two runs' own intervals, no test"
        )
    own = [g for row in c.rows for e in row.entries if e for g in e.metric.given]
    notes += given_notes([*own, *(g for d in differences for g in d.given)])
    for label, fields in c.differing.items():
        notes.append(f"† {label} has another protocol: {'; '.join(fields)}")
    return notes


#: Tests by name, as notes call them.
_TESTS = {"sign-flip": "the sign-flip test", "t": "the t test over seeds or crossed groups"}


def _tests(number: int) -> str:
    return "one test" if number == 1 else f"{number:,} tests"


def comparison_table(c: Comparison, *, best: tuple[str, str] = ("", "^")) -> Table:
    """Two lines a metric: values with their intervals, then differences to the baseline with p-values.

    Args:
        c: the comparison.
        best: what stands before and after the best value of a row.
    """
    rows: list[tuple[str, ...]] = []
    for row in c.rows:
        digits = row_decimals(row)
        cells = (_value(e, best, digits) if e else "-" for e in row.entries)
        rows.append((row.key, better(row), chance(row), *cells))
        if any(e and e.difference for e in row.entries):
            deltas = (difference_text(e.difference, digits) if e and e.difference else "" for e in row.entries)
            rows.append(("", "", "", *deltas))
    notes = (*comparison_notes(c), f"{''.join(best)} best" if best[0] == "" else "bold: best")
    return Table(comparison_title(c), ("metric", "better", "chance", *run_heads(c)), tuple(rows), notes=notes)


def comparison_blocks(c: Comparison, width: int, *, best: tuple[str, str] = ("", "^")) -> list[Table]:
    """The table in as many parts, each with some of the runs, as it takes to fit `width` characters."""
    found = blocks(comparison_table(c), width, first=3)  # marks take no width
    parts = parts_of(comparison_table(c, best=best), found)
    return [replace(part, rows=tuple(row for row in part.rows if any(row))) for part in parts]


#: What is said of each metric of each run, in the order of columns.
RECORD = (
    "metric", "task", "higher_is_better", "chance", "run", "baseline", "value", "ci95_low", "ci95_high", "n", "best",
    "difference", "difference_low", "difference_high", "paired", "p_value", "p_corrected", "detectable", "common_items",
    "test", "given", "differing",
)  # fmt: skip


def comparison_records(c: Comparison) -> list[dict[str, Any]]:
    """One record with the keys `RECORD` for each metric of each run; None for what there is not."""
    found = []
    for row in c.rows:
        for i, (label, e) in enumerate(zip(c.labels, row.entries, strict=True)):
            if e is None:
                continue
            d = e.difference
            bounds = (d.ci95 or (None, None)) if d else (None, None)
            tested = (d.paired, d.p_value, d.p_corrected, d.detectable, d.n, d.test) if d else (None,) * 6
            given = "+".join(dict.fromkeys((*e.metric.given, *(d.given if d else ()))))
            head = (row.key, row.task, row.higher_is_better, row.chance, label, i == c.baseline)
            own = (e.metric.value, *(e.metric.ci95 or (None, None)), e.metric.n, e.best)
            differing = "; ".join(c.differing.get(label, ()))
            values = (*head, *own, d.value if d else None, *bounds, *tested, given, differing)
            found.append(dict(zip(RECORD, values, strict=True)))
    return found


def comparison_data(c: Comparison) -> dict[str, Any]:
    """Everything that the tables show, for JSON."""
    return {
        "runs": [
            {"label": label, "signatures": dict(s), "differing": list(c.differing.get(label, ()))}
            for label, s in zip(c.labels, c.signatures, strict=True)
        ],
        "baseline": c.labels[c.baseline],
        "correction": {"method": c.correction, "tests": c.num_tests},
        "num_resamples": c.num_resamples,
        "seed": c.seed,
        "metrics": [
            {
                **{"key": row.key, "task": row.task, "higher_is_better": row.higher_is_better, "chance": row.chance},
                "runs": {label: plain(e) for label, e in zip(c.labels, row.entries, strict=True) if e},
            }
            for row in c.rows
        ],
    }


def run_heads(c: Comparison) -> list[str]:
    """Column heads: the baseline and runs of another protocol are marked."""
    return [
        f"{label}{' †' if label in c.differing else ''}{' (baseline)' if i == c.baseline else ''}"
        for i, label in enumerate(c.labels)
    ]


def row_decimals(row: ComparisonRow) -> int:
    """How many decimals the numbers of a row get."""
    return decimals(e.metric.value for e in row.entries if e)


def _value(e: ComparisonCell, best: tuple[str, str], digits: int) -> str:
    before, after = best if e.best else ("", "")
    return f"{before}{metric_cell(e.metric, digits)}{after}"


def difference_text(d: Difference, digits: int) -> str:
    """A difference with its interval and p-value, or how it was found."""
    bounds = "" if d.ci95 is None else f" [{', '.join(number(x, digits, sign=True) for x in d.ci95)}]"
    head = f"Δ {number(d.value, digits, sign=True)}{bounds}{given_marks(d.given)}"
    if not d.paired or d.p_corrected is None:
        return f"{head} ~"
    mde = "" if d.p_corrected < ALPHA or d.detectable is None else f" mde {number(d.detectable, digits)}"
    return f"{head} {p_text(d.p_corrected)}{'*' if d.significant else mde}"


def better(row: ComparisonRow) -> str:
    """Which way is better: high, low or neither."""
    return "" if row.higher_is_better is None else "high" if row.higher_is_better else "low"


def chance(row: ComparisonRow) -> str:
    """The level of chance, empty where there is none."""
    return "" if row.chance is None else number(row.chance, row_decimals(row))
