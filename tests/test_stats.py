"""Intervals, paired tests and power: by hand, against enumeration and scipy, by simulation."""

import itertools
import math
import os
import statistics
import subprocess
import sys
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
from harness.stats import (
    Interval,
    bootstrap_ci,
    bootstrap_cis,
    bootstrap_sums_ci,
    clustered_se,
    holm,
    join_items,
    minimum_detectable_effect,
    paired_difference,
    paired_differences,
    wilson_ci,
)


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
    """Cluster a holds 1, 1, 1 and b holds 0: the mean of items is 3/4 (that of cluster means would be 1/2)."""
    interval = bootstrap_ci([1, 1, 1, 0], ["a", "a", "a", "b"], seed=0)
    assert (interval.value, interval.n, interval.num_clusters) == (0.75, 4, 2)
    assert interval.effective_clusters == 16 / (9 + 1)


def test_few_clusters_get_a_t_interval():
    """Cluster means 1, 2 and 6, of two items each: mean 3, variance of a cluster mean ((−2)² + (−1)² + 3²) / 3 = 14/3.

    The bootstrap's standard deviation is √(14/3 / 3) = 1.247; √(3/2) makes it 1.528, the usual s / √3. With
    t_{0.975, 2} = 4.303 the interval is 3 ± 6.57, up to the noise of 10,000 resamples.
    """
    interval = bootstrap_ci([1, 1, 2, 2, 6, 6], list("aabbcc"), seed=0)
    assert interval.method == "t"
    assert interval.bounds == pytest.approx((3 - 6.573, 3 + 6.573), abs=0.15)


def test_a_t_interval_stays_in_the_support():
    interval = bootstrap_ci([0.1, 0.5, 0.9], seed=0, support=(0, 1))
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
    assert interval.value == pytest.approx(oracle(values))
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


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_crossed_clusters_multiply(statistic):
    """Three speakers × three stories, one pair missing: the spread of all 27 × 27 pairs of resamples."""
    speakers, stories = list("aaabbbcc"), list("xyzxyzxy")
    values = [1.0, 2.0, 4.0, 0.0, 3.0, 3.5, 7.0, 5.0]
    interval = bootstrap_ci(values, speakers, crossed=stories, seed=3, statistic=statistic)
    oracle = ORACLES[statistic]
    exact = spread(*every_resample(oracle, values, speakers, stories))
    assert interval.num_clusters == 3
    assert width(interval) / 2 == pytest.approx(inflation(interval.effective_clusters) * exact, rel=0.03)


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


@pytest.mark.parametrize("groups", [3, 10])
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
    """Errors 1 of 10, 0 of 5, 3 of 15 words: the rate is 4 / 30; that of a constant rate has no spread."""
    rate = lambda sums: sums[..., 0] / sums[..., 1]  # noqa: E731
    interval = bootstrap_sums_ci([[1, 10], [0, 5], [3, 15]], rate, seed=0)
    assert interval.value == pytest.approx(4 / 30)
    assert (interval.n, interval.num_clusters) == (3, 3)
    constant = bootstrap_sums_ci([[1, 10], [2, 20], [3, 30]], rate, seed=0)
    assert constant.method == "constant"
    assert constant.bounds == pytest.approx((0.1, 0.1))


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


# ------------------------------------------------------------------------------------------------- degenerate


def test_perfect_is_one_but_not_certain():
    """20 items of 20 right: resampling says [1, 1]; Wilson's lower end is 20 / (20 + 1.96²) = 0.8389."""
    interval = bootstrap_ci(np.ones(20), seed=0, support=(0, 1))
    assert (interval.value, interval.method) == (1.0, "wilson")
    assert interval.bounds == pytest.approx((20 / (20 + 1.959964**2), 1.0))


def test_perfect_in_few_clusters_is_less_certain():
    """The same 20 items from 4 speakers are worth 4 trials: 4 / (4 + 1.96²) = 0.5101."""
    interval = bootstrap_ci(np.ones(20), [i % 4 for i in range(20)], seed=0, support=(0, 1))
    assert interval.bounds == pytest.approx((4 / (4 + 1.959964**2), 1.0))


def test_nothing_right_mirrors_all_right():
    zero, one = (bootstrap_ci(np.full(20, v), seed=0, support=(0, 100)) for v in (0, 100))
    assert zero.bounds == pytest.approx([100 - x for x in reversed(ends(one))])


def test_equal_values_that_are_no_extreme_are_constant():
    """A model that ties everything scores exactly chance on every item."""
    interval = bootstrap_ci(np.full(20, 0.1), seed=0, support=(0, 1))
    assert interval.method == "constant"
    assert interval.bounds == pytest.approx((0.1, 0.1))
    assert bootstrap_ci(np.ones(20), seed=0).method == "constant"


