"""A sweep in MLflow: one run for each trial, one for its report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from optuna.trial import TrialState

from harness.config import plain
from harness.sweep.analysis import Analysis
from harness.sweep.plan import Plan
from harness.sweep.queue import origin
from harness.sweep.report import Written
from harness.sweep.study import Sweep
from harness.sweep.trial import Ask, Outcome
from harness.tracking.config import TrackingConfig
from harness.tracking.storage import TrackingError, TrackingWarning, ensure_schema
from harness.tracking.training import training_logger
from harness.tracking.trials import end_runs, log_summary
from harness.training.loop import Step


class TrialLog:
    """A trial's run in MLflow: one for all attempts. What does not arrive is said once and costs no trial."""

    def __init__(self, sweep: Sweep, ask: Ask) -> None:
        self._ask, self._logger = ask, None
        plan = sweep.plan
        settings = {
            **{f"mixture.{part}": share for part, share in ask.mixture.items()},
            "seed": ask.seed,
            "size": ask.size,
            "tokens": plan.spec.tokens,
            "ratio_unit": plan.spec.ratio_unit,
        }
        with self._told():
            self._logger = training_logger(
                sweep.tracking, f"{plan.spec.name} {ask.number:05d}", settings, trial_tags(plan, ask),
                key_tag="trial_key",
            )  # fmt: skip

    def step(self, step: Step) -> None:
        """Takes the curve: validations only, a sweep has many trials."""
        if self._logger and step.dev:
            with self._told():
                self._logger.log(step.step, {"loss": step.loss, **step.dev})

    def finish(self, outcome: Outcome) -> None:
        """Logs what the trial gave and ends the run."""
        if not self._logger:
            return
        with self._told():
            self._logger.log(outcome.steps, trial_numbers(outcome))
            self._logger.close()

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"], tags: Mapping[str, str]) -> None:
        """Ends the run without metrics."""
        if self._logger:
            with self._told():
                self._logger.tag(tags)
                self._logger.close(status)

    def abandon(self) -> None:
        """Leaves the run to the attempt that has opened it since."""
        if self._logger:
            self._logger.abandon()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except TrackingError as error:
            self._logger = None
            warnings.warn(str(error), TrackingWarning, stacklevel=2)


def trial_tags(plan: Plan, ask: Ask) -> dict[str, str]:
    """What relates a trial's run to its sweep."""
    return {
        "kind": "trial",
        "sweep": plan.spec.name,
        "study": plan.study,
        "trial": str(ask.number),
        "trial_key": f"{plan.study}/{ask.number}",
        "attempt": str(ask.attempt),
        "stage": ask.stage,
    }


def trial_numbers(outcome: Outcome) -> dict[str, float]:
    """Every number of a trial under its name in MLflow; the ratios too, so that plots can put them on axes."""
    realized = {
        f"realized/{part}.{key}": row[key]
        for part, row in outcome.realized.items()
        for key in ("token_share", "sample_share", "epochs")
    }
    return {
        **{key: metric.value for key, metric in outcome.metrics.items()},
        **{f"ratio/{part}": share for part, share in outcome.ask.mixture.items()},
        **realized,
        "cost/tokens": float(outcome.tokens),
        "cost/flops": outcome.flops,
        "cost/train_s": outcome.train_s,
        "cost/evaluate_s": outcome.evaluate_s,
        "cost/peak_memory_bytes": float(outcome.peak_memory_bytes),
    }


def open_tracking(tracking: TrackingConfig) -> None:
    """Makes MLflow's database before several workers would at once."""
    try:
        ensure_schema(tracking)
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)


def end_silent_runs(sweep: Sweep) -> None:
    """Runs in MLflow that a dead worker left open, and that nobody took over, are ended as killed."""
    alive = [
        f"{sweep.plan.study}/{origin(t)}" for t in sweep.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)
    ]
    try:
        end_runs(sweep.tracking, {"study": sweep.plan.study, "kind": "trial"}, keeping=("trial_key", alive))
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)


def log_sweep(sweep: Sweep, analysis: Analysis, written: Written) -> None:
    """Logs the report as one run for the study."""
    spec = sweep.plan.spec
    metrics: dict[str, float] = {"trials": float(len(analysis.outcomes))}
    for key, answer in analysis.answers.items():
        metrics |= {f"best/{key}": answer.value, f"uniform/{key}": answer.uniform, f"gain/{key}": answer.gain}
        metrics |= {f"best_{n}/{key}": share for n, share in zip(spec.names, answer.mixture, strict=True)}
    tags = {"kind": "sweep", "sweep": spec.name, "study": sweep.plan.study, "sweep_key": sweep.plan.study}
    try:
        log_summary(
            sweep.tracking,
            f"sweep {spec.name}",
            params=plain(spec),
            metrics=metrics,
            tags={**tags, "mlflow.note.content": written.text},
            folder=written.folder,
            key_tag="sweep_key",
        )
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)
