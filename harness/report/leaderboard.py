"""Leaderboards: of each model the latest run under one protocol, the best first."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.config import digest
from harness.errors import UnknownNameError
from harness.report.tables import Table, blocks, decimals, given_notes, metric_cell, parts_of
from harness.results import Metric, RunResult, TaskResult, headline
from harness.task import AnyTask


@dataclass(frozen=True, slots=True)
class Standing:
    """A model's latest run under one protocol; `when` in seconds since 1970."""

    model: str
    run: str
    when: float
    metrics: Mapping[str, Metric]


@dataclass(frozen=True)
class Leaderboard:
    """All models under one protocol of one task, the best first; `signature` is the protocol without the model."""

    task: str
    signature: str
    keys: tuple[str, ...]
    by: str
    standings: tuple[Standing, ...]


def leaderboard(
    runs: Sequence[tuple[RunResult, float]], *, tasks: Mapping[str, AnyTask], by: str | None = None
) -> list[Leaderboard]:
    """A board for each task and protocol, of each model the latest run.

    Args:
        runs: with the time each was made, in seconds; items are not needed.
        tasks: by name; those absent show all their metrics.
        by: metric that models are sorted by; None: each task's first headline metric.

    Raises:
        UnknownNameError: if no run has the metric `by`.
    """
    offered = {key for result, _ in runs for key in result.metrics}
    if by is not None and by not in offered:
        raise UnknownNameError("metric", by, offered)
    latest: dict[tuple[str, str, str], tuple[TaskResult, Standing]] = {}
    for result, when in sorted(runs, key=lambda pair: pair[1]):
        for name, task in result.tasks.items():
            standing = Standing(str(result.model["name"]), result.run_id, when, task.metrics)
            latest[name, digest(task.protocol), standing.model] = task, standing
    boards: dict[tuple[str, str], list[tuple[TaskResult, Standing]]] = {}
    for (name, protocol, _), pair in latest.items():
        boards.setdefault((name, protocol), []).append(pair)
    return [_board(name, pairs, tasks, by) for (name, _), pairs in sorted(boards.items())]


def _board(
    name: str, pairs: Sequence[tuple[TaskResult, Standing]], tasks: Mapping[str, AnyTask], by: str | None
) -> Leaderboard:
    found = {key: metric for task, _ in pairs for key, metric in task.metrics.items()}
    keys = tuple(headline(found, tasks[name].info.headline) if name in tasks else found)
    first = by if by in found else next((k for k in keys if found[k].higher_is_better is not None), keys[0])
    sign = -1 if found[first].higher_is_better else 1
    standings = sorted(
        (s for _, s in pairs),
        key=lambda s: (sign * s.metrics[first].value if first in s.metrics else math.inf, s.model),
    )
    parts = [p for p in pairs[0][0].signature.split("|") if not p.startswith(("model:", "harness:"))]
    return Leaderboard(name, "|".join(parts), keys if first in keys else (first, *keys), first, tuple(standings))


def board_table(board: Leaderboard) -> Table:
    """A leaderboard as a table: the best first."""
    digits = {k: decimals(s.metrics[k].value for s in board.standings if k in s.metrics) for k in board.keys}
    rows = tuple(
        (str(i + 1), s.model, *(metric_cell(s.metrics.get(k), digits[k]) for k in board.keys), moment(s.when), s.run)
        for i, s in enumerate(board.standings)
    )
    last = len(board.keys) + 3
    columns = ("#", "model", *board.keys, "when", "run")
    found = (g for s in board.standings for k in board.keys if k in s.metrics for g in s.metrics[k].given)
    title, notes = f"{board.signature}; best first by {board.by}", tuple(given_notes(found))
    return Table(title, columns, rows, left=frozenset({1, last}), notes=notes)


def board_blocks(board: Leaderboard, width: int) -> list[Table]:
    """The table in as many parts, each with some of the metrics, as it takes to fit `width` characters."""
    table = board_table(board)
    return parts_of(table, blocks(table, width, first=2))


def moment(epoch_s: float) -> str:
    """A time of this machine's clock, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(epoch_s))
