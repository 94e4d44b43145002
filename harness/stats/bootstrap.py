"""Clustered bootstrap intervals of means, medians and statistics of sums."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import OptionError, SampleError
from harness.stats.binomial import nearness, nearness_of_items
from harness.stats.design import CHUNK, Clusters, Codes, Design, Floats, sums_by_cluster, table_of
from harness.stats.intervals import Frame, Interval
from harness.stats.variance import Statistic, cluster_variances, influences


def bootstrap_ci(
    values: ArrayLike,
    clusters: Clusters | None = None,
    *,
    seed: int,
    crossed: Clusters | None = None,
    num_resamples: int = 10_000,
    statistic: Literal["mean", "median"] = "mean",
    level: float = 0.95,
    support: tuple[float, float] | None = None,
) -> Interval:
    """Confidence interval of the mean or median over items that depend on one another within clusters.

    **One factor.** Whole clusters are drawn with replacement, as many as there are, and the statistic is taken over
    all items drawn, so that the mean is a ratio of sums and a large cluster weighs more (Davison & Hinkley 1997,
    "Bootstrap Methods and their Application", section 3.8).

    The ends are *expanded percentiles*: with G clusters a plain percentile interval is too narrow by √((G − 1) / G) and
    by the normal's quantile in the place of Student's; the tail α/2 becomes Φ(−√(G / (G − 1)) · t_{α/2, G − 1})
    (Hesterberg 2014, arXiv 1411.5279; `ExpandProbs` of his R package resample). That keeps what percentiles are good
    for (they stay in the statistic's range and follow its transformations), where a studentized interval would not and
    BCa, which corrects skewness alone, stays too narrow. G is the effective number of clusters, (Σ n_g)² / Σ n_g²
    (after Kish 1965, "Survey Sampling"). Where that tail is too far out for the resamples (G ≤ 5 at the default level),
    the interval is value ± t_{α/2, G − 1} · √(G / (G − 1)) · the bootstrap's standard deviation (Cameron, Gelbach &
    Miller 2008, Review of Economics and Statistics 90, on why G − 1). Below 1.5 effective clusters there is no
    interval.

    **Two factors that cross** (every voice says sentences of every association): a mean gets value ± t · √V with the
    two-way variance of `cluster_variances` and G − 1 degrees of freedom, G the smaller number of clusters. For a
    median both are drawn and an item weighs the product of its two counts: the pigeonhole bootstrap (Owen 2007, arXiv
    0712.1111), whose variance errs a little on the wide side.

    **Fewer than 6 clusters** of a factor do not tell what others are like: the interval is over items (or over the
    other factor), speaks of these clusters alone and says so in `given`.

    **Bounded means near their ends.** Near an end of the support (`nearness_of_items`) the interval also holds Clopper
    & Pearson's for `Design.effective_items` trials: bounds move with the number of right items, to the last one. No
    interval has zero width: items without any spread get Clopper & Pearson's, and none where no support is known.

    The result depends neither on the order of items nor on the names of clusters beyond their sorted order.

    Args:
        values: (n,), finite.
        clusters: (n,) keys of dependence (speaker, prompt, story), sorted by their `repr`; tuples of two keys for two
            factors that cross, in which None stands alone; None where every item stands alone.
        seed: of the resampling.
        crossed: (n,) keys of the second factor, where `clusters` are those of the first.
        num_resamples: bootstrap replicates.
        statistic: of the items, each of equal weight.
        level: confidence level, in (0, 1).
        support: least and greatest value possible, (0, 1) for shares; bounds are clipped to it.

    Raises:
        SampleError: if there are no values, they are not finite or outside the support, or keys are missing or None.
        OptionError: if the level, the statistic or the number of resamples is not one that there is.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise SampleError(f"bootstrap_ci takes one vector; found the shape {column.shape}. See bootstrap_cis.")
    return bootstrap_cis(
        column[:, None],
        clusters,
        seed=seed,
        crossed=crossed,
        num_resamples=num_resamples,
        statistic=statistic,
        level=level,
        support=support,
    )[0]


