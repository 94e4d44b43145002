"""Comparisons and leaderboards in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from harness.report.compare import Comparison, ComparisonCell, ComparisonRow
from harness.report.comparison_tables import (
    RECORD,
    better,
    chance,
    comparison_notes,
    comparison_records,
    comparison_title,
    difference_text,
    row_decimals,
    run_heads,
)
from harness.report.leaderboard import Leaderboard, board_table
from harness.report.tables import bounds_text, given_marks, number


def comparison_markdown(c: Comparison) -> str:
    """A table of Markdown, the best in bold."""

    def cell(e: ComparisonCell | None, digits: int) -> str:
        if e is None:
            return "–"
        value = number(e.metric.value, digits)
        head = f"**{value}**" if e.best else value
        below = f"<br>{_md_text(difference_text(e.difference, digits))}" if e.difference else ""
        return f"{head}{bounds_text(e.metric.ci95, digits)}{given_marks(e.metric.given)}{below}"

    def cells(row: ComparisonRow) -> list[str]:
        return [cell(e, row_decimals(row)) for e in row.entries]

    lines = [
        _md(["metric", "better", "chance", *run_heads(c)]),
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

    def top(e: ComparisonCell | None, digits: int) -> str:
        if e is None:
            return "--"
        value = number(e.metric.value, digits)
        value = f"\\textbf{{{value}}}" if e.best else value
        bounds = bounds_text(e.metric.ci95, digits).strip() + given_marks(e.metric.given)
        return value + (f" {{\\scriptsize {tex(bounds)}}}" if bounds else "")

    def below(e: ComparisonCell | None, digits: int) -> str:
        return f"{{\\scriptsize {tex(difference_text(e.difference, digits))}}}" if e and e.difference else ""

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
            " & ".join(["metric", "", "chance", *map(tex, run_heads(c))]) + r" \\",
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
    "‡": r"\ddag{}", "§": r"\S{}",
}  # fmt: skip


def tex(text: str) -> str:
    """`text` for LaTeX, every special character escaped."""
    return "".join(_TEX.get(character, character) for character in text)


def comparison_csv(c: Comparison) -> str:
    """One line for each metric of each run, with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, RECORD, lineterminator="\n")
    writer.writeheader()
    writer.writerows(comparison_records(c))
    return out.getvalue().rstrip("\n")


def board_markdown(board: Leaderboard) -> str:
    """A leaderboard in Markdown."""
    table = board_table(board)
    aligned = ["---" if i in table.left else "---:" for i in range(len(table.columns))]
    notes = [f"- {_md_text(note)}" for note in table.notes]
    lines = [_md(table.columns), _md(aligned), *map(_md, table.rows), *([""] if notes else []), *notes]
    return "\n".join([f"`{board.signature}`", "", *lines])
