"""What a sweep reports to the tracking store."""

from __future__ import annotations

import warnings
from typing import Any

from optuna.trial import TrialState

from harness.config import plain
from harness.sweep.analysis import Analysis
from harness.sweep.queue import trial_number
from harness.sweep.report import SweepReport
from harness.sweep.study import Sweep
from harness.sweep.trial import TrialResult, TrialSpec
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


def open_trial_logger(sweep: Sweep, trial: TrialSpec) -> TrialLogger:
    """The logger of one attempt at a trial."""
    spec = sweep.plan.spec
    labels = TrialLabels(spec.name, sweep.plan.study, trial.number, trial.attempt, trial.stage)
    settings: dict[str, Any] = {
        "seed": trial.seed,
        "size": trial.size,
        "tokens": spec.tokens,
        "ratio_unit": spec.ratio_unit,
    }
    return TrialLogger(sweep.tracking, labels, mixture=trial.mixture, settings=settings)


def result_metrics(result: TrialResult) -> dict[str, float]:
    """Every number of a trial under its name in the tracking store."""
    costs = {
        "tokens": float(result.tokens),
        "flops": result.flops,
        "train_s": result.train_s,
        "evaluate_s": result.evaluate_s,
        "peak_memory_bytes": float(result.peak_memory_bytes),
    }
    values = {key: metric.value for key, metric in result.metrics.items()}
    return trial_metrics(values, mixture=result.spec.mixture, realized=result.realized, costs=costs)


def open_tracking(tracking: TrackingConfig) -> None:
    """Makes the tracking database, which several workers would otherwise make at once."""
    try:
        ensure_schema(tracking)
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)


def end_silent_runs(sweep: Sweep) -> None:
    """Ends, as killed, the runs that a dead worker left open and no other worker took over."""
    unfinished = [trial_number(t) for t in sweep.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    try:
        end_abandoned_trials(sweep.tracking, sweep.plan.study, unfinished=unfinished)
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)


def log_sweep(sweep: Sweep, analysis: Analysis, report: SweepReport) -> None:
    """Logs the report as one run for the study."""
    spec, metrics = sweep.plan.spec, {"trials": float(len(analysis.results))}
    for key, optimum in analysis.optima.items():
        mixture: dict[str, float] = dict(zip(spec.names, optimum.mixture, strict=True))
        metrics |= optimum_metrics(
            key, value=optimum.value, uniform=optimum.uniform, gain=optimum.gain, mixture=mixture
        )
    try:
        log_sweep_report(
            sweep.tracking, spec.name, sweep.plan.study,
            settings=plain(spec), metrics=metrics, text=report.text, folder=report.folder,
        )  # fmt: skip
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)
