import numpy as np
import pytest

from harness.errors import SweepError
from harness.sweep.acquisition import expected_improvement, scalarize
from harness.sweep.cross_validation import best_surface, cross_validate, mixture_groups
from harness.sweep.gaussian_process import GaussianProcess, fit_gaussian_process
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


def test_a_part_that_nothing_works_without_does_not_hide_the_rest():
    """Without the first part the loss is fifty times what all else differs by: how far is what looks best from it?"""
    grid = lattice(4, 20)

    def steep(w):
        return 3 * ((w - [0.3, 0.3, 0.1, 0.3]) ** 2).sum(axis=1) + 100 * np.exp(-40 * w[:, 0])

    regret = np.zeros(2)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        mixtures = np.vstack([scheffe_design(4), grid[rng.integers(len(grid), size=10)]])
        losses = steep(mixtures) + 0.02 * rng.standard_normal(len(mixtures))
        for i, values in enumerate([LossScale.of(losses).scaled(losses), losses]):
            best = np.argmin(best_surface(mixtures, values)[0].mean(grid))
            regret[i] += steep(grid)[best] - steep(grid).min()
    assert regret[0] < 0.7 * regret[1]


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


@pytest.mark.parametrize(("surface", "name"), [(law, "exponential law"), (bowl, "quadratic")])
def test_cross_validation_chooses_the_family_that_made_the_values(surface, name):
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(DESIGN))
    chosen, table = best_surface(DESIGN, surface(DESIGN) + noise)
    assert chosen.name == name == table[0].family
    assert table[0].r2 > 0.98
    assert [row.rmse for row in table] == sorted(row.rmse for row in table)


def test_families_with_as_many_parameters_as_trials_are_not_asked():
    """With 7 mixtures of 3 parts the quadratic's 6 parameters would leave no error to judge by."""
    few = DESIGN[:7]
    names = {row.family for row in cross_validate(few, bowl(few))}
    assert names == {"gaussian process", "linear", "exponential law"}
    assert "quadratic" in {row.family for row in cross_validate(DESIGN, bowl(DESIGN))}
    assert [row.family for row in cross_validate(DESIGN[:5], bowl(DESIGN[:5]))] == ["gaussian process"]


def test_replicates_are_left_out_together():
    """A family that looks values up in its trials knows every left-out value only if a replicate stays behind."""
    mixtures = np.vstack([DESIGN[:3], DESIGN[:3]])
    seen = []

    def remember(x, y):
        seen.append(len(np.unique(x, axis=0)))
        return fit_linear(x, y)

    cross_validate(mixtures, np.arange(6.0), {"remembering": remember})
    assert seen == [2, 2, 2]
    assert mixture_groups(mixtures).tolist() == [0, 1, 2, 0, 1, 2]


def test_too_few_mixtures_are_refused():
    with pytest.raises(SweepError, match="at least 3 different mixtures; found 2"):
        cross_validate(np.vstack([DESIGN[:2]] * 3), np.arange(6.0))


def test_the_process_has_no_doubt_where_it_was_told_and_much_elsewhere():
    process = GaussianProcess.fit(DESIGN, bowl(DESIGN))
    between = np.array([[0.8, 0.15, 0.05]])
    assert process.deviation(DESIGN).max() < process.deviation(between)[0]
    assert np.allclose(process.mean(DESIGN), bowl(DESIGN), atol=0.05)
    mean, covariance = fit_gaussian_process(DESIGN, bowl(DESIGN)).predict(between)
    assert covariance[0, 0] == pytest.approx(process.deviation(between)[0] ** 2)
    assert mean[0] == pytest.approx(process.mean(between)[0])


def test_draws_scatter_as_the_covariance_says():
    surface = fit_quadratic(DESIGN, bowl(DESIGN) + 0.1 * np.random.default_rng(1).standard_normal(len(DESIGN)))
    points = lattice(3, 4)
    mean, covariance = surface.predict(points)
    draws = surface.draws(points, 4000, seed=3)
    assert np.allclose(draws.mean(axis=0), mean, atol=0.02)
    assert np.allclose(np.cov(draws.T), covariance, atol=0.004)
    assert (draws == surface.draws(points, 4000, seed=3)).all()


def test_a_mixture_in_training_promises_less():
    grid = lattice(3, 10)
    gain = expected_improvement(grid, DESIGN[:6], bowl(DESIGN[:6]), np.empty((0, 3)))
    best = grid[[int(np.argmax(gain))]]
    after = expected_improvement(grid, DESIGN[:6], bowl(DESIGN[:6]), best)
    assert gain.min() >= 0
    assert after[np.argmax(gain)] < 0.5 * gain.max()


def test_scalarizing_keeps_one_objective_and_orders_dominated_trials():
    losses = np.array([[0.0, 0.0], [1.0, 5.0], [0.5, 5.0]])
    assert scalarize(losses[:, :1], rng=np.random.default_rng(0)).tolist() == [0.0, 1.0, 0.5]
    for seed in range(20):
        first, last, middle = scalarize(losses, rng=np.random.default_rng(seed))
        assert first == 0
        assert first < middle < last