def bootstrap_cis(
    values: ArrayLike,
    clusters: Clusters | None = None,
    *,
    seed: int,
    crossed: Clusters | None = None,
    num_resamples: int = 10_000,
    statistic: Literal["mean", "median"] = "mean",
    level: float = 0.95,
    support: tuple[float, float] | None = None,
) -> list[Interval]:
    """`bootstrap_ci` of each of the columns of `values`, (n, m), all from the same resamples.

    Raises:
        SampleError, OptionError: as `bootstrap_ci`.
    """
    table = table_of(values)
    if support is not None and not (support[0] <= table.min() and table.max() <= support[1]):
        raise SampleError(f"Values must lie in the support {support}; found {table.min()} to {table.max()}.")
    if statistic not in ("mean", "median"):
        raise OptionError(f"There is no statistic '{statistic}'. Known: mean, median.")
    frame = Frame(Design.of(table, clusters, crossed), level, support, is_share=statistic == "mean")
    if statistic == "mean":
        return mean_cis(frame, seed, num_resamples)
    estimates, draws = _resample_medians(frame.design, seed, num_resamples)
    return [frame.of_draws(float(value), draws[:, j], num_resamples, near=0) for j, value in enumerate(estimates)]


def mean_cis(frame: Frame, seed: int, num_resamples: int) -> list[Interval]:
    """The interval of the mean of each column of a design's table."""
    design, support = frame.design, frame.support
    near = [0.0 if support is None else nearness_of_items(column, support) for column in design.table.T]
    means = design.table.mean(axis=0)
    if len(design.ways) == 2:
        variances = cluster_variances(design, (design.table - means) / design.n)
        freedom = design.effective_clusters - 1
        return [
            frame.of_variance(float(mean), float(v), freedom, near=at)
            for mean, v, at in zip(means, variances, near, strict=True)
        ]
    table = np.column_stack([design.table, np.ones(design.n)])
    estimates, draws = _resample_sums(table, design, _means, seed, num_resamples)
    return [frame.of_draws(float(value), draws[:, j], num_resamples, near=near[j]) for j, value in enumerate(estimates)]


def bootstrap_sums_ci(
    columns: ArrayLike,
    statistic: Statistic,
    clusters: Clusters | None = None,
    *,
    seed: int,
    crossed: Clusters | None = None,
    num_resamples: int = 10_000,
    level: float = 0.95,
    support: tuple[float, float] | None = None,
) -> Interval:
    """`bootstrap_ci` of a statistic of sums over items: micro F1 of counts, word error rate, corpus perplexity.

    Over two factors that cross, the statistic is linearized (`influences`). Near an end of its support (`nearness`) it
    is bounded by counting, as a share of the items would be.

    Args:
        columns: (n, m), what is summed over items (`[tp, gold, predicted]`, `[errors, words]`, …).
        statistic: maps sums (…, m) to values (…,); NaN where it is not defined. Resamples in which it is not are
            left out; if they are over 1 %, no interval is given.
        clusters: as in `bootstrap_ci`, like the rest.
        seed: of the resampling.
        crossed: as in `bootstrap_ci`.
        num_resamples: bootstrap replicates.
        level: confidence level, in (0, 1).
        support: least and greatest value of the statistic.

    Raises:
        SampleError: as `bootstrap_ci`, or if the statistic of all items is not finite or outside the support.
    """
    frame = Frame(Design.of(table_of(columns), clusters, crossed), level, support)
    return sums_interval(frame, statistic, seed, num_resamples)


