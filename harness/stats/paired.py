"""Two runs compared on the same items: difference, interval, test, power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from harness.errors import JoinError, SampleError
from harness.stats.binomial import difference_bounds
from harness.stats.bootstrap import mean_cis
from harness.stats.design import Clusters, Design, Floats, sums_by_cluster, table_of
from harness.stats.intervals import Frame, Interval
from harness.stats.power import detectable, variances_of
from harness.stats.sign_flips import sign_flips

#: Power that `minimum_detectable_effect` is stated for.
POWER = 0.8


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How two runs differ on the same items.

    Attributes:
        difference: mean of first − second; positive where the first is higher.
        ci95: its 95 % interval; None where the data do not determine any.
        p_value: that neither is higher, two-sided, uncorrected (`holm` corrects a family).
        test: `sign-flip` over clusters; `t` where clusters cross and where trained seeds are a factor.
        smallest_p: the least p-value that the test can give; above 0.05 it can detect nothing. 0 of a t test.
        minimum_detectable_effect: `minimum_detectable_effect` of this very test; None without spread, or where the
            test cannot reject.
        n: items.
        num_clusters: as `Interval.num_clusters`.
        interval: the interval in full.
    """

    difference: float
    ci95: tuple[float, float] | None
    p_value: float
    test: Literal["sign-flip", "t"]
    smallest_p: float
    minimum_detectable_effect: float | None
    n: int
    num_clusters: int
    interval: Interval

    @classmethod
    def of(
        cls,
        interval: Interval,
        p_value: float,
        test: Literal["sign-flip", "t"],
        smallest_p: float,
        effect: float | None,
    ) -> PairedDifference:
        """The comparison with this interval and this test."""
        head = interval.value, interval.bounds, p_value, test, smallest_p, effect
        return cls(*head, interval.n, interval.num_clusters, interval)


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
    support: tuple[float, float] | None = None,
    alpha: float = 0.05,
) -> PairedDifference:
    """Mean difference `a − b` on the same items, with interval, test and power.

    The interval is `bootstrap_ci` of the differences, and near 0 holds `binomial.difference_bounds` too. The test is
    `sign_flips` over clusters. Where clusters cross, both are t on the two-way variance.

    Args:
        a: (n,) values of the first run.
        b: (n,) values of the second, in the same order (`join_items`).
        clusters: (n,) as in `bootstrap_ci`.
        seed: of resamples and flips.
        crossed: (n,) as in `bootstrap_ci`.
        num_resamples: bootstrap replicates, and random flips.
        support: least and greatest value possible of an item; None: where all are 0 or another number, that one.
        alpha: two-sided level that the minimum detectable effect is for; 0.05 / m where Holm corrects m tests.

    Raises:
        SampleError: if the lengths differ, or as `bootstrap_ci`.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise SampleError(
            f"Paired values are two vectors of one length; found the shapes {first.shape} and {second.shape}. "
            "Join the runs by id with join_items."
        )
    return paired_differences(
        (first - second)[:, None],
        clusters,
        seed=seed,
        crossed=crossed,
        num_resamples=num_resamples,
        spans=[span_of([first, second], support)],
        alpha=alpha,
    )[0]


def paired_differences(
    differences: ArrayLike,
    clusters: Clusters | None = None,
    *,
    seed: int,
    crossed: Clusters | None = None,
    num_resamples: int = 10_000,
    spans: Sequence[float | None] | None = None,
    alpha: float = 0.05,
) -> list[PairedDifference]:
    """`paired_difference` of many metrics or runs at once: one of each column, all from the same resamples and flips.

    Args:
        differences: (n, m), first − second of every item, a column for each comparison.
        clusters: (n,) as in `bootstrap_ci`.
        seed: of resamples and flips.
        crossed: (n,) as in `bootstrap_ci`.
        num_resamples: bootstrap replicates, and random flips.
        spans: (m,) greatest less least value that an item can have; None where that is not known.
        alpha: as `paired_difference`.

    Raises:
        SampleError: as `bootstrap_ci`.
    """
    table = table_of(differences)
    design = Design.of(table, clusters, crossed)
    intervals, variances = mean_cis(Frame(design), seed, num_resamples), variances_of(design)
    test: Literal["sign-flip", "t"] = "sign-flip" if len(design.ways) == 1 else "t"
    if test == "sign-flip":
        p_values, least = sign_flips(sums_by_cluster(design.table, design.ways[0]), seed, num_resamples)
    else:
        least = np.zeros(len(variances))
        freedom = design.effective_clusters - 1
        p_values = np.array([t_test(i.value, v, freedom) for i, v in zip(intervals, variances, strict=True)])
    found = []
    for k, (interval, variance) in enumerate(zip(intervals, variances, strict=True)):
        effect = None if variance is None or least[k] > alpha else detectable(variance, design, POWER, alpha)
        wide = near_zero(interval, design, k, None if spans is None else spans[k])
        tested = float(p_values[k]), test, float(least[k]), effect
        found.append(PairedDifference.of(wide, *tested))
    return found


def t_test(difference: float, variance: float | None, freedom: float) -> float:
    """Two-sided p-value of a difference with this squared standard error; 1 without any spread and difference."""
    if not variance:
        return float(difference == 0)
    return float(2 * stdtr(freedom, -abs(difference) / np.sqrt(variance)))


def near_zero(interval: Interval, design: Design, column: int, span: float | None) -> Interval:
    """The interval of the mean of a column of differences, widened by `binomial.difference_bounds`."""
    if span is None:
        return interval
    differences = design.table[:, column]
    sums = [sums_by_cluster(differences[:, None], way)[:, 0] for way in design.ways]
    discordant = min(int(np.sum(np.abs(s) > 1e-12 * span)) for s in sums)
    return interval.widened(*difference_bounds(differences, discordant, design.effective_items, span))


def span_of(sides: Sequence[Floats], support: tuple[float, float] | None) -> float | None:
    """Greatest less least value that an item can have; None where neither the support nor the values say.

    Values that are all 0 or one other number are those of right and wrong.
    """
    if support is not None:
        return support[1] - support[0]
    different = {float(x) for x in np.unique(np.concatenate([np.unique(side) for side in sides]))} - {0.0}
    return abs(different.pop()) if len(different) == 1 else None
