"""Cells of the transfer matrix: their predictions, and intervals over speakers and seeds jointly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.results import Item, Metric
from harness.stats import bootstrap_sums_ci

Floats = NDArray[np.float64]
#: Values `(…,)` of sums `(…, m)`.
Statistic = Callable[[Floats], Floats]
RESAMPLES = 2000


@dataclass(frozen=True)
class CellPredictions:
    """The predictions of one cell.

    Attributes:
        utterances: (n,), ascending.
        groups: (n,) speakers.
        gold: (n,).
        predicted: (seeds, n).
        counts: (n, seeds, m).
        stream: which draws of seeds it takes part in: cells of one training have the same.
    """

    utterances: list[str]
    groups: list[str]
    gold: list[Any]
    predicted: list[list[Any]]
    counts: Floats
    stream: str

    @property
    def n(self) -> int:
        """Utterances."""
        return len(self.utterances)

    @property
    def sums(self) -> Floats:
        """(seeds, m)."""
        return np.asarray(self.counts.sum(axis=0))

    @classmethod
    def of(cls, items: Sequence[Item], columns: Callable[[Any, Any], list[float]]) -> CellPredictions:
        """The predictions among a cell's items; `columns` counts for one of them what the statistics are made of."""
        by_seed = [{i.extra["utterance"]: i for i in rows} for _, rows in sorted(grouped(items, "seed").items())]
        utterances = sorted(set.intersection(*(set(rows) for rows in by_seed)))
        first = by_seed[0]
        gold = [first[u].reference for u in utterances]
        predicted = [[rows[u].output for u in utterances] for rows in by_seed]
        counts = [[columns(row[k], gold[k]) for row in predicted] for k in range(len(utterances))]
        stream = items[0].extra["cell"].split(".")[0]
        return cls(utterances, [str(first[u].group) for u in utterances], gold, predicted, np.array(counts), stream)

    def common(self, other: CellPredictions) -> set[str]:
        """Utterances of both."""
        return set(self.utterances) & set(other.utterances)

    def only(self, utterances: set[str]) -> CellPredictions:
        """The predictions for some of its utterances."""
        at = [k for k, u in enumerate(self.utterances) if u in utterances]

        def some(values: list[Any]) -> list[Any]:
            return [values[k] for k in at]

        predicted = [some(row) for row in self.predicted]
        return CellPredictions(
            some(self.utterances), some(self.groups), some(self.gold), predicted, self.counts[at], self.stream
        )


def compare(
    parts: Sequence[tuple[CellPredictions, Statistic]],
    combine: Callable[..., Floats],
    seed: int,
    higher_is_better: bool | None,
    support: tuple[float, float] | None,
    chance: float | None,
) -> Metric:
    """`combine` of the parts' means over seeds, with an interval over speakers and seeds jointly.

    Speakers are drawn as in `harness.stats`. With every draw of speakers, seeds are drawn too, those of one training
    alike for all its cells; their draws are widened by √(S / (S − 1)), since S seeds drawn with replacement vary less
    than S new ones.
    """
    tables = [table for table, _ in parts]
    columns = np.concatenate([table.counts.reshape(table.n, -1) for table in tables], axis=1)
    ends = np.cumsum([table.counts[0].size for table in tables])[:-1]

    def statistic(sums: Floats) -> Floats:
        means = []
        for (table, of), part in zip(parts, np.split(sums, ends, axis=-1), strict=True):
            per_seed = of(part.reshape(*part.shape[:-1], *table.counts.shape[1:]))
            shares = _seed_shares(table, per_seed.shape, seed)
            means.append((per_seed * shares).sum(axis=-1))
        return combine(*means)

    interval = bootstrap_sums_ci(
        columns, statistic, tables[0].groups, seed=seed, num_resamples=RESAMPLES, support=support
    )
    return interval.metric(higher_is_better=higher_is_better, chance=chance)


def _seed_shares(table: CellPredictions, shape: tuple[int, ...], seed: int) -> Floats:
    """How much each seed counts: equally for all items, else drawn for each resample, `(…, seeds)`."""
    seeds = shape[-1]
    equal = np.full(seeds, 1 / seeds)
    if seeds == 1 or len(shape) == 1:
        return equal
    rng = np.random.default_rng([seed, *table.stream.encode()])
    drawn = rng.multinomial(seeds, equal, size=shape[:-1]) / seeds
    return np.asarray(equal + (drawn - equal) * np.sqrt(seeds / (seeds - 1)))


def grouped(items: Iterable[Item], key: str) -> dict[Any, list[Item]]:
    """Items by an entry of their `extra`."""
    out: dict[Any, list[Item]] = {}
    for item in items:
        out.setdefault(item.extra[key], []).append(item)
    return out
