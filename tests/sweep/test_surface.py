import numpy as np
import pytest

from harness.sweep.laws import fit_quadratic
from harness.sweep.simplex import lattice, scheffe_design
from harness.sweep.surface import LossScale

DESIGN = scheffe_design(3)  # 10 points


def bowl(w):
    return 3 * ((w - [0.2, 0.3, 0.5]) ** 2).sum(axis=1)


def test_the_scale_is_straight_near_the_best_and_goes_there_and_back():
    """Best 1, median 3, so that the unit is 2: scaled are log 1, log 1.5, log 2, log 4, log 50."""
    losses = np.array([3.0, 1.0, 2.0, 7.0, 99.0])
    scale = LossScale.of(losses)
    assert (scale.best, scale.unit) == (1.0, 2.0)
    assert np.allclose(scale.scaled(losses), np.log([2, 1, 1.5, 4, 50]))
    assert np.allclose(scale.losses(scale.scaled(losses)), losses)
    assert scale.slope(scale.scaled(np.array([1.0, 7.0]))).tolist() == [2.0, pytest.approx(8.0)]
    assert np.isfinite(scale.scaled(np.array([-1e6]))).all()
    assert LossScale.of(np.array([1.0, 1.0, 1.0, 5.0])).unit == 4.0  # half of the trials are the best
    assert LossScale.of(np.ones(3)).unit == 1.0


def test_draws_scatter_as_the_covariance_says():
    surface = fit_quadratic(DESIGN, bowl(DESIGN) + 0.1 * np.random.default_rng(1).standard_normal(len(DESIGN)))
    points = lattice(3, 4)
    mean, covariance = surface.predict(points)
    draws = surface.draws(points, 4000, seed=3)
    assert np.allclose(draws.mean(axis=0), mean, atol=0.02)
    assert np.allclose(np.cov(draws.T), covariance, atol=0.004)
    assert (draws == surface.draws(points, 4000, seed=3)).all()
