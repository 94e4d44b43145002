"""Bootstrap intervals: by hand, against enumeration and scipy, by simulation."""

import itertools
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.errors import InputError
from harness.results import Metric
from harness.stats import Interval, bootstrap_ci, bootstrap_cis, bootstrap_sums_ci, clopper_pearson_ci, clustered_se


def inflation(groups):
    """What a normal quantile must become: √(G / (G − 1)) · t_{0.975, G − 1}."""
    return math.sqrt(groups / (groups - 1)) * scipy_stats.t.ppf(0.975, groups - 1)


def ends(interval: Interval) -> tuple[float, float]:
    """The bounds of an interval that has some."""
    assert interval.bounds is not None
    return interval.bounds


def width(interval: Interval) -> float:
    low, high = ends(interval)
    return high - low


#: The oracles of the two statistics of items.
ORACLES: dict[Any, Callable[[list[float]], float]] = {"mean": statistics.fmean, "median": statistics.median}


def draws_of(keys):
    """Every way to draw as many keys as there are, with its share of all ordered draws: counts and probability."""
    keys = sorted(set(keys))
    for drawn in itertools.combinations_with_replacement(keys, len(keys)):
        times = Counter(drawn)
        orders = math.factorial(len(keys)) / math.prod(math.factorial(count) for count in times.values())
        yield times, orders / len(keys) ** len(keys)


def every_resample(statistic, values, clusters, crossed=None):
    """The exact distribution of a bootstrapped statistic, as values and probabilities: slow, obvious."""
    found = []
    for times, share in draws_of(clusters):
        for times_too, share_too in draws_of(crossed) if crossed else [({None: 1}, 1.0)]:
            others = crossed or [None] * len(values)
            items = [
                value
                for value, cluster, other in zip(values, clusters, others, strict=True)
                for _ in range(times[cluster] * times_too[other])
            ]
            if items:
                found.append((statistic(items), share * share_too))
    points, shares = np.array(found).T
    return points, shares / shares.sum()


def spread(points, shares):
    """Standard deviation of a discrete distribution."""
    return math.sqrt(np.sum(shares * (points - np.sum(shares * points)) ** 2))


# ---------------------------------------------------------------------------------------------------- intervals


def test_value_is_the_mean_over_items():
    """Cluster a holds 1, 1, 1 and five others hold 0: the mean of items is 3/8 (that of cluster means would be 1/6)."""
    interval = bootstrap_ci([1, 1, 1, 0, 0, 0, 0, 0], list("aaabcdef"), seed=0)
    assert (interval.value, interval.n, interval.num_clusters) == (0.375, 8, 6)
    assert interval.effective_clusters == 64 / (9 + 5)


def test_one_cluster_that_outweighs_five_gets_a_t_interval():
    """Sizes 6 and five of 1: 11² / 41 = 2.95 effective clusters; value ± inflation · the exact spread of 6^6 draws."""
    clusters, values = ["big"] * 6 + list("abcde"), [1.0, 2.0, 1.5, 2.5, 3.0, 2.0, 0.0, 6.0, 1.0, 4.0, 2.0]
    interval = bootstrap_ci(values, clusters, seed=0)
    exact = spread(*every_resample(statistics.fmean, values, clusters))
    assert (interval.method, interval.value) == ("t", pytest.approx(25 / 11))
    assert width(interval) / 2 == pytest.approx(inflation(121 / 41) * exact, rel=0.03)


def test_a_t_interval_stays_in_the_support():
    values, clusters = [0.1, 0.5, 0.9, 0.2, 0.8, 0.4, 0.9, 0.6, 0.9, 0.9, 0.1], ["big"] * 6 + list("abcde")
    interval = bootstrap_ci(values, clusters, seed=0, support=(0, 1))
    assert (interval.method, interval.bounds) == ("t", (0.0, 1.0))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from(["mean", "median"]))
