"""A worker: takes trials one after another until none is left to do."""

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

from harness.config import build
from harness.errors import HarnessError
from harness.sweep.job import Job, run_job
from harness.sweep.plan import Progress
from harness.sweep.queue import fail_silent, lost, origin, requeue, same_mixture
from harness.sweep.signals import StopSignals, TerminatedError
from harness.sweep.simplex import describe
from harness.sweep.storage import NothingWaitsError, quiet
from harness.sweep.study import Sweep
from harness.sweep.tracking import open_trial_logger, outcome_metrics
from harness.sweep.trial import Ask, Outcome, run_trial
from harness.tracking.sweeps import TrialLogger
from harness.training.loop import DivergedError, Step
from harness.training.recipe import TrainingConfig
from harness.training.train import TrainingData, training_data

_DATABASE_TRIES = 60


class LeaseLostError(Exception):
    """This process was silent for so long that its trial was given to another."""


class _Leash:
    """Asks now and then, from within a trial, whether it still belongs to this process and may go on."""

    def __init__(self, sweep: Sweep, trial: optuna.Trial, signals: StopSignals) -> None:
        self._sweep, self._trial, self._signals = sweep, trial, signals
        self._every = sweep.tracking.sweep.heartbeat_s
        self._asked = time.monotonic()

    def check(self) -> None:
        """Raises `TerminatedError` on a signal, `LeaseLostError` if the trial was given to another."""
        self._signals.check()
        if time.monotonic() - self._asked >= self._every:
            self._asked = time.monotonic()
            # Past Optuna's cache, which only this process's own writes refresh.
            if self._sweep.study._storage.get_trial(self._trial._trial_id).state != TrialState.RUNNING:
                raise LeaseLostError