def test_a_median_at_the_end_of_its_support_is_constant():
    """Every gold ranks first of 100: the median rank is 1 in every resample, and no share that Wilson could bound."""
    interval = bootstrap_ci(np.ones(20), seed=0, statistic="median", support=(1, 100))
    assert (interval.method, interval.bounds) == ("constant", (1.0, 1.0))


def test_one_cluster_has_no_interval():
    interval = bootstrap_ci([1.0, 2.0, 3.0], ["only"] * 3, seed=0)
    assert (interval.value, interval.bounds, interval.method) == (2.0, None, "none")
    assert bootstrap_ci([1.0] * 100 + [0.0], ["big"] * 100 + ["small"], seed=0).bounds is None


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
        (lambda: wilson_ci(1, 0), "found 1 of 0"),
        (lambda: wilson_ci(3, 2), "found 3 of 2"),
    ],
)
def test_what_an_interval_needs(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_wilson_by_hand():
    """5 of 10, z² = 3.841: middle (0.5 + 0.19207) / 1.38415 = 0.5, half 1.96 / 1.38415 · √(0.025 + 0.0096) = 0.2634."""
    assert wilson_ci(5, 10) == pytest.approx((0.5 - 0.2634, 0.5 + 0.2634), abs=1e-4)


@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_that_of_scipy(n, data, level):
    successes = data.draw(st.integers(0, n))
    theirs = scipy_stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert wilson_ci(successes, n, level=level) == pytest.approx(tuple(theirs), abs=1e-12)


def test_an_interval_is_a_metric():
    interval = bootstrap_ci(np.linspace(0, 1, 50), seed=0)
    metric = interval.metric(higher_is_better=True, chance=0.02)
    assert metric == Metric(interval.value, 50, True, ci95=interval.bounds, chance=0.02)
    with pytest.raises(InputError, match=r"level 0\.9"):
        bootstrap_ci([1.0, 2.0], seed=0, level=0.9).metric(higher_is_better=None)


# ----------------------------------------------------------------------------------------------------- identity

NUMBERS = """
import numpy as np
from harness.stats import bootstrap_ci, minimum_detectable_effect, paired_difference, paired_differences
draw = np.random.default_rng(7)
values, order = draw.random(300), np.arange(300)
if SHUFFLE:
    order = draw.permutation(300)
speakers = np.array([f"s{i % 15}" for i in range(300)])[order].tolist()
stories = np.array([f"t{i // 15}" for i in range(300)])[order].tolist()
values, other = values[order], np.roll(values, 1)[order]
small = dict(seed=1, num_resamples=500)
print([
    bootstrap_ci(values, **small),
    bootstrap_ci(values, speakers, **small),
    bootstrap_ci(values, speakers, crossed=stories, **small),
    bootstrap_ci(values, speakers, statistic="median", **small),
    paired_difference(values, other, **small),
    paired_difference(values, other, speakers, crossed=stories, **small),
    paired_differences(np.column_stack([values - other, values]), speakers, **small),
    minimum_detectable_effect(values - other, speakers, crossed=stories),
])
"""


def numbers(*, shuffle, capsys):
    exec(compile(f"SHUFFLE = {shuffle}\n{NUMBERS}", "numbers", "exec"), {})
    return capsys.readouterr().out


def test_order_of_items_changes_nothing(capsys):
    assert numbers(shuffle=True, capsys=capsys) == numbers(shuffle=False, capsys=capsys)


def test_another_process_gives_the_same_numbers(capsys):
    done = subprocess.run(
        [sys.executable, "-c", f"SHUFFLE = False\n{NUMBERS}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "123"},
    )
    assert done.stdout == numbers(shuffle=False, capsys=capsys)


def test_another_seed_gives_other_bounds_around_the_same_value():
    values = np.random.default_rng(0).random(50)
    one, two = bootstrap_ci(values, seed=1), bootstrap_ci(values, seed=2)
    assert one.value == two.value
    assert one.bounds != two.bounds
    assert one.bounds == pytest.approx(two.bounds, abs=0.01)


@pytest.mark.slow
def test_ten_thousand_resamples_of_two_thousand_items_take_under_a_second_of_cpu():
    values = np.random.default_rng(0).random(2000)
    start = time.process_time()
    bootstrap_ci(values, seed=0)
    assert time.process_time() - start < 1


# ------------------------------------------------------------------------------------------------ paired, power


def test_items_are_joined_by_id():
    ids, a, b = join_items({"x": 1.0, "y": 2.0}, {"y": 20.0, "x": 10.0})
    assert (ids, a.tolist(), b.tolist()) == (["x", "y"], [1, 2], [10, 20])


def test_unequal_items_are_an_error():
    with pytest.raises(InputError, match=r"1 are in the first alone \(x\) and 2 are in the second alone \(y, z\)"):
        join_items({"x": 1.0, "w": 0.0}, {"y": 1.0, "z": 2.0, "w": 0.0})
    with pytest.raises(InputError, match=r"4 are in the first alone \(a, b, c, …\)"):
        join_items(dict.fromkeys("abcd", 1.0), {})
    with pytest.raises(InputError, match="no items to compare"):
        join_items({}, {})
    with pytest.raises(InputError, match=r"shapes \(2,\) and \(3,\)"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0], seed=0)


def test_sign_flips_by_hand():
    """Differences 1, 2, 3: of the 8 sign patterns only +++ and −−− reach |6|, p = 2/8, the least possible."""
    result = paired_difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], seed=0)
    assert (result.difference, result.p_value, result.smallest_p) == (2.0, 0.25, 0.25)


