"""A worker of a sweep: it runs one waiting trial after another until none is left."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

import numpy as np
import optuna
import sqlalchemy
from optuna.study import StudyDirection
from optuna.trial import TrialState

from harness.errors import DatabaseError
from harness.progress import ProgressCallback
from harness.sweep.job import TrialJob, run_job
from harness.sweep.lease import LeaseLostError, LeaseMonitor
from harness.sweep.queue import fail_stale_trials, lost_trials, requeue, same_mixture, trial_number
from harness.sweep.signals import StopSignals, TerminatedError
from harness.sweep.simplex import describe
from harness.sweep.storage import NoWaitingTrialError, quiet
from harness.sweep.study import Sweep
from harness.sweep.tracking import open_trial_logger, result_metrics
from harness.sweep.trial import TrialResult, TrialSpec, run_trial
from harness.tracking.sweeps import TrialLogger
from harness.training.loop import DivergedError, TrainingStep
from harness.training.train import TrainingData, training_data

#: Database errors in a row after which a worker gives up.
_DATABASE_TRIES = 60
#: Seconds between such tries.
_DATABASE_PAUSE_S = 2.0


class Worker:
    """Runs the waiting trials of a sweep.

    Args:
        sweep: opened.
        device: where to train and evaluate.
        track: log every trial to MLflow.
        nproc: processes of a trial; with several, each trial is a torchrun job.
        say: called with a line of text for everything that happens.
    """

    def __init__(
        self,
        sweep: Sweep,
        *,
        device: str = "cpu",
        track: bool = True,
        nproc: int = 1,
        say: Callable[[str], None] = print,
    ) -> None:
        self.sweep, self.device, self.track, self.nproc, self.say = sweep, device, track, nproc, say
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._data: TrainingData | None = None
        #: Number of the attempt that this worker runs, and what its objective raised.
        self._current: int | None = None
        self._raised: BaseException | None = None

    def run(self) -> int:
        """Runs trials until all are done or lost; returns how many this worker finished.

        Raises:
            TerminatedError: on SIGTERM or SIGINT; the current trial has been enqueued again.
            HarnessError: if a trial fails for a reason that concerns every other trial too, or the database does not
                respond.
        """
        finished, failures = 0, 0
        with StopSignals() as signals, quiet():
            self._signals = signals
            while True:
                signals.check()
                try:
                    fail_stale_trials(self.sweep)
                    if self.sweep.count(TrialState.WAITING):
                        finished += self._run_next()
                    elif self.sweep.count(TrialState.RUNNING):
                        self._wait_for_others()
                    else:
                        return finished
                    failures = 0
                except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                    failures += 1
                    if failures == _DATABASE_TRIES:
                        raise DatabaseError(f"The sweep's database does not respond: {error}") from error
                    self.say(f"database: {str(error).splitlines()[0][:100]}; trying again")
                    time.sleep(_DATABASE_PAUSE_S)
                    self._requeue_current()

    def _run_next(self) -> int:
        """Runs one waiting trial; returns 1 if it counts, 0 if another worker has it."""
        self._current = self._raised = None
        try:
            # Study.optimize sends heartbeats; ask and tell would not.
            self.sweep.study.optimize(self._objective, n_trials=1)
        except NoWaitingTrialError:
            return 0
        except TerminatedError:
            self._requeue_current()
            raise
        except (LeaseLostError, ValueError, optuna.exceptions.UpdateFinishedTrialError) as error:
            own = error is self._raised and not isinstance(error, LeaseLostError)
            if own or self._current is None or self.sweep.attempt(self._current).state == TrialState.RUNNING:
                raise
            # Not the trial's own error, and the trial is over: Optuna refuses its end, since another worker has it.
            self.say(f"trial {self._current}: no heartbeat for too long; another worker has taken the trial over")
            return 0
        return 1

    def _wait_for_others(self) -> None:
        """Waits: one of the others' trials may yet have to be taken over."""
        until = time.monotonic() + min(5.0, self.sweep.tracking.sweep.grace_s / 4)
        while time.monotonic() < until:
            self._signals.check()
            time.sleep(0.2)

    def _requeue_current(self) -> None:
        """Enqueues the current trial again, if it failed here and no other process has done so."""
        if self._current is None:
            return
        for trial in lost_trials(self.sweep):
            if trial.number == self._current:
                requeue(self.sweep, trial)
        self._current = None

    def _objective(self, trial: optuna.Trial) -> tuple[float, ...]:
        """What Optuna optimizes: the objectives of one trial."""
        self._current = trial.number
        try:
            result = self._logged(trial, self._trial_spec(trial))
        except BaseException as error:
            self._raised = error
            raise
        trial.set_user_attr("resumed_from", result.resumed_from)
        trial.set_user_attr("tokens", result.tokens)
        return tuple(result.metrics[key].value for key in self.sweep.plan.spec.objectives)

    def _trial_spec(self, trial: optuna.Trial) -> TrialSpec:
        names = self.sweep.plan.spec.names
        mixture: dict[str, float] = {part: trial.suggest_float(part, 0.0, 1.0) for part in names}
        attempt = self.sweep.attempt(trial.number)
        attributes = attempt.user_attrs
        if "seed" not in attributes:
            shares = np.array([mixture[name] for name in names])
            same = same_mixture(self.sweep, shares, ("design", "adaptive", "confirm"))
            number_before = sum(t.number < trial_number(attempt) for t in same)
            seeds = self.sweep.plan.spec.seeds
            seed = seeds[number_before % len(seeds)]
            trial.set_user_attr("seed", seed)
            attributes = {**attributes, "seed": seed}
        trial.set_user_attr("worker", self.name)
        return TrialSpec(
            number=trial_number(attempt),
            attempt=len(attempt.system_attrs.get("retry_history", [])),
            mixture=mixture,
            seed=int(attributes["seed"]),
            size=str(attributes["size"]),
            stage=str(attributes["stage"]),
        )

    def _logged(self, trial: optuna.Trial, spec: TrialSpec) -> TrialResult:
        """Runs a trial and ends its run in MLflow, however the trial ends."""
        log = open_trial_logger(self.sweep, spec) if self.track else None
        try:
            result = self._run(trial, spec, log)
        except DivergedError as error:
            trial.set_user_attr("pruned", str(error))
            if log:
                log.end("FAILED", {"pruned": str(error)})
            raise optuna.TrialPruned(str(error)) from error
        except optuna.TrialPruned as error:
            trial.set_user_attr("pruned", str(error))
            if log:
                log.end("FINISHED", {"pruned": str(error)})
            raise
        except LeaseLostError:
            if log:
                log.abandon()
            raise
        except BaseException as error:
            if log:
                log.end("FAILED" if isinstance(error, Exception) else "KILLED", {})
            raise
        if log:
            log.finish(result.steps, result_metrics(result))
        return result

    def _run(self, trial: optuna.Trial, spec: TrialSpec, log: TrialLogger | None) -> TrialResult:
        sweep, lease = self.sweep, LeaseMonitor(self.sweep, trial.number, self._signals)
        self.say(
            f"trial {spec.number} ({spec.stage}, seed {spec.seed}): "
            f"{describe(list(spec.mixture.values()), list(spec.mixture))}"
        )

        def on_step(step: TrainingStep) -> None:
            lease.check()
            if log and step.dev:  # validations only: a sweep has many trials
                log.log(step.step, {"loss": step.loss, **step.dev})
            if step.dev and step.step < step.steps and sweep.plan.spec.asha:
                self._prune(trial, step, spec)

        if self.nproc > 1:
            job = TrialJob(self.nproc, self.device, silence_s=sweep.tracking.sweep.heartbeat_s)
            result = run_job(sweep.folder, spec, job, on_step=on_step, check=lease.check)
        else:
            check = _checking(lease)
            data = self._training_data(spec.size, check)
            result = run_trial(
                sweep.plan, spec, sweep.folder, data=data, device=self.device, on_step=on_step, progress=check
            )
        lease.check()
        values = ", ".join(f"{key} {result.metrics[key].value:.4g}" for key in sweep.plan.spec.objectives)
        self.say(f"trial {spec.number}: {values} ({result.train_s + result.evaluate_s:.0f} s)")
        return result

    def _training_data(self, size: str, check: ProgressCallback) -> TrainingData:
        """The data, which all trials share, read for the first one."""
        if self._data is None:
            self._data = training_data(self.sweep.plan.cards[size], device=self.device, progress=check)
        return self._data

    def _prune(self, trial: optuna.Trial, step: TrainingStep, spec: TrialSpec) -> None:
        """Successive halving on the mean validation loss over all formats, whatever the mixture."""
        sign = -1.0 if self.sweep.study.direction == StudyDirection.MAXIMIZE else 1.0
        every = self.sweep.plan.training(spec.size).eval_every
        trial.report(sign * float(np.mean(list(step.dev.values()))), step.step // every)
        if trial.should_prune():
            raise optuna.TrialPruned(f"successive halving at step {step.step}")


def _checking(lease: LeaseMonitor) -> ProgressCallback:
    def progress(what: str, done: int, total: int) -> None:
        lease.check()

    return progress
