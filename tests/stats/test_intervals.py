"""Intervals from draws and from standard errors, and what becomes of their ends."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.errors import OptionError
from harness.stats.binomial import clopper_pearson_ci
from harness.stats.design import Design
from harness.stats.intervals import Frame


def frame(n=40, **more):
    return Frame(Design.of(np.arange(n, dtype=float)[:, None], None), **more)


def test_by_a_standard_error():
    """Value ± 2.262 (t, 9 degrees of freedom) × √0.04."""
    found = frame().of_variance(0.5, 0.04, 9, near=0)
    assert found.bounds == pytest.approx((0.5 - 2.2622 * 0.2, 0.5 + 2.2622 * 0.2), abs=1e-4)
    assert (found.method, found.n, found.given) == ("t", 40, ())
    half = scipy_stats.t.ppf(0.95, 9) * 0.2
    assert frame(level=0.9).of_variance(0.5, 0.04, 9, near=0).bounds == pytest.approx((0.5 - half, 0.5 + half))


def test_by_counting_as_near_as_it_is_to_an_end():
    """Of 40 items, 0.95 of them right: 38 of 40."""
    counted = clopper_pearson_ci(38, 40)
    usual = frame(support=(0, 1)).of_variance(0.95, 1e-6, 39, near=0).bounds
    assert frame(support=(0, 1)).of_variance(0.95, 1e-6, 39, near=1).bounds == pytest.approx(counted)
    half = frame(support=(0, 1)).of_variance(0.95, 1e-6, 39, near=0.5).bounds
    assert half == pytest.approx(np.mean([usual, counted], axis=0))


def test_without_spread_by_counting_or_not_at_all():
    assert frame(support=(0, 1)).of_variance(0.5, 0.0, 39, near=0).bounds == pytest.approx(clopper_pearson_ci(20, 40))
    assert frame().of_variance(0.5, 0.0, 39, near=0).bounds is None
    assert frame(support=(0, 1), is_share=False).of_variance(0.5, 0.0, 39, near=0).bounds is None
    assert frame(support=(0, 1)).of_variance(0.5, 0.1, 0, near=0).bounds is None  # no degree of freedom


def test_resamples_that_are_all_the_same_but_a_few_have_no_spread():
    draws = np.r_[np.ones(3), np.zeros(9_997)]
    assert frame().of_draws(0.0, draws, 10_000, near=0).bounds is None
    assert frame(support=(0, 1)).of_draws(0.0, draws, 10_000, near=0).bounds == pytest.approx((0, 0.0881), abs=1e-4)


def test_bounds_stay_in_the_support():
    assert frame(support=(0, 1)).of_variance(0.5, 4.0, 39, near=0).bounds == (0, 1)


def test_what_is_given_is_said():
    few = Frame(Design.of(np.arange(10.0)[:, None], [i % 2 for i in range(10)]), given=("weights",))
    assert few.of_variance(0.5, 0.1, 9, near=0).given == ("weights", "voices")
    assert few.of_variance(0.5, 0.1, 9, near=0).metric(higher_is_better=True).given == ("weights", "voices")


def test_a_level_is_a_share():
    with pytest.raises(OptionError, match=r"Write 95 % as 0\.95"):
        frame(level=95).of_variance(0.5, 0.1, 9, near=0)
