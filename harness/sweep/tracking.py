"""What a sweep reports to the tracking store."""

from __future__ import annotations

import warnings
from typing import Any

from optuna.trial import TrialState

from harness.config import plain
from harness.sweep.analysis import Analysis
from harness.sweep.queue import origin
from harness.sweep.report import Written
from harness.sweep.study import Sweep
from harness.sweep.trial import Ask, Outcome
from harness.tracking.config import TrackingConfig
from harness.tracking.storage import TrackingError, TrackingWarning, ensure_schema
from harness.tracking.sweeps import (
    TrialLabels,
    TrialLogger,
    end_abandoned_trials,
    log_sweep_report,
    optimum_metrics,
    trial_metrics,
)


def open_trial_logger(sweep: Sweep, ask: Ask) -> TrialLogger:
    """The logger of one attempt at a trial."""
    spec = sweep.plan.spec
    labels = TrialLabels(spec.name, sweep.plan.study, ask.number, ask.attempt, ask.stage)
    settings: dict[str, Any] = {
        "seed": ask.seed,
        "size": ask.size,
        "tokens": spec.tokens,
        "ratio_unit": spec.ratio_unit,
    }
    return TrialLogger(sweep.tracking, labels, mixture=ask.mixture, settings=settings)


def outcome_metrics(outcome: Outcome) -> dict[str, float]:
    """Every number of a trial under its name in the tracking store."""
    costs = {
        "tokens": float(outcome.tokens),
        "flops": outcome.flops,
        "train_s": outcome.train_s,
        "evaluate_s": outcome.evaluate_s,
        "peak_memory_bytes": float(outcome.peak_memory_bytes),
    }
    values = {key: metric.value for key, metric in outcome.metrics.items()}
    return trial_metrics(values, mixture=outcome.ask.mixture, realized=outcome.realized, costs=costs)


def open_tracking(tracking: TrackingConfig) -> None:
    """Makes the tracking database before several workers would at once."""
    try:
        ensure_schema(tracking)
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)


def end_silent_runs(sweep: Sweep) -> None:
    """Runs that a dead worker left open, and that nobody took over, are ended as killed."""
    unfinished = [origin(t) for t in sweep.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    try:
        end_abandoned_trials(sweep.tracking, sweep.plan.study, unfinished=unfinished)
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)


def log_sweep(sweep: Sweep, analysis: Analysis, written: Written) -> None:
    """Logs the report as one run for the study."""
    spec, metrics = sweep.plan.spec, {"trials": float(len(analysis.outcomes))}
    for key, answer in analysis.answers.items():
        mixture: dict[str, float] = dict(zip(spec.names, answer.mixture, strict=True))
        metrics |= optimum_metrics(key, value=answer.value, uniform=answer.uniform, gain=answer.gain, mixture=mixture)
    try:
        log_sweep_report(
            sweep.tracking, spec.name, sweep.plan.study,
            settings=plain(spec), metrics=metrics, text=written.text, folder=written.folder,
        )  # fmt: skip
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)
