import numpy as np
import pytest

from harness.sweep.laws import fit_exponential_law, fit_linear, fit_quadratic
from harness.sweep.simplex import lattice, scheffe_design
from harness.sweep.surface import LossScale

DESIGN = scheffe_design(3)  # 10 points


def law(w):
    return 2 + np.exp(w @ np.array([0.5, -1.0, -2.0]))


def bowl(w):
    return 3 * ((w - [0.2, 0.3, 0.5]) ** 2).sum(axis=1)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_law_is_found_again(sign):
    scale, grid = LossScale.of(sign * law(DESIGN)), lattice(3, 10)
    surface = fit_exponential_law(DESIGN, scale.scaled(sign * law(DESIGN)))
    assert np.allclose(scale.losses(surface.mean(grid)), sign * law(grid), atol=1e-3)
    if sign > 0:
        assert surface.formula(scale) == "2 + exp(+0.5 -1 -2 · w)"


def test_the_law_is_fitted_and_doubted_on_the_scale():
    """Noise of one size on the scale: how far fits scatter there is what they say, also where the loss is 100 times up.

    One loss of 150 that is a third too high moves the fit of the small ones as little as the scale says.
    """
    design, scale = np.vstack([DESIGN, lattice(3, 4)]), LossScale(2.0, 1.0)

    def steep(w):
        return 2 + np.exp(w @ np.array([5.0, -1.0, -2.0]))

    rng, far = np.random.default_rng(0), np.eye(3)[:1]
    clean = scale.scaled(steep(design))
    fits = [fit_exponential_law(design, clean + 0.05 * rng.standard_normal(len(clean))).predict(far) for _ in range(40)]
    means, deviations = np.array([m[0] for m, _ in fits]), np.sqrt([c[0, 0] for _, c in fits])
    assert 0.5 < means.std() / deviations.mean() < 2
    raised = np.where(design[:, 0] == 1, 1.3, 1.0) * steep(design)
    low = lattice(3, 8)[lattice(3, 8)[:, 0] < 0.3]
    error = scale.losses(fit_exponential_law(design, scale.scaled(raised)).mean(low)) - steep(low)
    assert np.abs(error).max() < 0.2


def test_the_quadratic_is_exact_on_a_quadratic_and_the_linear_is_not():
    grid = lattice(3, 10)
    assert np.allclose(fit_quadratic(DESIGN, bowl(DESIGN)).mean(grid), bowl(grid), atol=1e-4)
    assert np.abs(fit_linear(DESIGN, bowl(DESIGN)).mean(grid) - bowl(grid)).max() > 0.3


def test_a_linear_fit_by_hand():
    """Two replicates at each vertex: coefficients are their means, 1.5 and 3; variance (4 · 0.25) / (4 − 2) = 0.5."""
    mixtures, values = np.array([[1, 0], [1, 0], [0, 1], [0, 1.0]]), np.array([1.0, 2.0, 2.5, 3.5])
    surface = fit_linear(mixtures, values)
    mean, covariance = surface.predict(np.array([[1, 0], [0.5, 0.5]]))
    assert np.allclose(mean, [1.5, 2.25], atol=1e-5)
    assert np.allclose(covariance, [[0.25, 0.125], [0.125, 0.125]], atol=1e-5)
    assert surface.noise == pytest.approx(np.sqrt(0.5), abs=1e-5)