class Worker:
    """Takes trials until none is left to do.

    Args:
        sweep: opened.
        device: where to train and evaluate.
        track: log every trial to MLflow.
        nproc: processes of a trial; with several, each trial is a torchrun job of its own.
        say: told what happens, in lines.
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
        self._current: int | None = None

    def run(self) -> int:
        """Works until all trials are done or lost; returns how many this worker finished.

        Raises:
            TerminatedError: on SIGTERM or SIGINT; the trial in hand was enqueued again.
            HarnessError: if a trial fails for a reason that would meet every other too.
        """
        finished, troubles = 0, 0
        with StopSignals() as signals, quiet():
            self._signals = signals
            while True:
                signals.check()
                try:
                    fail_silent(self.sweep)
                    if self.sweep.count(TrialState.WAITING):
                        finished += self._one()
                    elif self.sweep.count(TrialState.RUNNING):
                        self._idle()
                    else:
                        return finished
                    troubles = 0
                except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                    troubles += 1
                    if troubles == _DATABASE_TRIES:
                        raise HarnessError(f"The sweep's database does not answer: {error}") from error
                    self.say(f"database: {str(error).splitlines()[0][:100]}; trying again")
                    time.sleep(2)
                    self._give_back()

    def _one(self) -> int:
        """Takes one trial and runs it; 1 if it counts."""
        self._current = None
        try:
            # Not ask and tell, which give no sign of life.
            self.sweep.study.optimize(self._objective, n_trials=1)
        except NothingWaitsError:
            return 0
        except LeaseLostError:
            self.say(f"trial {self._current}: this worker was silent too long, another has taken it over")
            return 0
        except TerminatedError:
            self._give_back()
            raise
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError) as error:
            # Optuna's words for a trial that was failed, and taken over, while it ran here.
            if isinstance(error, ValueError) and "Cannot tell" not in str(error):
                raise
            self.say(f"trial {self._current}: this worker was silent too long, another has taken it over")
            return 0
        return 1

    def _idle(self) -> None:
        """Waits for the others: one of their trials may yet have to be taken over."""
        until = time.monotonic() + min(5.0, self.sweep.tracking.sweep.grace_s / 4)
        while time.monotonic() < until:
            self._signals.check()
            time.sleep(0.2)

    def _give_back(self) -> None:
        """Enqueues the trial in hand again, if it failed here and nobody else has."""
        if self._current is None:
            return
        for trial in lost(self.sweep):
            if trial.number == self._current:
                requeue(self.sweep, trial)
        self._current = None

    def _objective(self, trial: optuna.Trial) -> tuple[float, ...]:
        spec = self.sweep.plan.spec
        self._current = trial.number
        mixture: dict[str, float] = {part: trial.suggest_float(part, 0.0, 1.0) for part in spec.names}
        ask = self._ask(trial, mixture)
        trial.set_user_attr("worker", self.name)
        leash = _Leash(self.sweep, trial, self._signals)
        log = open_trial_logger(self.sweep, ask) if self.track else None
        try:
            outcome = self._train(trial, ask, leash, log)
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
        trial.set_user_attr("resumed_from", outcome.resumed_from)
        trial.set_user_attr("tokens", outcome.tokens)
        if log:
            log.finish(outcome.steps, outcome_metrics(outcome))
        return tuple(outcome.metrics[key].value for key in spec.objectives)

    def _ask(self, trial: optuna.Trial, mixture: dict[str, float]) -> Ask:
        frozen = trial.storage.get_trial(trial._trial_id)
        attributes = frozen.user_attrs
        if "seed" not in attributes:
            shares = np.array([mixture[name] for name in self.sweep.plan.spec.names])
            earlier = [
                t
                for t in same_mixture(self.sweep, shares, ("design", "adaptive", "confirm"))
                if t.number < origin(frozen)
            ]
            seeds = self.sweep.plan.spec.seeds
            trial.set_user_attr("seed", seeds[len(earlier) % len(seeds)])
            attributes = {**attributes, "seed": seeds[len(earlier) % len(seeds)]}
        return Ask(
            number=origin(frozen),
            attempt=len(frozen.system_attrs.get("retry_history", [])),
            mixture=mixture,
            seed=int(attributes["seed"]),
            size=str(attributes["size"]),
            stage=str(attributes["stage"]),
        )

    def _train(self, trial: optuna.Trial, ask: Ask, leash: _Leash, log: TrialLogger | None) -> Outcome:
        sweep, shown = self.sweep, describe(list(ask.mixture.values()), list(ask.mixture))
        self.say(f"trial {ask.number} ({ask.stage}, seed {ask.seed}): {shown}")

        def on_step(step: Step) -> None:
            leash.check()
            if log and step.dev:  # validations only: a sweep has many trials
                log.log(step.step, {"loss": step.loss, **step.dev})
            if step.dev and step.step < step.steps and sweep.plan.spec.asha:
                self._halve(trial, step, ask)

        if self.nproc > 1:
            job = Job(self.nproc, self.device, silence_s=sweep.tracking.sweep.heartbeat_s)
            outcome = run_job(sweep.folder, ask, job, on_step=on_step, check=leash.check)
        else:
            check = self._check(leash)
            if self._data is None:
                self._data = training_data(sweep.plan.cards[ask.size], device=self.device, progress=check)
            outcome = run_trial(
                sweep.plan, ask, sweep.folder, data=self._data, device=self.device, on_step=on_step, progress=check
            )
        leash.check()
        values = ", ".join(f"{key} {outcome.metrics[key].value:.4g}" for key in sweep.plan.spec.objectives)
        self.say(f"trial {ask.number}: {values} ({outcome.train_s + outcome.evaluate_s:.0f} s)")
        return outcome

    def _check(self, leash: _Leash) -> Progress:
        def progress(what: str, done: int, total: int) -> None:
            leash.check()

        return progress

    def _halve(self, trial: optuna.Trial, step: Step, ask: Ask) -> None:
        """Successive halving on the mean validation loss over all formats, whatever the mixture."""
        sign = -1.0 if self.sweep.study.direction == StudyDirection.MAXIMIZE else 1.0
        config = build(TrainingConfig, self.sweep.plan.cards[ask.size].training, where=f"sizes.{ask.size}: training")
        trial.report(sign * float(np.mean(list(step.dev.values()))), step.step // config.eval_every)
        if trial.should_prune():
            raise optuna.TrialPruned(f"successive halving at step {step.step}")
