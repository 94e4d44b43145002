import csv
import dataclasses
import json
import signal
import subprocess
import sys
from contextlib import closing

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from harness.cli.main import main
from harness.errors import ConfigError, SweepError
from harness.sweep.analysis import Optimum, corrected, pareto_front
from harness.sweep.comparison import SeedComparison, welch
from harness.sweep.cross_validation import CrossValidated
from harness.sweep.launch import submit, wait_for
from harness.sweep.laws import fit_linear
from harness.sweep.plan import read_plan
from harness.sweep.queue import enqueue_confirmations
from harness.sweep.run import LaunchOptions, find_optima, report_sweep, run_sweep, start_sweep
from harness.sweep.sampler import MixtureSampler
from harness.sweep.signals import StopSignals, TerminatedError
from harness.sweep.simplex import lattice, scheffe_design
from harness.sweep.status import status, trial_results
from harness.sweep.storage import NoWaitingTrialError, open_storage
from harness.sweep.study import open_sweep
from harness.sweep.surface import LossScale
from harness.sweep.trial import copy_state, read_result, saved_step, take_over, trial_folder
from harness.tracking.config import SweepConfig, load_tracking_config
from tests.toy_sweep import toy_folder, toy_spec

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


# --- the sampler ------------------------------------------------------------------------------------------------------


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
    assert len({asked(study) for _ in range(4)}) == 4  # asked for and never told: they run


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


# --- statistics of a sweep --------------------------------------------------------------------------------------------


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


def test_the_front_of_three_points():
    assert pareto_front(np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 2.0]])) == [0, 1]


@pytest.mark.parametrize(
    ("r2", "rmse", "gain", "words"),
    [
        (0.9, 0.1, (0.5, 0.4, 0.6), "better than uniform on the surface; not confirmed by further seeds"),
        (0.9, 0.1, (0.5, -0.1, 1.1), "cannot be told from uniform"),
        (0.9, 0.6, (0.5, 0.4, 0.6), "cannot be told from uniform: the gain is within the error on left-out mixtures"),
        (0.0, 0.1, (0.5, 0.4, 0.6), "cannot be told from uniform: no surface predicts mixtures it has not seen"),
    ],
)
def test_what_is_said_without_further_seeds(r2, rmse, gain, words):
    surface = fit_linear(np.eye(2), np.array([1.0, 2.0]))
    optimum = Optimum(
        key="x", higher=False, scale=LossScale(1.0, 1.0), surface=surface,
        errors=[CrossValidated("linear", rmse, r2)], optima_by_family={}, mixture=(1.0, 0.0), value=1.0,
        value_ci95=(0.9, 1.1), shares_ci95=((0.0, 1.0), (0.0, 1.0)),
        indifferent=np.array([True]), uniform=1.5, gain=gain[0], gain_ci95=gain[1:], lead=gain[0],
        comparison=SeedComparison(None, None, None, (0, 1)),
    )  # fmt: skip
    assert optimum.verdict == words
    better = dataclasses.replace(optimum, comparison=SeedComparison(-1.0, (-1.5, -0.5), 0.01, (3, 3)))
    assert better.verdict == "better than uniform (p = 0.01, 3+ seeds each)"
    assert dataclasses.replace(better, higher=True).verdict == "worse than uniform (p = 0.01, 3+ seeds each)"
    other = dataclasses.replace(better, comparison=dataclasses.replace(better.comparison, p=0.04))
    told = corrected({"a": better, "b": other, "c": optimum})  # Holm: 2 · 0.01, and 0.04; one was not tested
    assert [told[key].comparison.corrected for key in told] == [0.02, 0.04]
    unsure = corrected({"a": other, "b": other})["b"]
    assert unsure.verdict == "cannot be told from uniform (p = 0.08, 3+ seeds each)"


# --- a trial's state --------------------------------------------------------------------------------------------------


def save(folder, step):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(json.dumps({"step": step}))
    (folder / "model.safetensors").write_text(str(step))


def test_an_attempt_takes_over_the_latest_state_and_leaves_it_where_it_was(tmp_path):
    save(tmp_path / "state-0", 5)
    save(tmp_path / "state-1.old", 7)  # killed between the two renames of a save
    save(tmp_path / "state-1.part", 9)  # half written
    (tmp_path / "state-1.lock").touch()
    taken = take_over(tmp_path, 2)
    assert taken == tmp_path / "state-2"
    assert (saved_step(taken), (taken / "model.safetensors").read_text()) == (7, "7")
    assert saved_step(tmp_path / "state-0") == 5
    save(taken, 8)
    assert saved_step(take_over(tmp_path, 2)) == 8  # its own state comes first


