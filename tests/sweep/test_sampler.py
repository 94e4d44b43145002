import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from harness.errors import ConfigError
from harness.sweep.sampler import MixtureSampler
from harness.sweep.simplex import lattice, scheffe_design

PARTS = ("speech", "text", "ast")
SPACE = {part: FloatDistribution(0.0, 1.0) for part in PARTS}
GRID = lattice(3, 10)
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def bowl(w):
    return float(((np.asarray(w) - [0.2, 0.3, 0.5]) ** 2).sum())


def study_with(points, *, kind="gp", seed=0, directions=("minimize",), value=bowl):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=list(directions), sampler=MixtureSampler(PARTS, GRID, kind=kind, seed=seed))
    for w in points:
        values = value(w)
        params = dict(zip(PARTS, map(float, w), strict=True))
        values = list(values) if isinstance(values, tuple) else [values]
        study.add_trial(create_trial(params=params, distributions=SPACE, values=values))
    return study


def asked(study):
    trial = study.ask(SPACE)
    return tuple(round(trial.params[part], 6) for part in PARTS)


@pytest.mark.parametrize("kind", ["gp", "random"])
def test_suggestions_lie_on_the_lattice_and_depend_on_seed_and_history_alone(kind):
    points = GRID[::5]
    first = asked(study_with(points, kind=kind))
    assert np.abs(GRID - first).sum(axis=1).min() < 1e-6
    assert first == asked(study_with(points, kind=kind))
    others = {asked(study_with(points, kind=kind, seed=seed)) for seed in range(1, 6)}
    assert kind == "gp" or len(others) > 1


def test_the_process_goes_where_the_bowl_is_low():
    assert bowl(asked(study_with(GRID[::5]))) < 0.03


def test_higher_is_better_where_the_study_says_so():
    suggestion = asked(study_with(GRID[::5], directions=("maximize",), value=lambda w: -bowl(w)))
    assert suggestion == asked(study_with(GRID[::5]))


def test_mixtures_in_training_are_not_suggested_again():
    study = study_with(GRID[::5])
    assert len({asked(study) for _ in range(4)}) == 4  # asked for and not finished: they run


def test_diverged_trials_repel():
    study = study_with(GRID[::5])
    best = asked(study_with(GRID[::5]))
    around = [w for w in GRID if 0 < np.abs(w - np.array(best)).sum() < 0.41]
    for w in around:
        params = dict(zip(PARTS, map(float, w), strict=True))
        study.add_trial(create_trial(state=TrialState.PRUNED, params=params, distributions=SPACE))
    assert asked(study) != best


def test_several_objectives_are_weighted_anew_for_every_trial():
    def corners(w):
        return float(((w - np.eye(3)[0]) ** 2).sum()), float(((w - np.eye(3)[1]) ** 2).sum())

    study = study_with(GRID[::5], directions=("minimize", "minimize"), value=corners)
    assert len({asked(study) for _ in range(4)}) > 1


def test_given_shares_are_kept():
    study = study_with(GRID[::5])
    study.enqueue_trial({"speech": 0.7, "text": 0.2, "ast": 0.1})
    assert asked(study) == (0.7, 0.2, 0.1)


def test_a_parameter_that_is_no_part_is_refused():
    trial = study_with(GRID[::5]).ask()
    with pytest.raises(ConfigError, match="'depth' is not a part of the mixture speech, text, ast"):
        trial.suggest_float("depth", 0, 1)


def test_a_part_that_nothing_works_without_does_not_blind_the_sampler():
    """Without text the loss is fifty times all else; found is the best trial, which is 0 in the bowl's middle."""
    found = []
    for seed in range(3):
        study = optuna.create_study(sampler=MixtureSampler(PARTS, lattice(3, 20), seed=seed))
        for mixture in scheffe_design(3):
            study.enqueue_trial(dict(zip(PARTS, map(float, mixture), strict=True)))

        def loss(trial):
            w = np.array([trial.suggest_float(part, 0, 1) for part in PARTS])
            return float(((w - [0.1, 0.3, 0.6]) ** 2).sum() + 50 * np.exp(-60 * w[1]))

        study.optimize(loss, n_trials=20)
        found.append(study.best_value)
    assert max(found) < 0.01
