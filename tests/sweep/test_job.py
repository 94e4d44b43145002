"""Trials that are torchrun jobs: they give what one process gives, and end or wait with their worker."""

import multiprocessing
import os
import signal
import time
from contextlib import closing

import pytest
from filelock import FileLock

from harness.errors import ConfigError, TrialError
from harness.sweep.job import TrialJob, run_job
from harness.sweep.launch import run_local
from harness.sweep.run import start_sweep
from harness.sweep.status import status
from harness.sweep.trial import TrialSpec, run_trial, saved_step, trial_folder
from harness.sweep.worker import Worker
from harness.training.loop import TrainingStep
from harness.training.train import training_data
from tests.toy_sweep import quick_faults, toy_spec

# Two rows a batch, one for each process; validated after every step, so that all of them are heard of.
TRAINING = {"batch_tokens": 512, "eval_every": 1}
TWO = {"settings": {"training": TRAINING}, "tokens": 512 * 20}
UNIFORM = {"speech": 1 / 3, "text": 1 / 3, "ast": 1 / 3}
PATIENCE_S = 240


def started(toy, name, **changes):
    return closing(start_sweep(toy_spec(toy, name=name, trials=1, **{**TWO, **changes}), toy / name, quick_faults()))


def alone(sweep, on_step=None):
    data = training_data(sweep.plan.cards["proxy"])
    return run_trial(
        sweep.plan, TrialSpec(0, 0, UNIFORM, 0, "proxy", "design"), sweep.folder / "alone", data=data, on_step=on_step
    )


def assert_same(result, expected):
    assert (result.steps, result.tokens, result.realized) == (expected.steps, expected.tokens, expected.realized)
    # Sums are rounded in another order, which Adam magnifies where a gradient is next to nothing.
    assert result.losses == pytest.approx(expected.losses, rel=0.02)
    assert result.metrics.keys() == expected.metrics.keys()
    nll = "cra.t2t.gold_nll"
    assert result.metrics[nll].value == pytest.approx(expected.metrics[nll].value, rel=0.02)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(toy):
    with started(toy, "two") as sweep:
        spec = TrialSpec(0, 0, UNIFORM, 0, "proxy", "design")
        seen: list[TrainingStep] = []
        expected: list[TrainingStep] = []
        result = run_job(sweep.folder, spec, TrialJob(2), on_step=seen.append, check=lambda: None)
        assert sorted(p.name for p in trial_folder(sweep.folder, 0).iterdir()) == ["checkpoint-0", "trial.json"]
        assert_same(result, alone(sweep, expected.append))
    assert [step.step for step in seen] == list(range(1, 21))
    first, other = seen[0], expected[0]
    assert (first.loss, first.grad_norm) == pytest.approx((other.loss, other.grad_norm), rel=1e-5)
    assert first.dev == pytest.approx(other.dev, rel=1e-4)


def wait(condition):
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def follow(folder, home):
    """A worker's part in a job."""
    os.environ["HARNESS_HOME"] = home
    spec = TrialSpec(0, 0, UNIFORM, 0, "proxy", "design")
    run_job(folder, spec, TrialJob(2, silence_s=0.5), on_step=lambda step: None, check=lambda: None)


@pytest.mark.slow
def test_a_job_waits_for_a_silent_worker_ends_with_a_dead_one_and_is_taken_up(toy):
    with started(
        toy, "killed", tokens=512 * 200, settings={"training": {"batch_tokens": 512, "eval_every": 20}}
    ) as sweep:
        context = multiprocessing.get_context("spawn")
        worker = context.Process(target=follow, args=(sweep.folder, os.environ["HARNESS_HOME"]))
        worker.start()
        state = trial_folder(sweep.folder, 0) / "state-0"
        wait(lambda: saved_step(state) > 0)
        os.kill(worker.pid, signal.SIGSTOP)
        time.sleep(2)
        stands = saved_step(state)
        time.sleep(2)
        assert saved_step(state) == stands < 200
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        with FileLock(state.with_name("state-0.lock"), timeout=PATIENCE_S):  # its first process held it
            pass
        again = TrialSpec(0, 1, UNIFORM, 0, "proxy", "design")
        seen: list[TrainingStep] = []
        result = run_job(sweep.folder, again, TrialJob(2), on_step=seen.append, check=lambda: None)
        assert result.resumed_from == stands
        assert {step.step for step in seen} == {n for n in range(20, 201, 20) if n > stands}
        assert_same(result, alone(sweep))


@pytest.mark.slow
def test_what_ends_a_job_is_said(toy):
    hot = {"training": {**TRAINING, "learning_rate": 1e30, "warmup_steps": 0}}
    with started(toy, "hot", settings=hot) as sweep:
        Worker(sweep, nproc=2, track=False, say=lambda line: None).run()
        assert "diverged at step" in status(sweep)["pruned"]["0"]
        spec = TrialSpec(7, 0, UNIFORM, 0, "proxy", "design")
        nothing = {"on_step": lambda step: None, "check": lambda: None}
        with pytest.raises(TrialError, match="The job of trial 7 failed: 3 processes cannot share batches of 2"):
            run_job(sweep.folder, spec, TrialJob(3), **nothing)


def test_more_processes_than_gpus_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ConfigError, match="--nproc 3 with --device cuda needs as many GPUs; there are 2"):
        run_local(tmp_path, 1, device="cuda", nproc=3)
