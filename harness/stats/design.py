"""Items with the clusters within which they depend on one another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import SampleError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
#: The key of every item's cluster; a tuple of two names one cluster in each of two factors that cross.
Clusters = Sequence[Hashable]
#: Weights or signs held at once: 8 MB.
CHUNK = 1_000_000
#: Below this many effective clusters no interval is given.
FEWEST = 1.5
#: With fewer clusters an interval is over items, and speaks of these clusters alone.
FEWEST_CLUSTERS = 6
#: The key of an item that stands alone in a factor.
_ALONE = object()
#: Names of the factors in `Design.given`: the first is the voice (`results.Item.group`).
_FACTORS = ("voices", "groups")


@dataclass(frozen=True, slots=True)
class Design:
    """Items in a canonical order, with their clusters.

    Attributes:
        table: (n, m), rows sorted by cluster, then by value.
        ways: one or two vectors (n,) of cluster numbers, 0 to G − 1 in the order of their keys.
        given: factors that are taken as they are, since they have too few clusters to speak of others: `"voices"` of
            the first, `"groups"` of the second.
    """

    table: Floats
    ways: tuple[Codes, ...]
    given: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Floats, clusters: Clusters | None, crossed: Clusters | None = None) -> Design:
        """The design of items (n, m); without keys, every item stands alone.

        Args:
            table: (n, m).
            clusters: (n,) keys of one factor, or tuples of two, one for each of two factors that cross. None in a
                tuple: the item stands alone in that factor.
            crossed: (n,) keys of the second factor, where `clusters` has one.

        Raises:
            SampleError: if keys are missing, None, of differing length, or name more than two factors.
        """
        factors = [_codes(keys, table) for keys in _factors(clusters, crossed)]
        few = [way.max() + 1 < FEWEST_CLUSTERS for way in factors]
        ways = [way for way, is_few in zip(factors, few, strict=True) if not is_few]
        order = np.lexsort((*table.T[::-1], *ways[::-1]))
        given = tuple(name for name, is_few in zip(_FACTORS, few, strict=False) if is_few)
        return cls(table[order], tuple(way[order] for way in ways) or (np.arange(len(table)),), given)

    @property
    def n(self) -> int:
        """Items."""
        return len(self.table)

    @property
    def num_clusters(self) -> int:
        """Clusters; the smaller number of the two where they cross."""
        return min(int(way.max()) + 1 for way in self.ways)

    @property
    def effective_clusters(self) -> float:
        """Equal-sized clusters that would weigh as much: (Σ n_g)² / Σ n_g², the smaller number where they cross."""
        return min(float(self.n**2 / np.sum(sizes(way) ** 2)) for way in self.ways)

    @property
    def effective_items(self) -> float:
        """Independent items that would say as much of a share: n / (1 + 0.05 (m − 1)), m = Σ n_g² / n.

        That is Kish's design effect (1965, "Survey Sampling", section 5.4) at an intra-class correlation of 0.05, the
        excesses of two factors added.
        """
        excess = sum(float(np.sum(sizes(way) ** 2)) / self.n - 1 for way in self.ways)
        return self.n / (1 + 0.05 * excess)


def sizes(way: Codes) -> Floats:
    """(G,): items in each cluster."""
    return np.bincount(way).astype(np.float64)


def table_of(values: ArrayLike) -> Floats:
    """Values as a table (n, m).

    Raises:
        SampleError: if there are none, or one is not finite.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise SampleError(f"Statistics need ≥ 1 item and ≥ 1 column; found the shape {table.shape} (items first).")
    bad = np.argwhere(~np.isfinite(table))
    if bad.size:
        row, column = (int(i) for i in bad[0])
        raise SampleError(
            f"Values must be finite; item {row} has {table[row, column]}, {len(bad)} such in all. "
            "An item without a score has failed: count it as failed and leave it out."
        )
    return table


def _factors(clusters: Clusters | None, crossed: Clusters | None) -> list[Clusters]:
    """The keys of each factor."""
    if clusters is None:
        if crossed is not None:
            raise SampleError("Crossed clusters need `clusters`, the first kind of dependence, as well.")
        return []
    widths = sorted({len(key) if isinstance(key, tuple) else 0 for key in clusters})
    if widths in ([], [0]):
        return [clusters] if crossed is None else [clusters, crossed]
    if len(widths) > 1 or widths[0] > 2 or crossed is not None:
        raise SampleError(
            f"Clusters name one factor or two that cross, the same for every item; found keys of {widths} factors"
            f"{' beside `crossed`' if crossed is not None else ''}."
        )
    pairs: list[tuple[Hashable, ...]] = [key for key in clusters if isinstance(key, tuple)]
    return [[_ALONE if key[factor] is None else key[factor] for key in pairs] for factor in range(widths[0])]


def _codes(keys: Clusters, table: Floats) -> Codes:
    """(n,): clusters in the order of their keys, then items that stand alone in the order of their values."""
    n = len(table)
    if len(keys) != n:
        raise SampleError(f"Every item needs a cluster: found {n} items and {len(keys)} cluster keys.")
    if any(key is None for key in keys):
        raise SampleError(
            f"Item {next(i for i, key in enumerate(keys) if key is None)} has the cluster None; items of unknown "
            "origin are no cluster. Give each a key of its own, or no clusters at all."
        )
    number = {key: code for code, key in enumerate(sorted(set(keys) - {_ALONE}, key=repr))}
    codes = np.array([number.get(key, -1) for key in keys], dtype=np.int64)
    alone = codes < 0
    ranks = np.empty(n, dtype=np.int64)
    ranks[np.lexsort(table.T[::-1])] = np.arange(n)
    codes[alone] = len(number) + np.argsort(np.argsort(ranks[alone]))
    return codes


def sums_by_cluster(table: Floats, way: Codes) -> Floats:
    """(G, m): sums of the rows (n, m) of each cluster."""
    return np.column_stack([np.bincount(way, weights=column) for column in table.T])
