"""Paired comparisons: by hand, against scipy, by simulation."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.errors import InputError
from harness.stats import clustered_se, join_items, paired_difference, paired_differences


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


def test_the_test_is_of_whole_clusters():
    """Six clusters of two sum to 3, 3, 3, 3, 3 and −1: |14| or more by 4 of 64 flips, the last one turned or not."""
    a = [1.0, 2.0] * 5 + [-1.0, 0.0]
    found = paired_difference(a, [0.0] * 12, [i // 2 for i in range(12)], seed=0)
    assert (found.test, found.p_value, found.smallest_p) == ("sign-flip", 4 / 64, 2 / 64)
    assert paired_difference(a, [0.0] * 12, seed=0).smallest_p == 2 / 2**11  # one of them is 0, whatever its sign


def test_identical_runs_differ_by_nothing_as_far_as_one_can_tell():
    values = np.random.default_rng(0).random(30)
    result = paired_difference(values, values, seed=0)
    test = (result.difference, result.ci95, result.p_value, result.minimum_detectable_effect)
    assert test == (0.0, None, 1.0, None)
    assert paired_difference(values, values, seed=0, support=(0, 1)).ci95 == pytest.approx((-0.1157, 0.1157), abs=1e-4)


@pytest.mark.parametrize("full", [1.0, 100.0])
def test_two_saturated_runs_may_still_differ(full):
    """100 items that both have right: 1 − 0.025^(1/100) = 0.0362 either side; of five speakers, over items."""
    right = np.full(100, full)
    result = paired_difference(right, right, seed=0)
    assert (result.difference, result.p_value, result.minimum_detectable_effect) == (0.0, 1.0, None)
    assert result.ci95 == pytest.approx((-0.0362 * full, 0.0362 * full), abs=1e-4 * full)


def test_few_items_that_differ_leave_the_sign_open():
    """Five of 100 won, none lost: p = 2 / 2^5 rejects nothing, and the interval holds 0; six do, and it does not."""
    five, six = (paired_difference(np.r_[np.ones(k), np.zeros(100 - k)], np.zeros(100), seed=0) for k in (5, 6))
    assert (five.p_value, five.smallest_p) == (pytest.approx(2 / 2**5, abs=0.01), 2 / 2**5)
    assert five.minimum_detectable_effect is None
    assert five.ci95 == pytest.approx((-0.0362, 0.1128), abs=1e-4)
    assert six.ci95[0] > 0
    assert six.minimum_detectable_effect > 0.05


def test_crossed_clusters_get_a_t_test():
    """p = 2 · P(T₁₁ ≤ −|mean| / two-way standard error)."""
    keys = [(i % 12, i // 12) for i in range(240)]
    row = np.random.default_rng(0).normal(0.1, 1, size=240)
    result = paired_difference(row, np.zeros(240), keys, seed=0)
    expected = 2 * scipy_stats.t.sf(abs(row.mean()) / clustered_se(row, keys), 11)
    assert (result.test, result.smallest_p, result.num_clusters) == ("t", 0.0, 12)
    assert result.p_value == pytest.approx(expected)


def test_a_detectable_effect_is_that_of_the_level_asked_for():
    row = np.random.default_rng(0).normal(size=40)
    usual, corrected = (paired_difference(row, np.zeros(40), seed=0, alpha=a) for a in (0.05, 0.05 / 10))
    assert corrected.minimum_detectable_effect > 1.2 * usual.minimum_detectable_effect
    assert paired_difference(row[:8], np.zeros(8), seed=0, alpha=0.005).minimum_detectable_effect is None


def test_swapped_runs_mirror():
    a, b = np.random.default_rng(0).random((2, 40))
    one, two = paired_difference(a, b, seed=0), paired_difference(b, a, seed=0)
    assert one.difference == pytest.approx(-two.difference)
    assert one.p_value == pytest.approx(two.p_value, abs=0.02)
    assert one.minimum_detectable_effect == pytest.approx(two.minimum_detectable_effect)


@pytest.mark.parametrize("clusters", [7, 9, 20])
@pytest.mark.parametrize("crossed", [False, True])
def test_many_differences_are_each_what_it_is_alone(clusters, crossed):
    draw = np.random.default_rng(clusters)
    table = draw.normal(0.2, 1, size=(40, 3))
    keys = {"clusters": (np.arange(40) % clusters).tolist(), "crossed": (np.arange(40) // 6).tolist()}
    ways = keys if crossed else {"clusters": keys["clusters"]}
    together = paired_differences(table, seed=5, num_resamples=300, **ways)
    for one, column in zip(together, table.T, strict=True):
        alone = paired_difference(column, np.zeros(40), seed=5, num_resamples=300, **ways)
        assert one.difference == pytest.approx(alone.difference)
        assert one.ci95 == pytest.approx(alone.ci95)
        assert one.test == alone.test == ("t" if crossed else "sign-flip")
        assert one.minimum_detectable_effect == pytest.approx(alone.minimum_detectable_effect)
        assert (one.p_value, one.smallest_p) == (pytest.approx(alone.p_value), alone.smallest_p)


def test_p_is_never_zero():
    result = paired_difference(np.ones(50), np.zeros(50), seed=0)
    assert result.p_value == result.smallest_p == 1 / 10_001


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
