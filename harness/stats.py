"""How sure a number is: clustered bootstrap intervals, paired tests, power."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit  # scipy.stats holds the same, but takes a second to import

from harness.errors import InputError
from harness.results import Metric

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Clusters = Sequence[Hashable]

#: Weights held at once: 8 MB.
_CHUNK = 1_000_000
#: An interval's tail must hold this many resamples, else its end is one lucky draw.
_TAIL = 10
#: Share of resamples that may leave the statistic undefined before the interval is.
_UNDEFINED = 0.01
#: Below this many effective clusters there is no interval.
_FEWEST = 1.5
#: Up to this many clusters a sign-flip test visits all 2^k flips.
_EXACT = 12


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic with its confidence interval.

    Attributes:
        value: the statistic of all items.
        bounds: lower and upper end; None where the data do not determine any.
        n: items.
        num_clusters: clusters; the smaller number of the two where clusters are crossed.
        effective_clusters: equal-sized clusters that would weigh as much, ≤ `num_clusters`. Below about 20, read
            the interval with care.
        method: how the bounds were found. `percentile`: expanded percentiles of the bootstrap distribution. `t`: too
            few clusters for that, so value ± t × standard error. `wilson`: every item at the same end of the range.
            `constant`: every resample gives the same value. `none`: no bounds.
        level: the confidence level of the bounds.
    """

    value: float
    bounds: tuple[float, float] | None
    n: int
    num_clusters: int
    effective_clusters: float
    method: Literal["percentile", "t", "wilson", "constant", "none"]
    level: float

    def metric(self, *, higher_is_better: bool | None, chance: float | None = None) -> Metric:
        """This as a metric of a task.

        Raises:
            InputError: if the level is not 0.95.
        """
        if self.level != 0.95:
            raise InputError(f"Metrics are recorded with 95 % intervals; this one has the level {self.level}.")
        return Metric(self.value, self.n, higher_is_better, ci95=self.bounds, chance=chance)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How two runs differ on the same items.

    Attributes:
        difference: mean of first − second; positive where the first is higher.
        ci95: its 95 % interval; None where the data do not determine any.
        p_value: of the sign-flip test that neither is higher, two-sided, uncorrected (`holm` corrects a family).
        smallest_p: the least p-value that the test can give with so many clusters; above 0.05 it can detect nothing.
        minimal_detectable: `minimal_detectable_difference` of this comparison; None without spread between clusters.
        n: items.
        num_clusters: as `Interval.num_clusters`.
        interval: the interval in full.
    """

    difference: float
    ci95: tuple[float, float] | None
    p_value: float
    smallest_p: float
    minimal_detectable: float | None
    n: int
    num_clusters: int
    interval: Interval


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

    Whole clusters are drawn with replacement, as many as there are, and the statistic is taken over all items drawn,
    so that the mean is a ratio of sums and a large cluster weighs more (Davison & Hinkley 1997, "Bootstrap Methods
    and their Application", section 3.8). Clusters that cross (every speaker reads every story) are both drawn and
    an item weighs the product of its two counts: the pigeonhole bootstrap (Owen 2007, arXiv 0712.1111), whose variance
    errs a little on the wide side.

    The ends are *expanded percentiles*: with G clusters a plain percentile interval is too narrow by √((G − 1) / G) and
    by the normal's quantile in the place of Student's; the tail α/2 becomes Φ(−√(G / (G − 1)) · t_{α/2, G − 1})
    (Hesterberg 2014, arXiv 1411.5279; `ExpandProbs` of his R package resample). That keeps what percentiles are good
    for (they stay in the statistic's range and follow its transformations), where a studentized interval would not and
    BCa, which corrects skewness alone, stays too narrow. G is the effective number of clusters, (Σ n_g)² / Σ n_g²
    (after Kish 1965, "Survey Sampling"). Where that tail is too far out for the resamples (G ≤ 5 at the default level),
    the interval is value ± t_{α/2, G − 1} · √(G / (G − 1)) · the bootstrap's standard deviation (Cameron, Gelbach &
    Miller 2008, Review of Economics and Statistics 90, on why G − 1). Below 1.5 effective clusters there is no
    interval.

    The result depends neither on the order of items nor on the names of clusters beyond their sorted order.

    Args:
        values: (n,), finite.
        clusters: (n,) keys of dependence (speaker, prompt, story), sorted by their `repr`; None where every item
            stands alone.
        seed: of the resampling.
        crossed: (n,) keys of a second kind of dependence that crosses the first.
        num_resamples: bootstrap replicates.
        statistic: of the items, each of equal weight.
        level: confidence level, in (0, 1).
        support: least and greatest value possible, (0, 1) for shares; bounds are clipped to it. If every value lies
            at one end of it, resampling would give an interval of no width; then the other bound of the mean is
            Wilson's for as many trials as there are effective clusters.

    Raises:
        InputError: if there are no values, they are not finite or outside the support, or keys are missing or None.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise InputError(f"bootstrap_ci takes one vector; found the shape {column.shape}. See bootstrap_cis.")
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
        InputError: as `bootstrap_ci`.
    """
    table = _table(values)
    if support is not None and not (support[0] <= table.min() and table.max() <= support[1]):
        raise InputError(f"Values must lie in the support {support}; found {table.min()} to {table.max()}.")
    if statistic not in ("mean", "median"):
        raise InputError(f"There is no statistic '{statistic}'. Known: mean, median.")
    design = _Design.of(table, clusters, crossed)
    if statistic == "mean":
        table = np.column_stack([design.table, np.ones(design.n)])
        estimates, draws = _resample_sums(table, design, _means, seed, num_resamples)
    else:
        estimates, draws = _resample_medians(design, seed, num_resamples)
    return [
        _interval(float(estimates[j]), draws[:, j], design, num_resamples, level, support, share=statistic == "mean")
        for j in range(estimates.size)
    ]


