"""Tables of results and comparisons: the same rows for terminals, pipes, papers and spreadsheets."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.config import plain
from harness.results import Metric, RunResult, headline
from harness.task import TaskInfo

if TYPE_CHECKING:  # it brings scipy, which `harness list` does without
    from harness.report.compare import Board, Comparison, Difference, Entry, Row, Why


@dataclass(frozen=True)
class Table:
    """Cells as text, ready for any printer; `left` are the columns of words, the others hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int] = frozenset({0, 1})
    #: Said below the table, a line each.
    notes: tuple[str, ...] = ()

    def plain(self) -> str:
        """Aligned columns without any decoration, two spaces between them."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "\n".join([self.title, *(self._line(line, widths) for line in lines), *self.notes])

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = [
            c.ljust(w) if i in self.left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()


def results_table(task: str, results: Sequence[RunResult], info: TaskInfo) -> Table:
    """One row per headline metric of `task`, one column per model, with 95 % intervals and the level of chance."""
    keys = list(headline(_union(task, results), info.headline))
    models = [str(r.model["name"]) for r in results]
    first = results[0]
    n = first.tasks[task].n_scored
    title = (
        f"{task} v{info.version} on {first.corpus['name']}:{first.corpus['split']} ({n} items); "
        "95 % intervals in brackets"
    )
    rows = tuple(_results_row(task, results, key) for key in keys)
    return Table(title, ("metric", "better", *models, "chance"), rows)


def _results_row(task: str, results: Sequence[RunResult], key: str) -> tuple[str, ...]:
    metrics = [r.tasks[task].metrics.get(key) for r in results]
    digits = decimals(m.value for m in metrics if m)
    chance = _union(task, results)[key].chance
    cells = (_cell(m, digits) for m in metrics)
    return (key, _direction(results, task, key), *cells, "" if chance is None else number(chance, digits))


def _union(task: str, results: Sequence[RunResult]) -> Mapping[str, Metric]:
    return {key: metric for r in results for key, metric in r.tasks[task].metrics.items()}


def _cell(metric: Metric | None, digits: int) -> str:
    if metric is None:
        return "-"
    return number(metric.value, digits) + _bounds(metric.ci95, digits)


def decimals(values: Iterable[float]) -> int:
    """How many decimals numbers that are read side by side get: three; one where any reaches 10, as per cents do."""
    return 3 if all(abs(value) < 10 for value in values) else 1


def number(value: float, digits: int, *, sign: bool = False) -> str:
    """With so many decimals and thousands apart; with `sign`, `+` or `−` before it."""
    text = f"{abs(value):,.{digits}f}"
    minus = "−" if sign else "-"
    return f"{minus if value < 0 else '+' if sign else ''}{text}"


def _direction(results: Sequence[RunResult], task: str, key: str) -> str:
    higher = _union(task, results)[key].higher_is_better
    return "" if higher is None else "high" if higher else "low"


# --- comparisons ------------------------------------------------------------------------------------------------------


def comparison_title(c: Comparison) -> str:
    """What is compared with what."""
    metrics = "1 metric" if len(c.rows) == 1 else f"{len(c.rows)} metrics"
    return f"{len(c.labels)} runs, {metrics}; differences to {c.labels[c.baseline]}"


def comparison_notes(c: Comparison) -> list[str]:
    """How to read the table, and every caveat that applies to it."""
    from harness.report.compare import ALPHA

    differences = [e.difference for row in c.rows for e in row.entries if e and e.difference]
    notes = ["brackets: 95 % intervals; Δ: difference to the baseline"]
    if any(d.paired for d in differences):
        notes.append(
            f"Δ is paired on common items, clustered by their group, {c.num_resamples:,} resamples (seed {c.seed}); "
            f"p of the sign-flip test, corrected by {c.correction}'s method over the table's {_tests(c.num_tests)}; "
            f"* p < {ALPHA:g}"
        )
        notes.append("mde: smallest true difference that these items show with 80 % power, before correction")
    if not all(d.paired for d in differences):
        notes.append(
            "~ unpaired: no mean over items, or other items; interval from the two runs' own intervals, no test"
        )
    for label, fields in c.differing.items():
        notes.append(f"† {label} answers another question: {'; '.join(fields)}")
    return notes


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
            deltas = (_delta(e.difference, digits) if e and e.difference else "" for e in row.entries)
            rows.append(("", "", "", *deltas))
    notes = (*comparison_notes(c), f"{''.join(best)} best" if best[0] == "" else "bold: best")
    return Table(comparison_title(c), ("metric", "better", "chance", *_marked(c)), tuple(rows), notes=notes)


def comparison_blocks(c: Comparison, width: int, *, best: tuple[str, str] = ("", "^")) -> list[Table]:
    """The table in as many parts, each with some of the runs, as it takes to fit `width` characters."""
    blocks = _blocks(comparison_table(c), width, first=3)  # marks take no width
    parts = _parts(comparison_table(c, best=best), blocks)
    return [replace(part, rows=tuple(row for row in part.rows if any(row))) for part in parts]


def _blocks(table: Table, width: int, *, first: int) -> list[list[int]]:
    """Columns of parts that fit `width` characters; the `first` ones are in every part."""
    widths = [max(len(line[i]) for line in (table.columns, *table.rows)) + 3 for i in range(len(table.columns))]
    repeated = list(range(first))
    blocks = [repeated]
    for i in range(first, len(widths)):
        if len(blocks[-1]) > first and sum(widths[j] for j in (*blocks[-1], i)) > width:
            blocks.append(repeated)
        blocks[-1] = [*blocks[-1], i]
    return blocks


def _parts(table: Table, blocks: Sequence[Sequence[int]]) -> list[Table]:
    """A table for each of the blocks: the title on the first, the notes below the last."""
    return [
        Table(
            table.title if n == 0 else "",
            tuple(table.columns[i] for i in block),
            tuple(tuple(row[i] for i in block) for row in table.rows),
            notes=table.notes if n == len(blocks) - 1 else (),
            left=frozenset(place for place, i in enumerate(block) if i in table.left),
        )
        for n, block in enumerate(blocks)
    ]


def comparison_markdown(c: Comparison) -> str:
    """A table of Markdown, the best in bold."""

    def cell(e: Entry | None, digits: int) -> str:
        if e is None:
            return "–"
        value = number(e.metric.value, digits)
        head = f"**{value}**" if e.best else value
        below = f"<br>{_md_text(_delta(e.difference, digits))}" if e.difference else ""
        return f"{head}{_bounds(e.metric.ci95, digits)}{below}"

    def cells(row: Row) -> list[str]:
        return [cell(e, row_decimals(row)) for e in row.entries]

    lines = [
        _md(["metric", "better", "chance", *_marked(c)]),
        _md(["---", "---", *["---:"] * (len(c.labels) + 1)]),
        *(_md([f"`{row.key}`", better(row), chance(row), *cells(row)]) for row in c.rows),
    ]
    notes = [f"- {_md_text(note)}" for note in comparison_notes(c)]
    return "\n".join([f"**{comparison_title(c)}**", "", *lines, "", *notes])


def _md(cells: Iterable[str]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _md_text(text: str) -> str:
    return re.sub(r"([*~_])", r"\\\1", text)


def comparison_latex(c: Comparison) -> str:
    """A `table` for the package booktabs, the best in bold."""

    def top(e: Entry | None, digits: int) -> str:
        if e is None:
            return "--"
        value = number(e.metric.value, digits)
        value = f"\\textbf{{{value}}}" if e.best else value
        return value + (f" {{\\scriptsize {tex(_bounds(e.metric.ci95, digits).strip())}}}" if e.metric.ci95 else "")

    def below(e: Entry | None, digits: int) -> str:
        return f"{{\\scriptsize {tex(_delta(e.difference, digits))}}}" if e and e.difference else ""

    lines = []
    for row in c.rows:
        digits = row_decimals(row)
        head = f"\\texttt{{{tex(row.key)}}}", {"high": r"$\uparrow$", "low": r"$\downarrow$"}.get(better(row), "")
        lines.append(" & ".join([*head, tex(chance(row)), *(top(e, digits) for e in row.entries)]) + r" \\")
        if any(e and e.difference for e in row.entries):
            lines.append(" & ".join(["", "", "", *(below(e, digits) for e in row.entries)]) + r" \\")
    notes = " ".join(f"{note[0].upper()}{note[1:]}." for note in comparison_notes(c))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{llr{'r' * len(c.labels)}}}",
            r"\toprule",
            " & ".join(["metric", "", "chance", *map(tex, _marked(c))]) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{tex(comparison_title(c))}. {tex(notes)}}}",
            r"\end{table}",
        ]
    )


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"$\sim$", "^": r"\^{}", "Δ": r"$\Delta$", "−": "$-$", "<": "$<$", ">": "$>$", "†": r"\dag{}", "…": r"\dots{}",
}  # fmt: skip


def tex(text: str) -> str:
    """`text` for LaTeX, every special character escaped."""
    return "".join(_TEX.get(character, character) for character in text)


_CSV = (
    "metric", "task", "higher_is_better", "chance", "run", "baseline", "value", "ci95_low", "ci95_high", "n", "best",
    "difference", "difference_low", "difference_high", "paired", "p_value", "p_corrected", "detectable", "common_items",
    "differing",
)  # fmt: skip


def comparison_csv(c: Comparison) -> str:
    """One line for each metric of each run, with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV)
    for row in c.rows:
        for i, (label, e) in enumerate(zip(c.labels, row.entries, strict=True)):
            if e is None:
                continue
            low, high = e.metric.ci95 or (None, None)
            d = e.difference
            bounds = (d.ci95 or (None, None)) if d else (None, None)
            tested = (d.paired, d.p_value, d.p_corrected, d.detectable, d.n) if d else (None,) * 5
            head = (row.key, row.task, row.higher_is_better, row.chance, label, i == c.baseline)
            own = (e.metric.value, low, high, e.metric.n, e.best)
            writer.writerow(
                [*head, *own, d.value if d else None, *bounds, *tested, "; ".join(c.differing.get(label, ()))]
            )
    return out.getvalue().rstrip("\n")


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