def test_ends_are_those_of_the_exact_distribution(seed, statistic):
    """Seven clusters of 1 to 3 items: all 7^7 = 823,543 resamples, by their 1,716 multisets."""
    draw = np.random.default_rng(seed)
    clusters = [c for c in "abcdefg" for _ in range(draw.integers(1, 4))]
    values = np.round(draw.normal(size=len(clusters)), 2).tolist()
    interval = bootstrap_ci(values, clusters, seed=seed, statistic=statistic)
    oracle = ORACLES[statistic]
    assert (interval.value, interval.given) == (pytest.approx(oracle(values)), ())
    points, shares = every_resample(oracle, values, clusters)
    wide = inflation(interval.effective_clusters)
    low, high = ends(interval)
    if interval.method == "t":
        assert (high - low) / 2 == pytest.approx(wide * spread(points, shares), rel=0.05)
        return
    assert interval.method == "percentile"
    tail = scipy_stats.norm.sf(wide)
    slack = 5 * math.sqrt(tail / 10_000)  # the noise of 10,000 resamples
    assert shares[points < low - 1e-9].sum() - slack <= tail <= shares[points <= low + 1e-9].sum() + slack
    assert shares[points > high + 1e-9].sum() - slack <= tail <= shares[points >= high - 1e-9].sum() + slack


