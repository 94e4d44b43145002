"""The sign-flip test: by hand, by enumeration, against scipy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.stats.sign_flips import flips_detectable, sign_flips


def p_of(sums, num_flips=10_000):
    """p-value and smallest p of one column."""
    p, least = sign_flips(np.array(sums, dtype=float)[:, None], 0, num_flips)
    return float(p[0]), float(least[0])


def test_by_hand():
    """Sums 1, 2, 3: of the 8 sign patterns only +++ and −−− reach |6|, p = 2/8, the least possible."""
    assert p_of([1, 2, 3]) == (0.25, 0.25)
    assert p_of([3, -1]) == (1.0, 0.5)


def test_clusters_that_do_not_differ_are_no_evidence():
    """Sums 1, 2 and four of 0: |3| in half of the flips, and never in fewer."""
    assert p_of([1, 2, 0, 0, 0, 0]) == (0.5, 0.5)
    assert p_of([0.0] * 6) == (1.0, 1.0)


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
    assert p_of(row)[0] == pytest.approx(min(1.0, theirs.pvalue))


def test_random_flips_agree_with_exact_ones():
    """13 clusters are flipped at random, with p = (1 + extreme) / 10,001; enumeration of 2^13 flips is the oracle."""
    row = np.random.default_rng(4).normal(0.4, 1, size=13)
    flips = np.array(list(itertools.product([1, -1], repeat=13))) @ row
    exact = np.mean(np.abs(flips) >= abs(row.sum()) - 1e-9)
    assert p_of(row)[0] == pytest.approx(exact, abs=0.025)


def test_six_clusters_detect_what_all_of_one_sign_show():
    """P = Φ(λ / √6)⁶ = 0.8 at λ = 4.391; of five clusters p is never below 1/16."""
    assert flips_detectable((1.0,) * 6, 0.8, 0.05) == pytest.approx(math.sqrt(6) * 1.7928, rel=0.03)
    assert flips_detectable((1.0,) * 5, 0.8, 0.05) is None
    assert flips_detectable((4.0,) * 6, 0.8, 0.05) == flips_detectable((1.0,) * 6, 0.8, 0.05)


@pytest.mark.parametrize(
    ("sizes", "alpha"), [((1.0,) * 8, 0.05), ((1.0, 1.0, 2.0, 3.0, 5.0, 5.0, 8.0), 0.05), ((1.0,) * 11, 0.01)]
)
def test_what_is_detectable_is_rejected_as_often_as_said(sizes, alpha):
    """Cluster means of one variance around the difference that is said to be found with power 0.8 (± 5)."""
    weights = np.array(sizes) / sum(sizes)
    effect = flips_detectable(sizes, 0.8, alpha) * math.sqrt(np.sum(weights**2))
    means = effect + np.random.default_rng(3).normal(size=(len(sizes), 2000))
    assert np.mean(sign_flips(means * weights[:, None], 0, 0)[0] <= alpha) == pytest.approx(0.8, abs=0.05)


def test_many_clusters_detect_what_a_t_test_does():
    by_flips, by_t = (flips_detectable((1.0,) * g, 0.8, 0.05) for g in (59, 60))
    assert by_flips == pytest.approx(by_t, rel=0.03)
