"""Items with the clusters within which they depend on one another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import SampleError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Clusters = Sequence[Hashable]
#: Weights or signs held at once: 8 MB.
CHUNK = 1_000_000
#: Below this many effective clusters no interval is given.
FEWEST = 1.5


@dataclass(frozen=True, slots=True)
class Design:
    """Items in a canonical order, with their clusters.

    Attributes:
        table: (n, m), rows sorted by cluster, then by value.
        ways: one or two vectors (n,) of cluster numbers, 0 to G − 1 in the order of their keys.
    """

    table: Floats
    ways: tuple[Codes, ...]

    @classmethod
    def of(cls, table: Floats, clusters: Clusters | None, crossed: Clusters | None) -> Design:
        """The design of items (n, m) with one or two keys of dependence each; without keys, every item stands alone.

        Raises:
            SampleError: if keys are missing, None, or `crossed` comes without `clusters`.
        """
        if clusters is None and crossed is not None:
            raise SampleError("Crossed clusters need `clusters`, the first kind of dependence, as well.")
        ways = [_codes(keys, len(table)) for keys in (clusters, crossed) if keys is not None]
        order = np.lexsort((*table.T[::-1], *ways[::-1]))
        return cls(table[order], tuple(way[order] for way in ways) or (np.arange(len(table)),))

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
        return min(float(self.n**2 / np.sum(np.bincount(way).astype(np.float64) ** 2)) for way in self.ways)

    def sums(self, table: Floats) -> list[Floats]:
        """(G, m) for each way."""
        return [sums_by_cluster(table, way) for way in self.ways]


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


def _codes(keys: Clusters, n: int) -> Codes:
    if len(keys) != n:
        raise SampleError(f"Every item needs a cluster: found {n} items and {len(keys)} cluster keys.")
    if any(key is None for key in keys):
        raise SampleError(
            f"Item {next(i for i, key in enumerate(keys) if key is None)} has the cluster None; items of unknown "
            "origin are no cluster. Give each a key of its own, or no clusters at all."
        )
    number = {key: code for code, key in enumerate(sorted(set(keys), key=repr))}
    return np.array([number[key] for key in keys], dtype=np.int64)


def sums_by_cluster(table: Floats, way: Codes) -> Floats:
    """(G, m): sums of the rows (n, m) of each cluster."""
    return np.column_stack([np.bincount(way, weights=column) for column in table.T])