def test_flips_are_of_whole_clusters():
    """Clusters sum to 3 (two items) and −1: |2| is reached by all of 2, 4, −4, −2, p = 1; four lone items have 2^4."""
    a, zeros = [1.0, 2.0, -1.0, 0.0], [0.0] * 4
    assert paired_difference(a, zeros, ["a", "a", "b", "b"], seed=0).p_value == 1.0
    assert paired_difference(a, zeros, seed=0).smallest_p == 2 / 16


def test_identical_runs_differ_by_nothing():
    values = np.random.default_rng(0).random(30)
    result = paired_difference(values, values, seed=0)
    test = (result.difference, result.ci95, result.p_value, result.minimum_detectable_effect)
    assert test == (0.0, (0.0, 0.0), 1.0, None)


def test_swapped_runs_mirror():
    a, b = np.random.default_rng(0).random((2, 40))
    one, two = paired_difference(a, b, seed=0), paired_difference(b, a, seed=0)
    assert one.difference == pytest.approx(-two.difference)
    assert one.p_value == pytest.approx(two.p_value, abs=0.02)
    assert one.minimum_detectable_effect == pytest.approx(two.minimum_detectable_effect)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=8))
def test_exact_p_is_that_of_scipy(differences):
    """For sums symmetric under flips, scipy's doubled smaller tail is the two-sided tail, but for its cap at 1."""
    row = np.array(differences, dtype=float)
    theirs = scipy_stats.permutation_test(
        (row, np.zeros_like(row)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    assert paired_difference(row, np.zeros_like(row), seed=0).p_value == pytest.approx(min(1.0, theirs.pvalue))


def test_random_flips_agree_with_exact_ones():
    """13 clusters are flipped at random, with p = (1 + extreme) / 10,001; enumeration of 2^13 flips is the oracle."""
    row = np.random.default_rng(4).normal(0.4, 1, size=13)
    flips = np.array(list(itertools.product([1, -1], repeat=13))) @ row
    exact = np.mean(np.abs(flips) >= abs(row.sum()) - 1e-9)
    assert paired_difference(row, np.zeros(13), seed=0).p_value == pytest.approx(exact, abs=0.025)


@pytest.mark.parametrize("clusters", [3, 9, 20])
@pytest.mark.parametrize("crossed", [False, True])
def test_many_differences_are_each_what_it_is_alone(clusters, crossed):
    draw = np.random.default_rng(clusters)
    table = draw.normal(0.2, 1, size=(40, 3))
    keys = {"clusters": (np.arange(40) % clusters).tolist(), "crossed": (np.arange(40) // 8).tolist()}
    ways = keys if crossed else {"clusters": keys["clusters"]}
    together = paired_differences(table, seed=5, num_resamples=300, **ways)
    for one, column in zip(together, table.T, strict=True):
        alone = paired_difference(column, np.zeros(40), seed=5, num_resamples=300, **ways)
        assert one.difference == pytest.approx(alone.difference)
        assert one.ci95 == pytest.approx(alone.ci95)
        assert one.minimum_detectable_effect == pytest.approx(alone.minimum_detectable_effect)
        assert (one.p_value, one.smallest_p) == (alone.p_value, alone.smallest_p)


def test_p_is_never_zero():
    result = paired_difference(np.ones(50), np.zeros(50), seed=0)
    assert result.p_value == result.smallest_p == 1 / 10_001


def test_crossed_p_is_the_larger():
    """All differences positive: 8 speakers give 2 / 2^8, but 2 stories cannot go below 2 / 2^2."""
    speakers, stories = [i // 2 for i in range(16)], [i % 2 for i in range(16)]
    a = np.random.default_rng(0).normal(2, 0.1, size=16)
    assert paired_difference(a, np.zeros(16), speakers, seed=0).p_value == 2 / 256
    assert paired_difference(a, np.zeros(16), speakers, seed=0, crossed=stories).p_value == 0.5


def test_p_is_uniform_without_a_difference():
    """9 clusters of 4: p ≤ 0.05 in 5 % of 300 null worlds (± 3.8); a test of items would say so far oftener."""
    draw, clusters = np.random.default_rng(0), np.repeat(np.arange(9), 4)
    small = naive = 0
    for _ in range(300):
        row = draw.normal(size=9)[clusters] + 0.5 * draw.normal(size=36)
        small += paired_difference(row, np.zeros(36), clusters.tolist(), seed=0, num_resamples=20).p_value <= 0.05
        naive += scipy_stats.ttest_1samp(row, 0).pvalue <= 0.05
    assert 0.012 <= small / 300 <= 0.088
    assert naive / 300 > 0.2


def test_clustered_se_by_hand():
    """a holds 1, 1; b holds 0, 0; c holds 1, 0: mean 1/2, sums of deviations 1, −1, 0; √(3/2 · 2) / 6 = 0.2887."""
    assert clustered_se([1, 1, 0, 0, 1, 0], list("aabbcc")) == pytest.approx(math.sqrt(3) / 6)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=30).filter(lambda row: len(set(row)) > 1))
def test_without_clusters_it_is_the_usual_standard_error(row):
    assert clustered_se(row) == pytest.approx(scipy_stats.sem(row))


def test_crossed_se_by_hand():
    """2 × 2 of speakers a, b and stories x, y with values 1, 0 / 0, −1 (mean 0): speakers' sums 1, −1, stories' 1, −1.

    Each way 2 · (1 + 1) / 16 = 1/4; by cell (1 + 1) · 4/3 / 16 = 1/6; 1/4 + 1/4 − 1/6 = 1/3. With values 1, −1 / 0, 0
    (speakers' sums 0, 0, stories' 1, −1): 0 + 1/4 − 1/6 is less than 1/4 alone, so 1/4.
    """
    assert clustered_se([1, 0, 0, -1], list("aabb"), crossed=list("xyxy")) == pytest.approx(math.sqrt(1 / 3))
    assert clustered_se([1, -1, 0, 0], list("aabb"), crossed=list("xyxy")) == pytest.approx(1 / 2)


def test_minimum_detectable_effect_by_hand():
    """Differences 0, 1, 2, 3: s = √(5/3), s / √4 = 0.6455; t_{0.975, 3} + t_{0.8, 3} = 3.1824 + 0.9785; 2.686."""
    assert minimum_detectable_effect([0, 1, 2, 3]) == pytest.approx(0.6455 * (3.1824 + 0.9785), abs=1e-3)


def test_minimum_detectable_effect_is_detected_as_often_as_said():
    """15 clusters of 4, at the true difference said to be found with power 0.8: a t-test finds it in 80 % (± 5)."""
    draw, clusters = np.random.default_rng(0), np.repeat(np.arange(15), 4)
    true_se = math.sqrt((1 + 1 / 4) / 15)
    effect = true_se * (scipy_stats.t.ppf(0.975, 14) + scipy_stats.t.ppf(0.8, 14))
    found, claimed, keys = 0, [], clusters.tolist()
    for _ in range(600):
        row = effect + draw.normal(size=15)[clusters] + draw.normal(size=60)
        found += abs(row.mean()) / clustered_se(row, keys) > scipy_stats.t.ppf(0.975, 14)
        claimed.append(minimum_detectable_effect(row, keys))
    assert found / 600 == pytest.approx(0.8, abs=0.05)
    assert np.mean(claimed) == pytest.approx(effect, rel=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clustered_se([1.0, 2.0], ["a", "a"]), r"2 items in 1 cluster\(s\) show no spread"),
        (lambda: clustered_se([1.0, 1.0, 1.0]), "no spread"),
        (lambda: clustered_se([[1.0, 2.0]]), r"one vector; found the shape \(1, 2\)"),
        (lambda: minimum_detectable_effect([1.0, 2.0], power=80), "found 80 and 0.05"),
    ],
)
def test_what_power_needs(call, message):
    with pytest.raises(InputError, match=message):
        call()


# --------------------------------------------------------------------------------------------------------- holm


def test_holm_by_hand():
    """0.01 · 3 = 0.03; 0.03 · 2 = 0.06; 0.04 · 1 = 0.04, but no less than the one before: 0.06."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert list(holm({"b": 0.04, "a": 0.01})) == ["b", "a"]
    assert holm({}) == {}


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_step_by_step(ps):
    """Corrected p ≤ level exactly where Holm's procedure rejects: walk up while p ≤ level / (those left)."""
    corrected = holm({str(i): p for i, p in enumerate(ps)})
    for level in (0.01, 0.05, 0.5):
        rejected, left = set(), sorted(range(len(ps)), key=lambda i: ps[i])
        while left and ps[left[0]] * len(left) <= level:
            rejected.add(str(left.pop(0)))
        assert {key for key, p in corrected.items() if p <= level} == rejected


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(InputError, match=r"found 1.5 for b"):
        holm({"a": 0.5, "b": 1.5})
