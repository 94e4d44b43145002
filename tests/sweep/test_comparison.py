import numpy as np
import pytest

from harness.sweep.comparison import welch


def test_welch_by_hand():
    """Means 2 and 5, variances 1 and 4, 3 seeds each: error √(1/3 + 4/3) = 1.291, t = −2.324.

    Degrees of freedom (5/3)² / ((1/3)²/2 + (4/3)²/2) = 2.941.
    """
    compared = welch(np.array([1.0, 2.0, 3.0]), np.array([3.0, 5.0, 7.0]))
    assert compared.difference == pytest.approx(-3)
    assert compared.p == pytest.approx(0.1045, abs=1e-4)
    assert compared.significant is False
    assert welch(np.array([1.0, 1.01, 1.02]), np.array([3.0, 3.01, 3.03])).significant is True
    assert welch(np.array([1.0, 2.0]), np.array([3.0, 5.0, 7.0])).significant is None
