"""Two runs compared on the same items: difference, interval, sign-flip test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import JoinError, SampleError
from harness.stats.bootstrap import bootstrap_cis
from harness.stats.design import CHUNK, Clusters, Design, Floats, table_of
from harness.stats.intervals import Interval
from harness.stats.power import detectable, variances_of

#: Up to this many clusters a sign-flip test visits all 2^k flips.
_EXACT = 12


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How two runs differ on the same items.

    Attributes:
        difference: mean of first − second; positive where the first is higher.
        ci95: its 95 % interval; None where the data do not determine any.
        p_value: of the sign-flip test that neither is higher, two-sided, uncorrected (`holm` corrects a family).
        smallest_p: the least p-value that the test can give with so many clusters; above 0.05 it can detect nothing.
        minimum_detectable_effect: `minimum_detectable_effect` of this comparison; None without spread between clusters.
        n: items.
        num_clusters: as `Interval.num_clusters`.
        interval: the interval in full.
    """

    difference: float
    ci95: tuple[float, float] | None
    p_value: float
    smallest_p: float
    minimum_detectable_effect: float | None
    n: int
    num_clusters: int
    interval: Interval


def join_items(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[list[str], Floats, Floats]:
    """The ids of two runs' items, sorted, with the values of each in this order, (n,) and (n,).

    Raises:
        JoinError: if either has an item that the other lacks, or both have none.
    """
    only_a, only_b = sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys())
    if only_a or only_b:
        raise JoinError(
            "Two runs are compared on the same items, but "
            + " and ".join(
                f"{len(ids)} are in the {which} alone ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"
                for which, ids in (("first", only_a), ("second", only_b))
                if ids
            )
            + ". Run both on the same corpus, split and limit, and look at their failed items."
        )
    if not a:
        raise JoinError("There are no items to compare.")
    ids = sorted(a)
    return ids, np.array([a[i] for i in ids], dtype=np.float64), np.array([b[i] for i in ids], dtype=np.float64)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Clusters | None = None,
    *,
    seed: int,
    crossed: Clusters | None = None,
    num_resamples: int = 10_000,
) -> PairedDifference:
    """Mean difference `a − b` on the same items, with interval, test and power.

    The interval is `bootstrap_ci` of the differences. The test flips the signs of whole clusters' differences (Fisher's
    randomization test; Ernst 2004, Statistical Science 19): over all 2^k flips for k ≤ 12 clusters, else over seeded
    random ones with p = (1 + as extreme) / (1 + drawn) (Phipson & Smyth 2010, arXiv 1603.05766). Where clusters cross,
    p is the larger of the two one-way tests'.

    Args:
        a: (n,) values of the first run.
        b: (n,) values of the second, in the same order (`join_items`).
        clusters: (n,) as in `bootstrap_ci`.
        seed: of resamples and flips.
        crossed: (n,) as in `bootstrap_ci`.
        num_resamples: bootstrap replicates, and random flips.

    Raises:
        SampleError: if the lengths differ, or as `bootstrap_ci`.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise SampleError(
            f"Paired values are two vectors of one length; found the shapes {first.shape} and {second.shape}. "
            "Join the runs by id with join_items."
        )
    table = (first - second)[:, None]
    return paired_differences(table, clusters, seed=seed, crossed=crossed, num_resamples=num_resamples)[0]


def paired_differences(
    differences: ArrayLike,
    clusters: Clusters | None = None,
    *,
    seed: int,
    crossed: Clusters | None = None,
    num_resamples: int = 10_000,
) -> list[PairedDifference]:
    """`paired_difference` of many metrics or runs at once: one of each column, all from the same resamples and flips.

    Args:
        differences: (n, m), first − second of every item, a column for each comparison.
        clusters: (n,) as in `bootstrap_ci`.
        seed: of resamples and flips.
        crossed: (n,) as in `bootstrap_ci`.
        num_resamples: bootstrap replicates, and random flips.

    Raises:
        SampleError: as `bootstrap_ci`.
    """
    table = table_of(differences)
    intervals = bootstrap_cis(table, clusters, seed=seed, crossed=crossed, num_resamples=num_resamples)
    design = Design.of(table, clusters, crossed)
    tests = [_sign_flips(sums, seed, num_resamples) for sums in design.sums(design.table)]
    p_values = np.max([p for p, _ in tests], axis=0)
    return [
        PairedDifference(
            difference=interval.value,
            ci95=interval.bounds,
            p_value=float(p),
            smallest_p=max(least for _, least in tests),
            minimum_detectable_effect=None if variance is None else detectable(variance, design, 0.8, 0.05),
            n=interval.n,
            num_clusters=interval.num_clusters,
            interval=interval,
        )
        for interval, p, variance in zip(intervals, p_values, variances_of(design), strict=True)
    ]


def _sign_flips(sums: Floats, seed: int, num_flips: int) -> tuple[Floats, float]:
    """Two-sided p-values (m,) that clusters' sums (G, m) are symmetric about 0, and the smallest one possible."""
    clusters = len(sums)
    observed = np.abs(sums.sum(axis=0)) - 1e-9 * np.abs(sums).sum(axis=0)
    if clusters <= _EXACT:
        signs = 1.0 - 2.0 * (np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1)
        return np.asarray(np.mean(np.abs(signs @ sums) >= observed, axis=0)), 2.0 ** (1 - clusters)
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // clusters)
    extreme = np.zeros(sums.shape[1])
    for start in range(0, num_flips, step):
        rows = min(step, num_flips - start)
        signs = 1.0 - 2.0 * generator.integers(2, size=(rows, clusters), dtype=np.int8)
        extreme += np.sum(np.abs(signs @ sums) >= observed, axis=0)
    return (1 + extreme) / (1 + num_flips), 1 / (1 + num_flips)
