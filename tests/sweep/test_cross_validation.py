import numpy as np
import pytest

from harness.errors import SweepError
from harness.sweep.cross_validation import best_surface, cross_validate, mixture_groups
from harness.sweep.laws import fit_linear
from harness.sweep.simplex import lattice, scheffe_design
from harness.sweep.surface import LossScale

DESIGN = scheffe_design(3)  # 10 points


def law(w):
    return 2 + np.exp(w @ np.array([0.5, -1.0, -2.0]))


def bowl(w):
    return 3 * ((w - [0.2, 0.3, 0.5]) ** 2).sum(axis=1)


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


@pytest.mark.slow
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