def test_the_first_attempt_starts_afresh(tmp_path):
    assert saved_step(take_over(tmp_path, 0)) == 0


def test_copies_are_whole(tmp_path):
    save(tmp_path / "a", 3)
    copy_state(tmp_path / "a", tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["model.safetensors", "state.json"]


# --- a sweep that is run ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(harness_home, tmp_path_factory):
    return toy_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def own_home(toy):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(toy / "home"))
        yield toy / "home"


@pytest.fixture(scope="module")
def spec(toy):
    sizes = {"small": {}, "large": {"hidden_size": 32}}
    return toy_spec(
        toy,
        objectives=["cra.t2t.gold_nll", "cra.u2t.gold_nll"],
        surfaces=["cra.u2t.pmi.candidate_ce"],
        sizes=sizes,
        confirm=2,
        trials=5,
        tokens=256 * 20,
    )


@pytest.fixture(scope="module")
def swept(toy, spec, own_home):
    lines: list[str] = []
    sweep = run_sweep(spec, toy / "sweep", load_tracking_config(), LaunchOptions(track=False), say=lines.append)
    assert any(line.startswith("trial 0 (design, seed 0): speech 33.3") for line in lines)
    with closing(sweep):
        yield sweep


def test_all_trials_are_done(swept):
    now = status(swept)
    assert now["done"] == now["asked"] == sum(now["states"].values()) == now["states"]["COMPLETE"]
    assert now["lost"] == []
    stages = [o.spec.stage for o in trial_results(swept)]
    assert stages.count("design") == 5
    assert stages.count("transfer") == 5
    assert 3 <= stages.count("confirm") <= 5  # one or two best mixtures with two seeds, uniform with a second one


def test_what_was_trained_is_what_was_asked_for(swept, spec):
    for result in trial_results(swept):
        realized = {part: result.realized.get(part, {"token_share": 0.0})["token_share"] for part in spec.names}
        assert realized == pytest.approx(result.spec.mixture, abs=0.06)
        assert result.steps == 20
        assert result.flops > 6 * 16 * 146 * result.tokens
        assert result.peak_memory_bytes > 10**7
        assert result.metrics["cra.t2t.gold_nll"].value > 0


def test_seeds_of_one_mixture_differ_and_change_the_number(swept, spec):
    uniform = [o for o in trial_results(swept) if set(o.spec.mixture.values()) == {1 / 3} and o.spec.size == "small"]
    assert sorted(o.spec.seed for o in uniform) == [0, 1]
    assert len({o.metrics["cra.t2t.gold_nll"].value for o in uniform}) == 2


def test_the_same_sweep_is_taken_up_and_does_nothing_twice(swept, spec):
    before = len(swept.trials)
    again = run_sweep(spec, swept.folder, load_tracking_config(), LaunchOptions(track=False), say=pytest.fail)
    assert len(again.trials) == before
    again.close()


def test_a_folder_keeps_its_sweep(swept, spec):
    with pytest.raises(ConfigError, match="holds a sweep with another 'tokens': 5120, now 5"):
        start_sweep(dataclasses.replace(spec, tokens=5), swept.folder, load_tracking_config())


def test_finished_trials_keep_weights_and_no_state(swept):
    folder_of_trial = trial_folder(swept.folder, 0)
    assert sorted(p.name for p in folder_of_trial.iterdir()) == ["checkpoint-0", "trial.json"]
    assert read_result(folder_of_trial) == trial_results(swept)[0]


def test_confirmations_are_made_once(swept):
    assert enqueue_confirmations(swept, {key: optimum.mixture for key, optimum in find_optima(swept).items()}) == 0


