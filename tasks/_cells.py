"""Cells of the transfer matrix: their predictions, and intervals over speakers and training seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.results import Item, Metric
from harness.stats import Arm, seeded_ci

Floats = NDArray[np.float64]
#: Values `(…,)` of sums `(…, m)`.
Statistic = Callable[[Floats], Floats]
RESAMPLES = 2000
#: What the names of cells begin with whose predictions another training seed would change.
_TRAINED = ("train_", "cascade.")


@dataclass(frozen=True)
class CellPredictions:
    """The predictions of one cell.

    Attributes:
        utterances: (n,), ascending.
        groups: (n,) what utterances depend on one another through, as keys of `harness.stats`.
        gold: (n,).
        predicted: (seeds, n).
        ids: (seeds, n), of the items.
        counts: (n, seeds, m).
        is_trained: whether a trained model made them; baselines need no training seeds.
    """

    utterances: list[str]
    groups: list[tuple[str | None, ...]]
    gold: list[Any]
    predicted: list[list[Any]]
    ids: list[list[str]]
    counts: Floats
    is_trained: bool

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
        ids = [[rows[u].id for u in utterances] for rows in by_seed]
        groups = [first[u].clusters for u in utterances]
        return cls(utterances, groups, gold, predicted, ids, np.array(counts), is_trained(items[0].extra["cell"]))

    def common(self, other: CellPredictions) -> set[str]:
        """Utterances of both."""
        return set(self.utterances) & set(other.utterances)

    def only(self, utterances: set[str]) -> CellPredictions:
        """The predictions for some of its utterances."""
        at = [k for k, u in enumerate(self.utterances) if u in utterances]

        def some(values: list[Any]) -> list[Any]:
            return [values[k] for k in at]

        rows = [some(row) for row in self.predicted], [some(row) for row in self.ids]
        columns = some(self.utterances), some(self.groups), some(self.gold)
        return CellPredictions(*columns, *rows, self.counts[at], self.is_trained)


def is_trained(cell: str) -> bool:
    """Whether the predictions of a cell depend on a training seed."""
    return cell.startswith(_TRAINED)


def compare(
    parts: Sequence[tuple[CellPredictions, Statistic]],
    combine: Callable[..., Floats],
    seed: int,
    higher_is_better: bool | None,
    support: tuple[float, float] | None,
    chance: float | None,
) -> Metric:
    """`combine` of the parts' means over seeds, with the interval of `seeded_ci`: over utterances and new seeds."""
    arms = [Arm(table.counts, statistic, is_trained=table.is_trained) for table, statistic in parts]
    interval = seeded_ci(arms, parts[0][0].groups, seed=seed, combine=combine, num_resamples=RESAMPLES, support=support)
    return interval.metric(higher_is_better=higher_is_better, chance=chance)


def grouped(items: Iterable[Item], key: str) -> dict[Any, list[Item]]:
    """Items by an entry of their `extra`."""
    out: dict[Any, list[Item]] = {}
    for item in items:
        out.setdefault(item.extra[key], []).append(item)
    return out
