"""Runs paired with a baseline on the same items: item by item, or over training seeds where items were trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.report.item_values import ItemValues, item_values, linearized_values
from harness.results import RunResult, TaskResult
from harness.stats import PairedDifference, paired_differences, seeded_difference
from harness.stats.paired import span_of
from harness.task import AnyTask, TrainedItems

#: A corrected p-value below this is called significant.
ALPHA = 0.05
#: Parts of a task's protocol that say which items were used, not how.
_WHICH_ITEMS = ("corpus", "corpus_digest", "split", "n", "examples", "seed")
#: A metric's key and the place of a run.
Place = tuple[str, int]
_Floats = NDArray[np.float64]
_Support = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class _Pair:
    """Values of one metric of a run and of the baseline on their common items, in the same order.

    Attributes:
        task: of the metric.
        ids: of the items, or of what several seeds were asked.
        theirs: (n, S) of the run; without seeds S is 1.
        mine: (n, S) of the baseline.
        support: least and greatest value possible of an item.
        is_trained: whether the columns are training seeds.
    """

    task: str
    ids: tuple[str, ...]
    theirs: _Floats
    mine: _Floats
    support: _Support
    is_trained: bool


def paired_with(
    results: Sequence[RunResult],
    tasks: Mapping[str, AnyTask],
    keys: Mapping[str, str],
    *,
    baseline: int,
    seed: int,
    num_resamples: int,
) -> dict[Place, PairedDifference]:
    """Every run's difference to the baseline in every metric that has values of items, by metric and run.

    Where trained models answered, seeds are a factor of their own (`stats.seeded_difference`); else the difference is
    that of `stats.paired_difference`, and comparisons over the same items share their resamples. Minimum detectable
    effects are those of the tests after Holm's correction over all of them.

    Args:
        results: runs with their items.
        tasks: by name; of others there are no values.
        keys: metrics, each with its task.
        baseline: index of the run that the others are compared with.
        seed: of resamples and flips.
        num_resamples: bootstrap replicates, and random flips.

    Raises:
        ResultsError: if stored items do not average to the stored metrics.
    """
    pairs = _pairs(results, tasks, keys, baseline)
    alpha = ALPHA / max(len(pairs), 1)
    found: dict[Place, PairedDifference] = {}
    clusters = {place: _clusters(results[baseline].tasks[p.task], tasks.get(p.task), p) for place, p in pairs.items()}
    batches: dict[tuple[str, tuple[str, ...]], list[Place]] = {}
    for place, pair in pairs.items():
        if pair.is_trained:
            found[place] = seeded_difference(
                pair.theirs, pair.mine, clusters[place], seed=seed, num_resamples=num_resamples,
                support=pair.support, alpha=alpha,
            )  # fmt: skip
        else:
            batches.setdefault((pair.task, pair.ids), []).append(place)
    for places in batches.values():
        own = [pairs[place] for place in places]
        compared = paired_differences(
            np.column_stack([pair.theirs - pair.mine for pair in own]), clusters[places[0]], seed=seed,
            num_resamples=num_resamples, spans=[span_of([p.theirs, p.mine], p.support) for p in own], alpha=alpha,
        )  # fmt: skip
        found |= dict(zip(places, compared, strict=True))
    return found


def _pairs(
    results: Sequence[RunResult], tasks: Mapping[str, AnyTask], keys: Mapping[str, str], baseline: int
) -> dict[Place, _Pair]:
    values = [_values(result, tasks) for result in results]
    seeds = [_seeds(result, tasks) for result in results]
    pairs = {}
    for key, task in keys.items():
        mine = values[baseline].get(task, {}).get(key)
        for i, result in enumerate(results):
            theirs = values[i].get(task, {}).get(key)
            if i == baseline or mine is None or theirs is None or not _same_items(results[baseline], result, task):
                continue
            is_trained = mine.keys() <= seeds[baseline].keys() and theirs.keys() <= seeds[i].keys()
            tables = [_by_seed(side, seeds[run] if is_trained else {}) for side, run in ((theirs, i), (mine, baseline))]
            ids = tuple(sorted(tables[0].keys() & tables[1].keys()))
            if len(ids) >= 2:
                rows = [np.array([table[x] for x in ids]) for table in tables]
                support = result.tasks[task].metrics[key].support
                pairs[key, i] = _Pair(task, ids, rows[0], rows[1], support, is_trained)
    return pairs


def _values(result: RunResult, tasks: Mapping[str, AnyTask]) -> dict[str, ItemValues]:
    means, others = item_values(result, tasks), linearized_values(result, tasks)
    return {task: {**others.get(task, {}), **means.get(task, {})} for task in (*others, *means)}


def _seeds(result: RunResult, tasks: Mapping[str, AnyTask]) -> dict[str, tuple[str, int]]:
    """What trained items ask and the seeds that answered, by item id."""
    found: dict[str, tuple[str, int]] = {}
    for name, task_result in result.tasks.items():
        if isinstance(task := tasks.get(name), TrainedItems):
            found |= {i.id: replicate for i in task_result.items if (replicate := task.replicate_of(i)) is not None}
    return found


def _by_seed(values: Mapping[str, float], seeds: Mapping[str, tuple[str, int]]) -> dict[str, list[float]]:
    """Values by what was asked, of each seed in order; what a seed did not answer is left out."""
    table: dict[str, dict[int, float]] = {}
    for item, value in values.items():
        asked, seed = seeds.get(item, (item, 0))
        table.setdefault(asked, {})[seed] = value
    number = len({seed for row in table.values() for seed in row})
    return {asked: [row[seed] for seed in sorted(row)] for asked, row in table.items() if len(row) == number}


def _same_items(a: RunResult, b: RunResult, task: str) -> bool:
    return all(a.tasks[task].protocol.get(k) == b.tasks[task].protocol.get(k) for k in _WHICH_ITEMS)


def _clusters(result: TaskResult, task: AnyTask | None, pair: _Pair) -> list[tuple[str | None, ...]]:
    """The clusters of a pair's items."""
    found: dict[str, tuple[str | None, ...]] = {}
    for item in result.items:
        replicate = task.replicate_of(item) if pair.is_trained and isinstance(task, TrainedItems) else None
        found[replicate[0] if replicate else item.id] = item.clusters
    return [found[i] for i in pair.ids]