def test_the_report_says_what_was_found(swept, toy):
    written = report_sweep(swept, toy / "report", track=False)
    assert "## Best mixtures" in written.text
    assert "## Regret of choosing another metric's best mixture" in written.text
    assert "Spearman" in written.text
    for name in ("surface-cra.t2t.gold_nll.png", "pareto.png", "cost.png", "shares.png"):
        assert (written.folder / name).read_bytes().startswith(b"\x89PNG")
        assert f'src="{name}"' in (written.folder / "report.html").read_text()
    assert list(written.summary["optima"]) == ["cra.t2t.gold_nll", "cra.u2t.gold_nll", "cra.u2t.pmi.candidate_ce"]
    for optimum in written.summary["optima"].values():
        assert sum(optimum["mixture"].values()) == pytest.approx(1)
        for part, (low, high) in optimum["shares_ci95"].items():
            assert 0 <= low <= high <= 1, part
        assert optimum["value_ci95"][0] <= optimum["value"] <= optimum["value_ci95"][1]
    regret = written.summary["regret"]
    assert all(cell >= 0 for row in regret.values() for cell in row.values())
    assert all(row[key] == 0 for key, row in regret.items())
    with (written.folder / "ratios.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(trial_results(swept))
    assert sum(float(rows[0][part]) for part in PARTS) == pytest.approx(1)


def test_the_command_line_shows_and_exports(swept, toy, capsys):
    command = [sys.executable, "-m", "harness", "sweep", "status", str(swept.folder), "--json"]
    now = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert now["states"]["COMPLETE"] == len(trial_results(swept))
    assert main(["sweep", "export", str(swept.folder), "--output", str(toy / "tables")]) == 0
    assert capsys.readouterr().out.split() == [str(toy / "tables" / name) for name in ("ratios.csv", "metrics.csv")]


def test_a_training_that_diverges_is_pruned_with_its_reason(toy, own_home):
    hot = toy_spec(toy, name="hot", trials=1, settings={"training": {"learning_rate": 1e30, "warmup_steps": 0}})
    sweep = run_sweep(hot, toy / "hot", load_tracking_config(), LaunchOptions(track=False), say=lambda line: None)
    now = status(sweep)
    sweep.close()
    assert now["states"] == {"PRUNED": 1}
    assert "diverged at step" in now["pruned"]["0"]


def test_successive_halving_stops_the_worse_trials(toy, own_home):
    halved = toy_spec(
        toy, name="halved", trials=5, tokens=256 * 20, asha={"reduction": 2}, settings={"training": {"eval_every": 5}}
    )
    sweep = run_sweep(halved, toy / "halved", load_tracking_config(), LaunchOptions(track=False), say=lambda line: None)
    now = status(sweep)
    sweep.close()
    assert now["states"]["COMPLETE"] + now["states"]["PRUNED"] == 5
    assert all(reason.startswith("successive halving at step") for reason in now["pruned"].values())


@pytest.mark.slow
def test_workers_as_jobs_of_a_cluster(toy, own_home):
    pytest.importorskip("submitit", reason="needs submitit: pip install 'sutlm-harness[cluster]'")
    sweep = start_sweep(toy_spec(toy, name="jobs", trials=2), toy / "jobs", load_tracking_config())
    jobs = submit(sweep.folder, 2, ["timeout_min=10"], track=False, cluster="local")
    wait_for(jobs)
    assert status(sweep)["states"] == {"COMPLETE": 2}
    sweep.close()


def test_a_metric_that_no_task_gives_is_refused_before_any_trial(toy, own_home):
    wrong = toy_spec(toy, name="wrong", objectives=["cra.t2t.gold_nl"])
    with pytest.raises(ConfigError, match=r"'cra\.t2t\.gold_nl' is no metric that its task gives. It gives: cra\.t2t"):
        start_sweep(wrong, toy / "wrong", load_tracking_config())
    assert not (toy / "wrong" / "sweep.json").exists()


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(SweepError, match=r"holds no sweep\.json: no sweep"):
        open_sweep(tmp_path, load_tracking_config())
    with pytest.raises(SweepError, match="no sweep"):
        read_plan(tmp_path)


def test_a_request_to_stop_that_arrives_twice_is_one_request():
    """Ctrl-C in a terminal reaches a worker directly and through its coordinator."""
    with StopSignals() as signals:
        signals.check()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(TerminatedError):
            signals.check()


def test_a_worker_only_takes_what_waits(tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}"
    optuna.create_study(study_name="x", storage=open_storage(url, SweepConfig(), create=True))
    study = optuna.load_study(study_name="x", storage=open_storage(url, SweepConfig()))
    with pytest.raises(NoWaitingTrialError):
        study.optimize(lambda trial: 0.0, n_trials=1)
    assert study.trials == []
