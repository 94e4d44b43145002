"""Workers whose trials fail, are given away, or lose their database; trainings are replaced by numbers."""

import dataclasses
import multiprocessing
import os
import signal
import time
from contextlib import closing

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from harness.results import Metric
from harness.sweep.lease import LeaseLostError
from harness.sweep.queue import lost_trials, requeue
from harness.sweep.run import start_sweep
from harness.sweep.status import status, trial_results
from harness.sweep.trial import TrialResult, saved_step, trial_folder
from harness.sweep.worker import Worker
from tests.toy_sweep import HELD_AT, READY, hand_made, quick_faults, toy_spec, work_when_ready

KEY = "cra.t2t.gold_nll"
PATIENCE_S = 120
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def result_of(spec, value=1.0):
    metric = Metric(value=value, n=4, higher_is_better=False)
    return TrialResult(
        spec=spec, metrics={KEY: metric}, realized={}, losses={}, steps=1, tokens=1, flops=1.0, train_s=0.0,
        evaluate_s=0.0, peak_memory_bytes=1, resumed_from=0,
    )  # fmt: skip


@pytest.fixture
def runs(monkeypatch):
    """Replaces training: calls what the test puts into the list, one after another, then gives plain results."""
    calls: list = []

    def run(plan, spec, folder, **others):
        return calls.pop(0)(spec) if calls else result_of(spec)

    monkeypatch.setattr("harness.sweep.worker.run_trial", run)
    monkeypatch.setattr("harness.sweep.worker.training_data", lambda *a, **k: None)
    return calls


def worker_of(sweep):
    lines: list[str] = []
    return Worker(sweep, track=False, say=lines.append), lines


def test_a_worker_runs_all_trials_that_wait(runs, tmp_path):
    with closing(hand_made(tmp_path, 3)) as sweep:
        worker, lines = worker_of(sweep)
        assert worker.run() == 3
        assert status(sweep)["states"] == {"COMPLETE": 3}
        assert [t.user_attrs["worker"] for t in sweep.trials] == [worker.name] * 3
    assert lines[:2] == ["trial 0 (design, seed 0): speech 33.3 · text 33.3 · ast 33.3", f"trial 0: {KEY} 1 (0 s)"]


def give_away(sweep):
    """What other workers do with a trial without heartbeats."""
    (running,) = (t for t in sweep.trials if t.state == TrialState.RUNNING)
    sweep.storage.set_trial_state_values(running._trial_id, TrialState.FAIL)
    requeue(sweep, sweep.attempt(running.number))


@pytest.mark.parametrize("ending", ["returns", "lost", "pruned", "error"])
def test_a_trial_that_was_given_to_another_worker_is_left_to_it(ending, runs, tmp_path):
    """However it ends here; the second attempt, which this worker then takes, is the one that counts."""
    errors = {"lost": LeaseLostError(), "pruned": optuna.TrialPruned("worse"), "error": ValueError("too late")}
    with closing(hand_made(tmp_path, 1)) as sweep:

        def given_away(spec):
            give_away(sweep)
            if ending in errors:
                raise errors[ending]
            return result_of(spec, value=9.0)

        runs.append(given_away)
        worker, lines = worker_of(sweep)
        assert worker.run() == 1
        assert [t.state for t in sweep.trials] == [TrialState.FAIL, TrialState.COMPLETE]
        assert sweep.trials[1].values == [1.0]
    assert "trial 0: no heartbeat for too long; another worker has taken the trial over" in lines


def test_an_error_of_a_trial_stops_the_worker_and_the_trial_counts_as_lost(runs, tmp_path):
    def broken(spec):
        raise ValueError("Cannot tell a FAIL trial.")  # Optuna's own words do not make it Optuna's error

    runs.append(broken)
    with closing(hand_made(tmp_path, 2)) as sweep:
        with pytest.raises(ValueError, match="Cannot tell"):
            worker_of(sweep)[0].run()
        assert [t.number for t in lost_trials(sweep)] == [0]
        assert status(sweep)["states"] == {"FAIL": 1, "WAITING": 1}


def test_a_database_that_fails_for_a_moment_is_tried_again(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.sweep.worker._DATABASE_PAUSE_S", 0.0)

    def locked(spec):
        raise sqlalchemy.exc.OperationalError("UPDATE", {}, Exception("database is locked"))

    runs.append(locked)
    with closing(hand_made(tmp_path, 2)) as sweep:
        worker, lines = worker_of(sweep)
        assert worker.run() == 2
        assert status(sweep)["states"] == {"COMPLETE": 2, "FAIL": 1}
    assert any(line.startswith("database: ") and line.endswith("; trying again") for line in lines)


def test_seeds_of_a_repeated_mixture_follow_one_another(runs, tmp_path):
    with closing(hand_made(tmp_path, 1)) as sweep:
        for _ in range(2):
            sweep.study.enqueue_trial(
                dict.fromkeys(("speech", "text", "ast"), 1 / 3), user_attrs={"stage": "adaptive", "size": "proxy"}
            )
        worker_of(sweep)[0].run()
        assert [t.user_attrs["seed"] for t in sweep.trials] == [0, 1, 2]


def test_a_killed_workers_trial_is_resumed_by_another(toy, tmp_path):
    """The first process is killed after a save; the second goes on from there."""
    context = multiprocessing.get_context("spawn")
    first = context.Process(target=work_when_ready, args=(tmp_path, os.environ["HARNESS_HOME"]))
    first.start()
    with closing(start_sweep(toy_spec(toy, trials=1), tmp_path, quick_faults(grace_s=2))) as sweep:
        (tmp_path / READY).touch()
        until = time.monotonic() + PATIENCE_S
        while saved_step(trial_folder(tmp_path, 0) / "state-0") < HELD_AT:
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(first.pid, signal.SIGKILL)
        first.join()
        assert worker_of(sweep)[0].run() == 1
        assert status(sweep)["states"] == {"COMPLETE": 1, "FAIL": 1}
        (result,) = trial_results(sweep)
        assert result.resumed_from == HELD_AT
        assert dataclasses.asdict(result.spec)["attempt"] == 1
