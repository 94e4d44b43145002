"""Tables of results: the same rows for terminals, pipes and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def plain(self) -> str:
        """Aligned columns without any decoration, two spaces between them."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "\n".join([self.title, *(self._line(line, widths) for line in lines)])

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
    rows = tuple(
        (
            key,
            _direction(results, task, key),
            *(_cell(r.tasks[task].metrics.get(key)) for r in results),
            _chance(results, task, key),
        )
        for key in keys
    )
    return Table(title, ("metric", "better", *models, "chance"), rows)


def _union(task: str, results: Sequence[RunResult]) -> Mapping[str, Metric]:
    return {key: metric for r in results for key, metric in r.tasks[task].metrics.items()}


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "-"
    interval = f" [{_number(metric.ci95[0])}, {_number(metric.ci95[1])}]" if metric.ci95 else ""
    return _number(metric.value) + interval


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _direction(results: Sequence[RunResult], task: str, key: str) -> str:
    higher = _union(task, results)[key].higher_is_better
    return "" if higher is None else "high" if higher else "low"


def _chance(results: Sequence[RunResult], task: str, key: str) -> str:
    chance = _union(task, results)[key].chance
    return "" if chance is None else _number(chance)