def bootstrap_sums_ci(
    columns: ArrayLike,
    statistic: Callable[[Floats], Floats],
    clusters: Clusters | None = None,
    *,
    seed: int,
    crossed: Clusters | None = None,
    num_resamples: int = 10_000,
    level: float = 0.95,
    support: tuple[float, float] | None = None,
) -> Interval:
    """`bootstrap_ci` of a statistic of sums over items: micro F1 of counts, word error rate, corpus perplexity.

    Args:
        columns: (n, m), what is summed over items (`[tp, gold, predicted]`, `[errors, words]`, …).
        statistic: maps sums (…, m) to values (…,); NaN where it is not defined. Resamples in which it is not are
            left out; if they are over 1 %, there is no interval.
        clusters: as in `bootstrap_ci`, like the rest.
        seed: of the resampling.
        crossed: as in `bootstrap_ci`.
        num_resamples: bootstrap replicates.
        level: confidence level, in (0, 1).
        support: least and greatest value of the statistic.

    Raises:
        InputError: as `bootstrap_ci`, or if the statistic of all items is not finite or outside the support.
    """
    design = _Design.of(_table(columns), clusters, crossed)

    def column(sums: Floats) -> Floats:
        return np.asarray(statistic(sums), dtype=np.float64)[..., None]

    estimates, draws = _resample_sums(design.table, design, column, seed, num_resamples)
    value = float(estimates[0])
    if not math.isfinite(value):
        raise InputError(f"The statistic of all {design.n} items is {value}: there is nothing to measure.")
    if support is not None and not support[0] <= value <= support[1]:
        raise InputError(f"The statistic must lie in the support {support}; found {value}.")
    return _interval(value, draws[:, 0], design, num_resamples, level, support, share=True)