def why_tables(found: Why) -> list[Table]:
    """What differs between two runs, and the items that changed most."""
    changes = tuple((c.group, c.field, _text(c.a), _text(c.b)) for c in found.changes)
    tables = [Table("what differs", ("group", "field", *found.labels), changes, left=frozenset(range(4)))]
    for task in dict.fromkeys(item.task for item in found.items):
        rows = []
        for item in (i for i in found.items if i.task == task):
            key, (a, b) = next(iter(item.values.items()))
            digits = decimals((a, b))
            rows.append((item.id, f"{item.change:.2f}", key, number(a, digits), number(b, digits)))
            for name, (x, y) in item.texts.items():
                rows.append((f"  {name}", "", "", x, "=" if x == y else y))
        title = f"{task}: items that changed most (1 is a usual change), each by the metric that moved most"
        columns = ("item", "change", "metric", *found.labels)
        tables.append(Table(title, columns, tuple(rows), left=frozenset({0, 2, 3, 4})))
    return tables


def board_table(board: Board) -> Table:
    """A leaderboard as a table: the best first."""
    digits = {k: decimals(s.metrics[k].value for s in board.standings if k in s.metrics) for k in board.keys}
    rows = tuple(
        (str(i + 1), s.model, *(_cell(s.metrics.get(k), digits[k]) for k in board.keys), moment(s.when), s.run)
        for i, s in enumerate(board.standings)
    )
    last = len(board.keys) + 3
    columns = ("#", "model", *board.keys, "when", "run")
    return Table(f"{board.signature}; best first by {board.by}", columns, rows, left=frozenset({1, last}))


