"""Tables of results: cells as text, ready for terminals, pipes and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.results import Metric, RunResult, headline
from harness.task import TaskInfo


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
    notes = given_notes(g for r in results for key in keys if key in r.metrics for g in r.metrics[key].given)
    return Table(title, ("metric", "better", *models, "chance"), rows, notes=tuple(notes))


def _results_row(task: str, results: Sequence[RunResult], key: str) -> tuple[str, ...]:
    metrics = [r.tasks[task].metrics.get(key) for r in results]
    digits = decimals(m.value for m in metrics if m)
    chance = _union(task, results)[key].chance
    cells = (metric_cell(m, digits) for m in metrics)
    return (key, _direction(results, task, key), *cells, "" if chance is None else number(chance, digits))


def _union(task: str, results: Sequence[RunResult]) -> Mapping[str, Metric]:
    return {key: metric for r in results for key, metric in r.tasks[task].metrics.items()}


def metric_cell(metric: Metric | None, digits: int) -> str:
    """A number with its interval; a dash where there is none."""
    if metric is None:
        return "-"
    return number(metric.value, digits) + bounds_text(metric.ci95, digits) + given_marks(metric.given)


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


def blocks(table: Table, width: int, *, first: int) -> list[list[int]]:
    """Columns of parts that fit `width` characters; the `first` ones are in every part."""
    widths = [max(len(line[i]) for line in (table.columns, *table.rows)) + 3 for i in range(len(table.columns))]
    repeated = list(range(first))
    blocks = [repeated]
    for i in range(first, len(widths)):
        if len(blocks[-1]) > first and sum(widths[j] for j in (*blocks[-1], i)) > width:
            blocks.append(repeated)
        blocks[-1] = [*blocks[-1], i]
    return blocks


def parts_of(table: Table, blocks: Sequence[Sequence[int]]) -> list[Table]:
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


def p_text(p: float) -> str:
    """A p-value to three digits."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def bounds_text(ci95: tuple[float, float] | None, digits: int) -> str:
    """An interval in brackets after a space; empty where there is none."""
    return "" if ci95 is None else f" [{number(ci95[0], digits)}, {number(ci95[1], digits)}]"


#: What an interval takes as it is (`Metric.given`): its mark, and what the mark says.
_GIVEN = {
    "weights": ("‡", "these weights only: trained with one seed, no verdict on recipes"),
    "voices": (
        "§",
        "these voices: fewer than 6 (or as few other groups), so that the interval is over items",
    ),
    "groups": ("§", "these groups: fewer than 6, so that the interval is not over groups"),
}


def given_marks(given: Iterable[str]) -> str:
    """Marks of what an interval takes as it is; empty where it speaks of all."""
    return "".join(dict.fromkeys(_GIVEN[name][0] for name in given))


def given_notes(given: Iterable[str]) -> list[str]:
    """What the marks say, a line each."""
    found = set(given)
    return [f"{mark} {says}" for name, (mark, says) in _GIVEN.items() if name in found]
