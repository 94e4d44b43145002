"""Metrics of the transfer matrix: of each cell, and of cells beside the baseline and beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from harness.results import Item, Metric
from harness.stats import Arm, pseudo_values, seeded_ci
from harness.task import TaskInfo

from ._cells import RESAMPLES, CellPredictions, Floats, Statistic, compare, grouped
from ._transfer_options import MODALITIES

#: How often labels are permuted to find what predictions reach that have nothing to do with their utterances.
_PERMUTATIONS = 20


class CellScorer(Protocol):
    """What metrics of a cell need to know of a task; see `TransferTask`."""

    info: TaskInfo
    statistics: ClassVar[Mapping[str, Statistic]]
    with_interval: ClassVar[frozenset[str]]
    score_name: ClassVar[str]

    def columns(self, predicted: Any, gold: Any) -> list[float]:
        """Counts of one utterance, whose sums `statistics` are of."""
        ...

    def score(self, predicted: Any, gold: Any) -> float:
        """The utterance's own score in per cent, higher is better."""
        ...


def cell_metrics(task: CellScorer, cell: str, table: CellPredictions, seed: int) -> dict[str, Metric]:
    """Every statistic of a cell: the mean over seeds, where asked for with an interval and with chance.

    Chance is what the same predictions reach when labels are permuted.
    """
    key, headline = f"{task.info.name}.{cell}", next(iter(task.statistics))
    learned = cell != "majority.test"
    shuffled = _permuted(task, table, seed) if learned else None
    out: dict[str, Metric] = {}
    for name, statistic in task.statistics.items():
        per_seed, out_key = statistic(table.sums), f"{key}.{name}"
        higher = None if name.startswith("confusion") else not name.startswith("unparsable")
        if name in task.with_interval:
            chance = None if shuffled is None else float(statistic(shuffled).mean())
            out[out_key] = compare([(table, statistic)], lambda mean: mean, seed, higher, (0.0, 100.0), chance)
        else:
            out[out_key] = Metric(float(per_seed.mean()), table.n, higher)
        if name == headline and len(per_seed) > 1:
            out[f"{out_key}_seed_std"] = Metric(float(per_seed.std(ddof=1)), len(per_seed), False)
        if name == headline and shuffled is not None:
            out[f"{out_key}_shuffled"] = Metric(float(statistic(shuffled).mean()), table.n, None)
    if task.score_name not in task.statistics:
        scores = [[task.score(p, g) for p, g in zip(row, table.gold, strict=True)] for row in table.predicted]
        arm = Arm.of_means(np.transpose(scores), is_trained=table.is_trained)
        interval = seeded_ci([arm], table.groups, seed=seed, num_resamples=RESAMPLES, support=(0.0, 100.0))
        out[f"{key}.{task.score_name}"] = interval.metric(higher_is_better=True)
    return out


def score_values(task: CellScorer, items: Sequence[Item]) -> dict[str, dict[str, float]]:
    """Of each cell, by metric key and item id, the scores of utterances that all seeds answered."""
    values: dict[str, dict[str, float]] = {}
    for name, rows in grouped([i for i in items if "cell" in i.extra], "cell").items():
        common = {i for row in CellPredictions.of(rows, task.columns).ids for i in row}
        of_items = {i.id: float(i.scores["score"]) for i in rows if i.id in common}
        values[f"{task.info.name}.{name}.{task.score_name}"] = of_items
    return values


def linearized_values(task: CellScorer, items: Sequence[Item]) -> dict[str, dict[str, float]]:
    """The same of the statistics with an interval that are no means, by `pseudo_values`."""
    values: dict[str, dict[str, float]] = {}
    for cell, rows in grouped([i for i in items if "cell" in i.extra], "cell").items():
        table = CellPredictions.of(rows, task.columns)
        ids = [i for row in table.ids for i in row]
        for name in sorted(task.with_interval - {task.score_name}):
            column = pseudo_values(table.counts, task.statistics[name]).T.ravel().tolist()
            values[f"{task.info.name}.{cell}.{name}"] = dict(zip(ids, column, strict=True))
    return values


def _permuted(task: CellScorer, table: CellPredictions, seed: int) -> Floats:
    """Sums `(permutations, seeds, m)` of the same predictions, compared with permuted labels."""
    rng = np.random.default_rng([seed, table.n])
    sums = []
    for _ in range(_PERMUTATIONS):
        golds = [table.gold[k] for k in rng.permutation(table.n)]
        rows = [[task.columns(p, g) for p, g in zip(row, golds, strict=True)] for row in table.predicted]
        sums.append(np.sum(rows, axis=1))
    return np.array(sums)


def comparisons(task: CellScorer, name: str, cells: Mapping[str, CellPredictions], seed: int) -> dict[str, Metric]:
    """How far a cell is above the majority baseline, and a zero-shot one from training on the tested modality."""
    headline, statistic = next(iter(task.statistics.items()))
    key, out = f"{task.info.name}.{name}", {}

    def both(other: str) -> list[tuple[CellPredictions, Statistic]]:
        common = cells[name].common(cells[other])
        return [(cells[name].only(common), statistic), (cells[other].only(common), statistic)]

    out[f"{key}.{headline}_above_majority"] = compare(
        both("majority.test"), lambda a, b: a - b, seed, True, (-100.0, 100.0), 0.0
    )
    train, test = name.split(".")
    within = f"train_{test.removeprefix('test_')}.{test}"
    if train in ("train_speech", "train_text") and name != within and within in cells:
        out[f"{key}.transfer_gap"] = compare(both(within), lambda a, b: b - a, seed, False, (-100.0, 100.0), None)
        if statistic(cells[within].sums).mean() > 0:
            out[f"{key}.transfer_ratio"] = compare(both(within), lambda a, b: a / b, seed, True, None, None)
    return out


def matrix_keys(task: str, metric: str) -> tuple[str, ...]:
    """The metric in every cell and in the baselines, for tables."""
    return (*cell_keys(task, metric), f"{task}.cascade.test_speech.{metric}", f"{task}.majority.test.{metric}")


def cell_keys(task: str, metric: str) -> tuple[str, ...]:
    """The metric in every cell."""
    return tuple(key for row in matrix(task, metric).values() for key in row.values())


def matrix(task: str, metric: str) -> dict[str, dict[str, str]]:
    """The layout of the transfer matrix as a heat map: training by row, test by column."""
    return {
        f"train: {c}": {f"test: {m}": f"{task}.train_{c}.test_{m}.{metric}" for m in MODALITIES}
        for c in (*MODALITIES, "both")
    }