def sums_interval(frame: Frame, statistic: Statistic, seed: int, num_resamples: int) -> Interval:
    """The interval of a statistic of the sums of a design's table, as `bootstrap_sums_ci` has it.

    Raises:
        SampleError: as `bootstrap_sums_ci`.
    """
    design, support = frame.design, frame.support
    with np.errstate(all="ignore"):
        value = float(statistic(design.table.sum(axis=0)))
    if not math.isfinite(value):
        raise SampleError(f"The statistic of all {design.n} items is {value}: there is nothing to measure.")
    if support is not None and not support[0] <= value <= support[1]:
        raise SampleError(f"The statistic must lie in the support {support}; found {value}.")
    near = 0.0 if support is None else nearness(value, support, design.effective_items)
    if len(design.ways) == 2:
        variance = cluster_variances(design, influences(design.table, statistic)[:, None])[0]
        return frame.of_variance(value, float(variance), design.effective_clusters - 1, near=near)

    def column(sums: Floats) -> Floats:
        return np.asarray(statistic(sums), dtype=np.float64)[..., None]

    draws = _resample_sums(design.table, design, column, seed, num_resamples)[1]
    return frame.of_draws(value, draws[:, 0], num_resamples, near=near)


def _weights(ways: Sequence[Codes], seed: int, num_resamples: int) -> Iterator[Codes]:
    """(rows, n) at a time: how often each item is in a resample. Empty ones (clusters that cross) are left out."""
    if num_resamples < 1:
        raise OptionError(f"The bootstrap needs ≥ 1 resample; found {num_resamples}.")
    generators = [np.random.default_rng([seed, i]) for i in range(len(ways))]
    step = max(1, CHUNK // max(len(ways[0]), 1))
    for start in range(0, num_resamples, step):
        rows = min(step, num_resamples - start)
        first, *second = (
            np.take(_counts(int(way.max()) + 1, rows, generator), way, axis=1)
            for way, generator in zip(ways, generators, strict=True)
        )
        for other in second:
            first *= other
            first = first[first.any(axis=1)]
        yield first


def _counts(num_clusters: int, rows: int, generator: np.random.Generator) -> Codes:
    """(rows, G): how often each cluster is drawn in G draws with replacement."""
    drawn = generator.integers(num_clusters, size=(rows, num_clusters))
    drawn += num_clusters * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * num_clusters).reshape(rows, num_clusters)


def _means(sums: Floats) -> Floats:
    return np.asarray(sums[..., :-1] / sums[..., -1:])


def _resample_sums(
    table: Floats, design: Design, statistic: Statistic, seed: int, num_resamples: int
) -> tuple[Floats, Floats]:
    """The statistic (q,) of all items, and (rows, q) of the resamples."""
    ways = design.ways
    if len(ways) == 1:  # whole clusters come and go: their sums are enough
        table = sums_by_cluster(table, ways[0])
        ways = (np.arange(len(table)),)
    draws = []
    with np.errstate(all="ignore"):
        estimates = statistic(table.sum(axis=0))
        for weights in _weights(ways, seed, num_resamples):
            draws.append(statistic(weights @ table))
    return estimates, np.concatenate(draws)


def _resample_medians(design: Design, seed: int, num_resamples: int) -> tuple[Floats, Floats]:
    """The median (m,) of all items, and (rows, m) of the resamples."""
    orders = [np.argsort(column, kind="stable") for column in design.table.T]
    draws = []
    for weights in _weights(design.ways, seed, num_resamples):
        medians = [_medians(design.table[order, j], weights[:, order]) for j, order in enumerate(orders)]
        draws.append(np.column_stack(medians))
    return np.median(design.table, axis=0), np.concatenate(draws)


def _medians(ascending: Floats, weights: Codes) -> Floats:
    """(rows,): medians of values (n,) repeated as often as weights (rows, n) say."""
    ranks = np.cumsum(weights, axis=1)
    total = ranks[:, -1:]
    low, high = (np.sum(ranks < place, axis=1) for place in ((total + 1) // 2, total // 2 + 1))
    return np.asarray((ascending[low] + ascending[high]) / 2)