def wilson_ci(successes: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion without clusters, sound at 0 and at `n` (Wilson 1927, JASA 22).

    Args:
        successes: 0 to n; need not be whole.
        n: independent trials (or the effective number of them), > 0.
        level: confidence level, in (0, 1).

    Raises:
        InputError: if there are no trials, or more successes than trials.
    """
    if not (n > 0 and 0 <= successes <= n):
        raise InputError(f"A proportion needs 0 ≤ successes ≤ n and n > 0; found {successes} of {n}.")
    z = float(ndtri((1 + _level(level)) / 2))
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if successes == 0 else middle - half, 1.0 if successes == n else middle + half)


def join_items(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[list[str], Floats, Floats]:
    """The ids of two runs' items, sorted, with the values of each in this order, (n,) and (n,).

    Raises:
        InputError: if either has an item that the other lacks, or both have none.
    """
    only_a, only_b = sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys())
    if only_a or only_b:
        raise InputError(
            "Two runs are compared on the same items, but "
            + " and ".join(
                f"{len(ids)} are in the {which} alone ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"
                for which, ids in (("first", only_a), ("second", only_b))
                if ids
            )
            + ". Run both on the same corpus, split and limit, and look at their failed items."
        )
    if not a:
        raise InputError("There are no items to compare.")
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
        InputError: if the lengths differ, or as `bootstrap_ci`.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(
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
        InputError: as `bootstrap_ci`.
    """
    table = _table(differences)
    intervals = bootstrap_cis(table, clusters, seed=seed, crossed=crossed, num_resamples=num_resamples)
    design = _Design.of(table, clusters, crossed)
    tests = [_sign_flips(sums, seed, num_resamples) for sums in design.sums(design.table)]
    p_values = np.max([p for p, _ in tests], axis=0)
    return [
        PairedDifference(
            difference=interval.value,
            ci95=interval.bounds,
            p_value=float(p),
            smallest_p=max(least for _, least in tests),
            minimal_detectable=None if variance is None else _detectable(variance, design, 0.8, 0.05),
            n=interval.n,
            num_clusters=interval.num_clusters,
            interval=interval,
        )
        for interval, p, variance in zip(intervals, p_values, _variances(design), strict=True)
    ]


def clustered_se(values: ArrayLike, clusters: Clusters | None = None, *, crossed: Clusters | None = None) -> float:
    """Standard error of the mean of items that depend on one another within clusters, > 0.

    √(G / (G − 1) · Σ_g (Σ_{i in g} (x_i − mean))²) / n (Liang & Zeger 1986, Biometrika 73; Miller 2024, arXiv
    2411.00640, of evaluations; the factor G / (G − 1) is for few clusters). Where clusters cross: the two variances
    less that of their intersection (Cameron, Gelbach & Miller 2011, Journal of Business & Economic Statistics 29), or
    the larger of the two where that is larger.

    Args:
        values: (n,), finite.
        clusters: (n,) as in `bootstrap_ci`.
        crossed: (n,) as in `bootstrap_ci`.

    Raises:
        InputError: if there is only one cluster or no spread between clusters, or as `bootstrap_ci`.
    """
    return math.sqrt(_spread(values, clusters, crossed)[0])


def minimal_detectable_difference(
    differences: ArrayLike,
    clusters: Clusters | None = None,
    *,
    crossed: Clusters | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float:
    """The smallest true mean difference that a two-sided test on these items detects with the stated power, > 0.

    (t_{1 − α/2} + t_{power}) × `clustered_se`, with G − 1 degrees of freedom for G effective clusters (Bloom 1995,
    Evaluation Review 19, "Minimum detectable effects"; with the normal's quantiles Miller 2024, arXiv 2411.00640).

    Args:
        differences: (n,) item by item between two runs. The values of one run stand in where there is no second:
            then it is the smallest distance of its mean from a fixed number.
        clusters: (n,) as in `bootstrap_ci`.
        crossed: (n,) as in `bootstrap_ci`.
        power: probability of detecting it, in (0.5, 1).
        alpha: two-sided level of the test, in (0, 1).

    Raises:
        InputError: as `clustered_se`, or if power or alpha are out of range.
    """
    if not (0.5 < power < 1 and 0 < alpha < 1):
        raise InputError(f"Power must lie in (0.5, 1) and alpha in (0, 1); found {power} and {alpha}.")
    variance, design = _spread(differences, clusters, crossed)
    return _detectable(variance, design, power, alpha)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for testing all of them, in the order given (Holm 1979, Scandinavian J. of Statistics 6).

    The i-th smallest of m becomes the largest of (m − j + 1) · p_j over j ≤ i, at most 1: the chance of any false
    discovery in the family stays below the level, whatever their dependence.

    Raises:
        InputError: if a p-value is outside [0, 1].
    """
    for key, p in p_values.items():
        if not 0 <= p <= 1:
            raise InputError(f"A p-value lies in [0, 1]; found {p} for {key}.")
    corrected: dict[str, float] = {}
    largest = 0.0
    for position, key in enumerate(sorted(p_values, key=lambda k: (p_values[k], k))):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[key]))
        corrected[key] = largest
    return {key: corrected[key] for key in p_values}


@dataclass(frozen=True, slots=True)
class _Design:
    """Items in an order of their own, with their clusters.

    Attributes:
        table: (n, m), rows sorted by cluster, then by value.
        ways: one or two vectors (n,) of cluster numbers, 0 to G − 1 in the order of their keys.
    """

    table: Floats
    ways: tuple[Codes, ...]

    @classmethod
    def of(cls, table: Floats, clusters: Clusters | None, crossed: Clusters | None) -> _Design:
        if clusters is None and crossed is not None:
            raise InputError("Crossed clusters need `clusters`, the first kind of dependence, as well.")
        ways = [_codes(keys, len(table)) for keys in (clusters, crossed) if keys is not None]
        order = np.lexsort((*table.T[::-1], *ways[::-1]))
        return cls(table[order], tuple(way[order] for way in ways) or (np.arange(len(table)),))

    @property
    def n(self) -> int:
        return len(self.table)

    @property
    def num_clusters(self) -> int:
        return min(int(way.max()) + 1 for way in self.ways)

    @property
    def effective_clusters(self) -> float:
        return min(float(self.n**2 / np.sum(np.bincount(way).astype(np.float64) ** 2)) for way in self.ways)

    def sums(self, table: Floats) -> list[Floats]:
        """(G, m) for each way."""
        return [_sums(table, way) for way in self.ways]


def _table(values: ArrayLike) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise InputError(f"Statistics need ≥ 1 item and ≥ 1 column; found the shape {table.shape} (items first).")
    bad = np.argwhere(~np.isfinite(table))
    if bad.size:
        row, column = (int(i) for i in bad[0])
        raise InputError(
            f"Values must be finite; item {row} has {table[row, column]}, {len(bad)} such in all. "
            "An item without a score has failed: count it as failed and leave it out."
        )
    return table


def _codes(keys: Clusters, n: int) -> Codes:
    if len(keys) != n:
        raise InputError(f"Every item needs a cluster: found {n} items and {len(keys)} cluster keys.")
    if any(key is None for key in keys):
        raise InputError(
            f"Item {next(i for i, key in enumerate(keys) if key is None)} has the cluster None; items of unknown "
            "origin are no cluster. Give each a key of its own, or no clusters at all."
        )
    number = {key: code for code, key in enumerate(sorted(set(keys), key=repr))}
    return np.array([number[key] for key in keys], dtype=np.int64)


def _sums(table: Floats, way: Codes) -> Floats:
    return np.column_stack([np.bincount(way, weights=column) for column in table.T])


def _weights(ways: Sequence[Codes], seed: int, num_resamples: int) -> Iterator[Codes]:
    """(rows, n) at a time: how often each item is in a resample. Empty ones (clusters that cross) are left out."""
    if num_resamples < 1:
        raise InputError(f"The bootstrap needs ≥ 1 resample; found {num_resamples}.")
    generators = [np.random.default_rng([seed, i]) for i in range(len(ways))]
    step = max(1, _CHUNK // max(len(ways[0]), 1))
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
    table: Floats, design: _Design, statistic: Callable[[Floats], Floats], seed: int, num_resamples: int
) -> tuple[Floats, Floats]:
    """The statistic (q,) of all items, and (rows, q) of the resamples."""
    ways = design.ways
    if len(ways) == 1:  # whole clusters come and go: their sums are enough
        table = _sums(table, ways[0])
        ways = (np.arange(len(table)),)
    draws = []
    with np.errstate(all="ignore"):
        estimates = statistic(table.sum(axis=0))
        for weights in _weights(ways, seed, num_resamples):
            draws.append(statistic(weights @ table))
    return estimates, np.concatenate(draws)


def _resample_medians(design: _Design, seed: int, num_resamples: int) -> tuple[Floats, Floats]:
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


def _interval(
    value: float,
    draws: Floats,
    design: _Design,
    num_resamples: int,
    level: float,
    support: tuple[float, float] | None,
    *,
    share: bool,
) -> Interval:
    tail = (1 - _level(level)) / 2
    effective = design.effective_clusters

    def made(
        method: Literal["percentile", "t", "wilson", "constant", "none"], bounds: tuple[float, float] | None
    ) -> Interval:
        if bounds is not None and support is not None:
            bounds = (max(bounds[0], float(support[0])), min(bounds[1], float(support[1])))
        return Interval(value, bounds, design.n, design.num_clusters, effective, method, level)

    draws = draws[np.isfinite(draws)]
    if effective < _FEWEST or len(draws) < (1 - _UNDEFINED) * num_resamples:
        return made("none", None)
    if np.ptp(draws) <= 1e-12 * max(1.0, abs(value)):
        end = next((end for end in support or () if math.isclose(value, end, abs_tol=1e-12)), None)
        if support is None or end is None or not share:
            return made("constant", (value, value))
        low, high = wilson_ci(effective if end == support[1] else 0, effective, level=level)
        width = support[1] - support[0]
        return made("wilson", (support[0] + width * low, support[0] + width * high))
    inflation = math.sqrt(effective / (effective - 1)) * float(stdtrit(effective - 1, 1 - tail))
    expanded = float(ndtr(-inflation))
    if expanded < max(_TAIL / num_resamples, float(design.num_clusters) ** -design.num_clusters):
        half = inflation * float(np.std(draws))
        return made("t", (value - half, value + half))
    low, high = np.quantile(draws, [expanded, 1 - expanded])
    return made("percentile", (float(low), float(high)))


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"A confidence level lies in (0, 1); found {level}. Write 95 % as 0.95.")
    return level


def _sign_flips(sums: Floats, seed: int, num_flips: int) -> tuple[Floats, float]:
    """Two-sided p-values (m,) that clusters' sums (G, m) are symmetric about 0, and the smallest one possible."""
    clusters = len(sums)
    observed = np.abs(sums.sum(axis=0)) - 1e-9 * np.abs(sums).sum(axis=0)
    if clusters <= _EXACT:
        signs = 1.0 - 2.0 * (np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1)
        return np.asarray(np.mean(np.abs(signs @ sums) >= observed, axis=0)), 2.0 ** (1 - clusters)
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // clusters)
    extreme = np.zeros(sums.shape[1])
    for start in range(0, num_flips, step):
        rows = min(step, num_flips - start)
        signs = 1.0 - 2.0 * generator.integers(2, size=(rows, clusters), dtype=np.int8)
        extreme += np.sum(np.abs(signs @ sums) >= observed, axis=0)
    return (1 + extreme) / (1 + num_flips), 1 / (1 + num_flips)


def _spread(values: ArrayLike, clusters: Clusters | None, crossed: Clusters | None) -> tuple[float, _Design]:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise InputError(f"A standard error is that of one vector; found the shape {column.shape}.")
    design = _Design.of(_table(column[:, None]), clusters, crossed)
    variance = _variance(design)
    if variance is None:
        raise InputError(
            f"{design.n} items in {design.num_clusters} cluster(s) show no spread between clusters: "
            "there is no standard error."
        )
    return variance, design


def _variance(design: _Design) -> float | None:
    """Squared `clustered_se` of the first column; None without spread between two clusters or more."""
    return _variances(design)[0]


def _variances(design: _Design) -> list[float | None]:
    """Squared `clustered_se` of each column; None without spread between two clusters or more."""
    if design.effective_clusters < _FEWEST:
        return [None] * design.table.shape[1]
    centred = design.table - design.table.mean(axis=0)
    one_way = [_one_way(centred, way) for way in design.ways]
    variances = one_way[0]
    if len(design.ways) == 2:
        both = np.unique(design.ways[0] * design.n + design.ways[1], return_inverse=True)[1]
        variances = np.maximum(np.maximum(*one_way), sum(one_way) - _one_way(centred, both))
    scales = np.abs(design.table).max(axis=0)
    return [float(v) if v > (1e-12 * scale) ** 2 else None for v, scale in zip(variances, scales, strict=True)]


def _one_way(centred: Floats, way: Codes) -> Floats:
    sums = _sums(centred, way)
    return np.asarray(np.sum(sums**2, axis=0) * len(sums) / (len(sums) - 1) / len(centred) ** 2)


def _detectable(variance: float, design: _Design, power: float, alpha: float) -> float:
    freedom = design.effective_clusters - 1
    quantiles = float(stdtrit(freedom, 1 - alpha / 2) + stdtrit(freedom, power))
    return quantiles * math.sqrt(variance)
