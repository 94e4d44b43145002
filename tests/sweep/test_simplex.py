import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.sweep.simplex import (
    Repetition,
    describe,
    distinct,
    fill,
    from_lower_bounds,
    lattice,
    scheffe_design,
    within,
)


@given(st.integers(1, 5), st.integers(1, 6))
def test_a_lattice_has_every_mixture_of_its_steps_once(k, degree):
    points = lattice(k, degree)
    assert len(points) == math.comb(degree + k - 1, k - 1) == len(np.unique(points, axis=0))
    assert np.allclose(points.sum(axis=1), 1)
    assert np.allclose(points * degree, np.round(points * degree))
    assert points.min() >= 0


def test_the_lattice_of_three_parts_and_two_steps():
    expected = [[0, 0, 1], [0, 0.5, 0.5], [0, 1, 0], [0.5, 0, 0.5], [0.5, 0.5, 0], [1, 0, 0]]
    assert lattice(3, 2).tolist() == expected


def test_a_lattice_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="at least one part and a degree of 1; found 3 and 0"):
        lattice(3, 0)


def test_the_design_of_four_parts_has_fifteen_points_uniform_and_vertices_first():
    """Uniform, 4 vertices, 6 middles of edges, 4 half-way points (5/8, 1/8, 1/8, 1/8)."""
    design = scheffe_design(4)
    assert len(design) == 15
    assert design[0].tolist() == [0.25] * 4
    assert design[1:5].tolist() == np.eye(4).tolist()
    assert sorted(design[5:11].max(axis=1)) == [0.5] * 6
    assert design[11].tolist() == [0.625, 0.125, 0.125, 0.125]


def test_the_design_of_two_parts_names_the_middle_once():
    assert scheffe_design(2).tolist() == [[0.5, 0.5], [1, 0], [0, 1], [0.75, 0.25], [0.25, 0.75]]


def test_lower_bounds_shrink_the_simplex():
    points = from_lower_bounds(np.eye(3), [0.1, 0.2, 0.0])
    assert np.allclose(points, [[0.8, 0.2, 0], [0.1, 0.9, 0], [0.1, 0.2, 0.7]])
    with pytest.raises(ConfigError, match="they must sum to less than 1"):
        from_lower_bounds(np.eye(2), [0.5, 0.5])


def test_upper_bounds_leave_points_out():
    assert within(lattice(2, 2), [0.5, 1]).tolist() == [True, True, False]


def test_epochs_by_tokens_and_by_samples():
    """Two parts, 10 utterances each: one pass is 100 and 300 tokens, 1000 tokens are trained, half and half.

    By tokens: 500 / 100 = 5 and 500 / 300 = 1.67 passes. By samples a pair of sequences takes 10 + 30 tokens, so that
    25 of each are drawn: 2.5 passes of both.
    """
    half = np.array([[0.5, 0.5]])
    by_tokens = Repetition((100.0, 300.0), (10, 10), 1000.0, "tokens", 4.0)
    by_samples = Repetition((100.0, 300.0), (10, 10), 1000.0, "samples", 4.0)
    assert np.allclose(by_tokens.epochs(half), [[5, 5 / 3]])
    assert np.allclose(by_samples.epochs(half), [[2.5, 2.5]])
    assert not by_tokens.allows(half)[0]
    assert by_samples.allows(half)[0]


def test_filling_takes_the_farthest_candidate_first():
    filled = fill(np.array([[1.0, 0.0]]), lattice(2, 4), 3)
    assert filled.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert len(fill(lattice(2, 4), lattice(2, 4), 99)) == 5  # no more than there are


def test_distinct_keeps_the_order():
    assert distinct(np.array([[0, 1], [1, 0], [0, 1.0]])).tolist() == [[0, 1], [1, 0]]


def test_a_mixture_in_words_leaves_out_parts_without_a_share():
    assert describe([0.25, 0.0, 0.75], ("speech", "text", "ast")) == "speech 25 · ast 75"
