"""Bounds by counting: by hand and against scipy's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.errors import InputError
from harness.stats import clopper_pearson_ci
from harness.stats.binomial import difference_bounds, nearness, nearness_of_items, widened


def test_none_of_twenty_by_hand():
    """The p at which 20 misses have probability 0.025: 1 − 0.025^(1/20) = 0.1684."""
    assert clopper_pearson_ci(0, 20) == pytest.approx((0, 0.1684), abs=1e-4)
    assert clopper_pearson_ci(20, 20) == pytest.approx((1 - 0.1684, 1), abs=1e-4)


@settings(max_examples=30)
@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_it_is_that_of_scipy(n, data, level):
    successes = data.draw(st.integers(0, n))
    theirs = scipy_stats.binomtest(successes, n).proportion_ci(level, method="exact")
    assert clopper_pearson_ci(successes, n, level=level) == pytest.approx(tuple(theirs), abs=1e-9)


@settings(max_examples=30)
@given(st.floats(0, 50), st.floats(0.01, 5))
def test_parts_of_successes_move_it_too(successes, more):
    low, high = clopper_pearson_ci(successes, 60)
    higher = clopper_pearson_ci(successes + more, 60)
    assert higher[0] > low
    assert higher[1] >= high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clopper_pearson_ci(1, 0), "found 1 of 0"),
        (lambda: clopper_pearson_ci(3, 2), "found 3 of 2"),
        (lambda: clopper_pearson_ci(1, 2, level=95), "Write 95 % as 0.95"),
    ],
)
def test_what_a_proportion_needs(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_items_of_0_or_1_are_counted_near_an_end_and_less_and_less_away_from_it():
    """0.15 away fully, at 0.3 no more; half of the way at 0.225. A tie of a half changes nothing."""
    shares = {0: 1.0, 30: 1.0, 45: 0.5, 60: 0.0, 100: 0.0, 140: 0.0, 155: 0.5, 200: 1.0}
    for ones, near in shares.items():
        values = np.r_[np.ones(ones), np.zeros(200 - ones)]
        assert nearness_of_items(values, (0, 1)) == pytest.approx(near)
        assert nearness_of_items(100 * values, (0, 100)) == pytest.approx(near)
    assert nearness_of_items(np.r_[np.ones(190), 0.5 * np.ones(10)], (0, 1)) == 1


def test_others_are_counted_while_few_lie_away_from_the_end():
    """5 of 40 elsewhere: fully; 7.5 would be half; from 10 on not at all, however near the mean is."""
    for away, near in ((0, 1.0), (5, 1.0), (7, 0.6), (10, 0.0), (40, 0.0)):
        assert nearness_of_items(np.r_[np.ones(40 - away), np.full(away, 0.99)], (0, 1)) == pytest.approx(near)
    assert nearness(98.0, (0, 100), 250) == 1.0
    assert nearness(97.0, (0, 100), 250) == pytest.approx(0.5)
    assert nearness(50.0, (0, 100), 250) == 0.0


def test_no_discordant_item_by_hand():
    """100 items that agree: 1 − 0.025^(1/100) = 0.03622 either side."""
    bounds, near = difference_bounds(np.zeros(100), 0, 100, 1.0)
    assert near == 1.0
    assert bounds == pytest.approx((-0.03622, 0.03622), abs=1e-5)


def test_few_discordant_items_say_nothing_of_the_other_side():
    """Three of 100 won and none lost: from minus the bound of none, 0.0362, to that of three, 0.0852, in per cent."""
    bounds, near = difference_bounds(np.r_[100 * np.ones(3), np.zeros(97)], 3, 100, 100.0)
    assert near == 1.0
    assert bounds == pytest.approx((-3.62, 8.52), abs=0.01)


def test_more_of_them_combine_both_bounds_by_hand():
    """Ten won, of [0.0490, 0.1762]; two lost, of [0.0024, 0.0704]: 0.08 − √(0.0510² + 0.0504²) = 0.0083, 0.1582."""
    bounds, near = difference_bounds(np.r_[np.ones(10), -np.ones(2), np.zeros(88)], 12, 100, 1.0)
    won, lost = clopper_pearson_ci(10, 100), clopper_pearson_ci(2, 100)
    assert won + lost == pytest.approx((0.0490, 0.1762, 0.0024, 0.0704), abs=1e-4)
    assert near == 1.0
    assert bounds == pytest.approx((0.0083, 0.1582), abs=1e-4)
    assert bounds[1] == pytest.approx(0.08 + math.hypot(0.1762 - 0.1, 0.02 - 0.0024), abs=1e-4)


def test_items_that_are_not_of_0_or_1_are_not_counted():
    assert difference_bounds(np.random.default_rng(0).random(100), 100, 100, 1.0)[1] == 0.0


def test_widening_goes_as_far_as_it_is_told_and_never_inwards():
    assert widened((0.5, 0.8), (0.4, 0.7), 1.0) == (0.4, 0.8)
    assert widened((0.5, 0.8), (0.4, 0.9), 0.5) == pytest.approx((0.45, 0.85))
    assert widened(None, (0.4, 0.9), 0.0) == (0.4, 0.9)
