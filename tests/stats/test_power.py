"""Standard errors and what tests can detect: by hand, against scipy, by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.errors import InputError
from harness.stats import clustered_se, minimum_detectable_effect, paired_differences
from harness.stats.power import unbiased_sd
from harness.stats.sign_flips import t_detectable


def test_clustered_se_by_hand():
    """Six clusters of two: 1, 1 and 0, 0 and four of 1, 0: mean 1/2, sums of deviations 1, −1, 0 …: √(6/5 · 2) / 12."""
    values, keys = [1, 1, 0, 0] + [1, 0] * 4, [k // 2 for k in range(12)]
    assert clustered_se(values, keys) == pytest.approx(math.sqrt(6 / 5 * 2) / 12)


@settings(max_examples=30)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=30).filter(lambda row: len(set(row)) > 1))
def test_without_clusters_it_is_the_usual_standard_error(row):
    assert clustered_se(row) == pytest.approx(scipy_stats.sem(row))


def test_clusters_too_few_to_speak_of_others_are_left_out():
    values = [1, 1, 0, 0, 1, 0]
    assert clustered_se(values, list("aabbcc")) == clustered_se(values) == pytest.approx(scipy_stats.sem(values))


def test_a_t_test_detects_what_the_noncentral_t_says():
    """By scipy: with 11 degrees of freedom, power 0.8 at the difference found, 0.9 at a larger one."""
    for power in (0.8, 0.9):
        shift = t_detectable(11, power, 0.05)
        assert scipy_stats.nct.sf(scipy_stats.t.ppf(0.975, 11), 11, shift) == pytest.approx(power, abs=1e-6)


def test_the_standard_deviation_is_not_underestimated():
    """With 2 degrees of freedom c₄ = √1 · Γ(1.5) / Γ(1) = 0.8862; with many it is 1."""
    assert unbiased_sd(4.0, 2) == pytest.approx(2 / 0.8862, abs=1e-3)
    assert unbiased_sd(4.0, 10_000) == pytest.approx(2, abs=1e-3)
    draws = np.random.default_rng(0).normal(size=(20_000, 4)).var(axis=1, ddof=1)
    assert np.mean([unbiased_sd(v, 3) for v in draws]) == pytest.approx(1, abs=0.01)


def test_minimum_detectable_effect_by_hand():
    """Six lone items 0 … 5: s / √6 = √3.5 / √6 = 0.7638, c₄ of 5 is 0.9515; all six have one sign with
    Φ(λ / √6)⁶ = 0.8 at λ = √6 · 1.7928 = 4.391: 4.391 · 0.7638 / 0.9515 = 3.52.
    """
    assert math.sqrt(6) * scipy_stats.norm.ppf(0.8 ** (1 / 6)) == pytest.approx(4.391, abs=1e-3)
    assert minimum_detectable_effect([0, 1, 2, 3, 4, 5]) == pytest.approx(3.52, rel=0.03)


def test_of_crossed_clusters_it_is_that_of_the_t_test():
    draw = np.random.default_rng(0)
    keys = [(i % 8, i // 8) for i in range(64)]
    row = draw.normal(size=64)
    expected = t_detectable(7, 0.8, 0.05) * unbiased_sd(clustered_se(row, keys) ** 2, 7)
    assert minimum_detectable_effect(row, keys) == pytest.approx(expected)


@pytest.mark.parametrize("clusters", [6, 7, 15])
def test_minimum_detectable_effect_is_detected_as_often_as_said(clusters):
    """At the difference said to be found with power 0.8, the sign-flip test finds it in 80 % (± 5) of 800 worlds."""
    draw, keys = np.random.default_rng(clusters), np.repeat(np.arange(clusters), 4).tolist()
    noise = draw.normal(size=(clusters, 800))[keys] + draw.normal(size=(4 * clusters, 800))
    effect = np.mean([minimum_detectable_effect(column, keys) for column in noise.T])
    found = paired_differences(noise + effect, keys, seed=0, num_resamples=1000)
    assert np.mean([f.p_value <= 0.05 for f in found]) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clustered_se([1.0, 2.0] * 6, [i // 2 for i in range(12)]), r"in 6 cluster\(s\) show no spread"),
        (lambda: minimum_detectable_effect([1.0, 2.0, 3.0]), "of 3 clusters cannot reject at 0.05"),
        (lambda: minimum_detectable_effect(range(8), alpha=0.005), "of 8 clusters cannot reject at 0.005"),
        (lambda: clustered_se([1.0, 1.0, 1.0]), "no spread"),
        (lambda: clustered_se([[1.0, 2.0]]), r"one vector; found the shape \(1, 2\)"),
        (lambda: minimum_detectable_effect([1.0, 2.0], power=80), "found 80 and 0.05"),
    ],
)
def test_what_power_needs(call, message):
    with pytest.raises(InputError, match=message):
        call()
