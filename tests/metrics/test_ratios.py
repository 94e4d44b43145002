"""Ratios of counts, 0 of 0 among them."""

import numpy as np

from harness.metrics.ratios import ratio


def test_nothing_of_nothing_is_zero():
    """1/4, 0/2, and 0/0, which is 0 by convention."""
    found = ratio(np.array([1, 0, 0]), np.array([4, 2, 0]))
    assert found.dtype == np.float64
    assert found.tolist() == [0.25, 0.0, 0.0]


def test_any_shape_and_numbers_that_are_no_arrays():
    assert ratio(np.array([[1, 2], [3, 0]]), np.array([[2, 2], [4, 0]])).tolist() == [[0.5, 1.0], [0.75, 0.0]]
    assert float(ratio(np.float64(3), np.float64(4))) == 0.75