def test_a_mean_over_two_factors_is_t_on_the_two_way_variance():
    """12 voices and 20 associations: value ± t with 11 degrees of freedom × the two-way standard error."""
    draw = np.random.default_rng(0)
    keys = [(i % 12, i // 12) for i in range(240)]
    values = draw.normal(size=240)
    interval = bootstrap_ci(values, keys, seed=0)
    half = scipy_stats.t.ppf(0.975, 11) * clustered_se(values, keys)
    assert (interval.method, interval.num_clusters) == ("t", 12)
    assert interval.bounds == pytest.approx((values.mean() - half, values.mean() + half))
    assert bootstrap_ci(values, [k[0] for k in keys], crossed=[k[1] for k in keys], seed=0) == interval


def test_a_median_over_two_factors_draws_both():
    """Six voices × six associations, five pairs missing: the spread of all 462 × 462 pairs of multisets."""
    kept = [i for i in range(36) if i % 8 != 3]
    voices, associations = [f"v{i // 6}" for i in kept], [f"a{i % 6}" for i in kept]
    values = np.random.default_rng(2).normal(size=len(kept)).round(2).tolist()
    interval = bootstrap_ci(values, voices, crossed=associations, seed=3, statistic="median")
    draw = np.random.default_rng(5)
    medians = []
    for _ in range(4000):
        first, second = (Counter(draw.choice(sorted(set(keys)), size=6)) for keys in (voices, associations))
        items = [v for v, a, b in zip(values, voices, associations, strict=True) for _ in range(first[a] * second[b])]
        if items:
            medians.append(statistics.median(items))
    tail = scipy_stats.norm.sf(inflation(interval.effective_clusters))
    assert interval.method == "percentile"
    assert interval.bounds == pytest.approx(np.quantile(medians, [tail, 1 - tail]), abs=0.25)


def test_a_ratio_over_two_factors_is_linearized():
    """Errors ÷ words: with one word each it is the mean of errors, whose interval it has."""
    keys = [(i % 8, i // 8) for i in range(64)]
    errors = np.random.default_rng(0).integers(0, 3, size=64).astype(float)
    by_sums = bootstrap_sums_ci(np.column_stack([errors, np.ones(64)]), lambda s: s[..., 0] / s[..., 1], keys, seed=0)
    assert by_sums.bounds == pytest.approx(bootstrap_ci(errors, keys, seed=0).bounds)


def test_crossing_widens():
    """Items that depend on speaker and story: accounting for one alone is too sure."""
    draw = np.random.default_rng(0)
    speakers, stories = (grid.ravel().tolist() for grid in np.meshgrid(range(12), range(15)))
    values = draw.normal(size=12)[speakers] + draw.normal(size=15)[stories] + draw.normal(size=180)
    widths = [width(bootstrap_ci(values, speakers, crossed=crossed, seed=0)) for crossed in (None, stories)]
    assert widths[1] > 1.1 * widths[0]


def test_percentiles_agree_with_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=60)
    tail = scipy_stats.norm.sf(inflation(60))
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=1 - 2 * tail, rng=np.random.default_rng(1)
    ).confidence_interval
    interval = bootstrap_ci(values, seed=0)
    assert interval.method == "percentile"
    assert interval.bounds == pytest.approx(tuple(theirs), abs=0.03)


def test_many_items_get_the_normal_interval():
    """1,000 items: 1.96 standard errors either side, within 5 %."""
    values = np.random.default_rng(0).normal(size=1000)
    assert width(bootstrap_ci(values, seed=0)) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(1000), rel=0.05)


@pytest.mark.parametrize("groups", [6, 12])
def test_coverage_of_clustered_items(groups):
    """Clusters of 8 items, intra-class correlation 1/2: 95 % intervals hold the truth in 95 % of 400 worlds (± 3.3)."""
    draw = np.random.default_rng(0)
    clusters = np.repeat(np.arange(groups), 8)
    held = naive = 0
    for world in range(400):
        values = draw.normal(size=groups)[clusters] + draw.normal(size=clusters.size)
        low, high = ends(bootstrap_ci(values, clusters.tolist(), seed=world, num_resamples=2000))
        held += low <= 0 <= high
        naive += abs(values.mean()) <= 1.96 * values.std() / math.sqrt(values.size)
    assert 0.917 <= held / 400 <= 0.983
    assert naive / 400 < 0.75


def test_unequal_clusters_are_ratio_of_sums():
    """Sizes 1 to 20 with a size-dependent mean: the interval is around the mean of items, not of cluster means."""
    clusters = [c for c in range(1, 21) for _ in range(c)]
    values = [c / 20 + 0.1 * (i % 2) for i, c in enumerate(clusters)]
    low, high = ends(bootstrap_ci(values, clusters, seed=0))
    assert low < np.mean(values) < high
    assert low > np.mean([np.mean([v for v, d in zip(values, clusters, strict=True) if d == c]) for c in range(1, 21)])


def test_columns_share_their_resamples():
    table = np.random.default_rng(0).normal(size=(30, 2))
    clusters = [i % 10 for i in range(30)]
    together = bootstrap_cis(np.column_stack([table, table[:, 0] * 2]), clusters, seed=0)
    assert together[2].bounds == pytest.approx([2 * x for x in ends(together[0])])
    assert together[0].bounds == pytest.approx(bootstrap_ci(table[:, 0], clusters, seed=0).bounds)


def test_sums_give_ratios():
    """Errors 1 of 10, 0 of 5, 3 of 15 words: the rate is 4 / 30; a constant one has no spread to go by."""
    rate = lambda sums: sums[..., 0] / sums[..., 1]  # noqa: E731
    interval = bootstrap_sums_ci([[1, 10], [0, 5], [3, 15]], rate, seed=0)
    assert interval.value == pytest.approx(4 / 30)
    assert (interval.n, interval.num_clusters) == (3, 3)
    constant = bootstrap_sums_ci([[1, 10], [2, 20], [3, 30]], rate, seed=0)
    assert (constant.value, constant.bounds, constant.method) == (pytest.approx(0.1), None, "none")


def test_sums_of_values_and_ones_are_the_mean():
    values = np.random.default_rng(0).random(40)
    clusters = [i // 4 for i in range(40)]
    by_sums = bootstrap_sums_ci(
        np.column_stack([values, np.ones(40)]), lambda sums: sums[..., 0] / sums[..., 1], clusters, seed=5
    )
    assert by_sums.bounds == pytest.approx(bootstrap_ci(values, clusters, seed=5).bounds)


def test_a_statistic_often_undefined_has_no_interval():
    """Only one of ten items has words: (9/10)^10 = 35 % of resamples have none."""
    columns = [[1, 2]] + [[0, 0]] * 9
    interval = bootstrap_sums_ci(columns, lambda sums: sums[..., 0] / sums[..., 1], seed=0)
    assert (interval.value, interval.bounds, interval.method) == (0.5, None, "none")
    with pytest.raises(InputError, match="nothing to measure"):
        bootstrap_sums_ci([[0, 0], [0, 0]], lambda sums: sums[..., 0] / sums[..., 1], seed=0)


# ------------------------------------------------------------------------------- near an end, and without spread


def test_perfect_is_one_but_not_certain():
    """20 items of 20 right: resampling says [1, 1]; 0.025^(1/20) = 0.8316."""
    interval = bootstrap_ci(np.ones(20), seed=0, support=(0, 1))
    assert (interval.value, interval.method) == (1.0, "binomial")
    assert interval.bounds == pytest.approx((0.025 ** (1 / 20), 1.0))


def test_a_perfect_score_is_no_less_certain_than_one_with_a_mistake():
    """100 items by 24 speakers. By the bootstrap alone 99 right have [0.970, 1], and 100 right no interval."""
    keys = [i % 24 for i in range(100)]
    found = [
        bootstrap_ci(np.r_[np.zeros(wrong), np.ones(100 - wrong)], keys, seed=0, support=(0, 1)) for wrong in (1, 0)
    ]
    assert ends(found[1])[0] > ends(found[0])[0] + 0.01
    assert ends(found[0])[0] == pytest.approx(clopper_pearson_ci(99 / 100 * 86.4, 86.4)[0], abs=0.001)
    assert bootstrap_ci(np.r_[0, np.ones(99)], keys, seed=0).bounds == pytest.approx((0.970, 1.0), abs=0.002)
    assert bootstrap_ci(np.ones(100), keys, seed=0).bounds is None


def test_bounds_move_with_every_right_item():
    """60 items by 12 speakers, one more right at a time, speaker by speaker and across them.

    Exactly so within 0.15 of the ends; from there to 0.3 the bounds by counting fade away (0.002).
    """
    keys = [i // 5 for i in range(60)]
    for order in (np.arange(60), np.random.default_rng(0).permutation(60)):
        bounds = []
        for right in range(61):
            values = np.zeros(60)
            values[order[:right]] = 1
            interval = bootstrap_ci(values, keys, seed=0, num_resamples=2000, support=(0, 1))
            bounds.append(ends(interval))
        steps = np.diff(bounds, axis=0)
        assert steps.min() >= -0.002
        assert min(steps[:9].min(), steps[51:].min()) >= -1e-12
        assert min(high - low for low, high in bounds) > 0.05


def test_items_that_depend_on_one_another_are_fewer():
    """24 items by 6 speakers, all right: m = 4, worth 24 / (1 + 0.05 · 3) = 20.87 items; 0.025^(1/20.87) = 0.8380."""
    interval = bootstrap_ci(np.ones(24), [i % 6 for i in range(24)], seed=0, support=(0, 1))
    assert interval.bounds == pytest.approx((0.8380, 1.0), abs=1e-4)


def test_nothing_right_mirrors_all_right():
    zero, one = (bootstrap_ci(np.full(20, v), seed=0, support=(0, 100)) for v in (0, 100))
    assert zero.bounds == pytest.approx([100 - x for x in reversed(ends(one))])


def test_items_without_spread_have_an_interval_by_counting_or_none():
    """A model that ties everything scores exactly chance, 2 of 20, on every item: as for 2 of 20 right."""
    interval = bootstrap_ci(np.full(20, 0.1), seed=0, support=(0, 1))
    assert interval.method == "binomial"
    assert interval.bounds == pytest.approx(clopper_pearson_ci(2, 20))
    assert bootstrap_ci(np.ones(20), seed=0).bounds is None


def test_a_median_without_spread_has_no_interval():
    """Every gold ranks first of 100: the median rank is 1 in every resample, and no share that could be counted."""
    interval = bootstrap_ci(np.ones(20), seed=0, statistic="median", support=(1, 100))
    assert (interval.value, interval.bounds, interval.method) == (1.0, None, "none")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16))
def test_no_interval_has_zero_width(seed):
    draw = np.random.default_rng(seed)
    n = int(draw.integers(2, 40))
    values = (draw.random(n) < draw.choice([0.0, 0.03, 0.5, 1.0])).astype(float)
    keys = draw.integers(draw.integers(1, 9), size=n).tolist()
    for clusters in (keys, list(zip(keys, draw.permutation(n) % 7, strict=True)), None):
        for support in ((0.0, 1.0), None):
            bounds = bootstrap_ci(values, clusters, seed=0, num_resamples=200, support=support).bounds
            assert (bounds is None and support is None) or bounds[0] < bounds[1]


def test_two_equal_clusters_say_how_sure_their_items_are():
    """Two speakers with half of ten items right each: no spread between them, but 20 items between 0 and 1."""
    interval = bootstrap_ci([0, 1] * 10, [i // 10 for i in range(20)], seed=0, support=(0, 1))
    assert interval.given == ("voices",)
    assert interval.bounds == bootstrap_ci([0, 1] * 10, seed=0, support=(0, 1)).bounds
    assert width(interval) > 0.3


def test_few_voices_are_given():
    """With 5 speakers the interval is over items, and says so; with 6 over speakers."""
    values = np.random.default_rng(0).random(60)
    five, six = (bootstrap_ci(values, [i % g for i in range(60)], seed=0) for g in (5, 6))
    assert (five.given, five.num_clusters, six.given, six.num_clusters) == (("voices",), 60, (), 6)
    assert five.bounds == bootstrap_ci(values, seed=0).bounds
    assert five.metric(higher_is_better=True).given == ("voices",)


def test_one_cluster_has_an_interval_over_its_items():
    interval = bootstrap_ci([1.0, 2.0, 3.0], ["only"] * 3, seed=0)
    assert (interval.value, interval.given, interval.method) == (2.0, ("voices",), "t")


def test_six_clusters_one_of_which_is_nearly_all_have_no_interval():
    assert bootstrap_ci([1.0, 0.0] * 50 + [0.0] * 5, ["big"] * 100 + list("abcde"), seed=0).bounds is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_ci([], seed=0), "≥ 1 item"),
        (lambda: bootstrap_ci([[1.0]], seed=0), "See bootstrap_cis"),
        (lambda: bootstrap_cis([1.0], seed=0), r"shape \(1,\)"),
        (lambda: bootstrap_ci([1.0, math.nan], seed=0), "item 1 has nan, 1 such"),
        (lambda: bootstrap_ci([1.0, 2.0], ["a"], seed=0), "2 items and 1 cluster keys"),
        (lambda: bootstrap_ci([1.0, 2.0], ["a", None], seed=0), "Item 1 has the cluster None"),
        (lambda: bootstrap_ci([1.0, 2.0], seed=0, crossed=["a", "b"]), "Crossed clusters need"),
        (lambda: bootstrap_ci([0.5, 2.0], seed=0, support=(0, 1)), "found 0.5 to 2.0"),
        (lambda: bootstrap_ci([0.5, 2.0], seed=0, level=95), "Write 95 % as 0.95"),
        (lambda: bootstrap_ci([0.5, 2.0], seed=0, num_resamples=0), "≥ 1 resample"),
        (lambda: bootstrap_ci([0.5, 2.0], seed=0, statistic=cast(Any, "mode")), "no statistic 'mode'"),
        (lambda: bootstrap_sums_ci([[2.0]], lambda s: s[..., 0], seed=0, support=(0, 1)), "found 2.0"),
    ],
)
def test_what_an_interval_needs(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_an_interval_is_a_metric():
    interval = bootstrap_ci(np.linspace(0, 1, 50), seed=0)
    metric = interval.metric(higher_is_better=True, chance=0.02)
    assert metric == Metric(interval.value, 50, True, ci95=interval.bounds, chance=0.02)
    assert bootstrap_ci([0.0, 1.0] * 9, seed=0, support=(0, 1)).metric(higher_is_better=None).support == (0, 1)
    with pytest.raises(InputError, match=r"level 0\.9"):
        bootstrap_ci([1.0, 2.0], seed=0, level=0.9).metric(higher_is_better=None)


@pytest.mark.slow
def test_ten_thousand_resamples_of_two_thousand_items_take_under_a_second_of_cpu():
    values = np.random.default_rng(0).random(2000)
    start = time.process_time()
    bootstrap_ci(values, seed=0)
    assert time.process_time() - start < 1