def board_blocks(board: Board, width: int) -> list[Table]:
    """The table in as many parts, each with some of the metrics, as it takes to fit `width` characters."""
    table = board_table(board)
    return _parts(table, _blocks(table, width, first=2))


def board_markdown(board: Board) -> str:
    """A leaderboard in Markdown."""
    table = board_table(board)
    aligned = ["---" if i in table.left else "---:" for i in range(len(table.columns))]
    return "\n".join([f"`{board.signature}`", "", _md(table.columns), _md(aligned), *map(_md, table.rows)])


def moment(epoch_s: float) -> str:
    """A time of this machine's clock, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(epoch_s))


def _marked(c: Comparison) -> list[str]:
    """Column heads: the baseline and runs of another protocol are marked."""
    return [
        f"{label}{' †' if label in c.differing else ''}{' (baseline)' if i == c.baseline else ''}"
        for i, label in enumerate(c.labels)
    ]


def row_decimals(row: Row) -> int:
    """How many decimals the numbers of a row get."""
    return decimals(e.metric.value for e in row.entries if e)


def _value(e: Entry, best: tuple[str, str], digits: int) -> str:
    before, after = best if e.best else ("", "")
    return f"{before}{number(e.metric.value, digits)}{_bounds(e.metric.ci95, digits)}{after}"


def _delta(d: Difference, digits: int) -> str:
    bounds = "" if d.ci95 is None else f" [{', '.join(number(x, digits, sign=True) for x in d.ci95)}]"
    head = f"Δ {number(d.value, digits, sign=True)}{bounds}"
    if not d.paired or d.p_corrected is None:
        return f"{head} ~"
    mde = "" if d.significant or d.detectable is None else f" mde {number(d.detectable, digits)}"
    return f"{head} {p_text(d.p_corrected)}{'*' if d.significant else mde}"


def p_text(p: float) -> str:
    """A p-value to three digits."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _bounds(ci95: tuple[float, float] | None, digits: int) -> str:
    return "" if ci95 is None else f" [{number(ci95[0], digits)}, {number(ci95[1], digits)}]"


def better(row: Row) -> str:
    """Which way is better: high, low or neither."""
    return "" if row.higher_is_better is None else "high" if row.higher_is_better else "low"


def chance(row: Row) -> str:
    """The level of chance, empty where there is none."""
    return "" if row.chance is None else number(row.chance, row_decimals(row))


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)
