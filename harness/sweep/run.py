"""Runs a sweep: prepares it, starts its workers, confirms the best mixtures with new seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from harness.errors import TrialError
from harness.files import lock_of
from harness.progress import ProgressCallback
from harness.sweep.analysis import Optimum, analyze
from harness.sweep.launch import run_local, submit, wait_for
from harness.sweep.plan import prepare
from harness.sweep.queue import (
    enqueue_confirmations,
    enqueue_main,
    enqueue_transfer,
    fail_stale_trials,
    lost_trials,
    requeue_failed,
    trial_number,
)
from harness.sweep.report import SweepReport, write_report
from harness.sweep.signals import StopSignals
from harness.sweep.spec import SweepSpec
from harness.sweep.status import status, trial_results
from harness.sweep.storage import open_storage, quiet, storage_url
from harness.sweep.study import Sweep, load_study
from harness.sweep.tracking import end_silent_runs, log_sweep, open_tracking
from harness.sweep.worker import Worker
from harness.tracking.config import TrackingConfig


def start_sweep(
    spec: SweepSpec,
    folder: Path,
    tracking: TrackingConfig,
    *,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> Sweep:
    """Prepares data, database and trials before any worker starts; the same call resumes a sweep.

    Lost trials are enqueued again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock_of(folder / "prepare"):
        plan, _ = prepare(spec, folder, device=device, progress=progress)
        url = storage_url(plan, folder, tracking.sweep)
        storage = open_storage(url, tracking.sweep, create=True)
        directions = [
            StudyDirection.MAXIMIZE if plan.higher(key) else StudyDirection.MINIMIZE for key in spec.objectives
        ]
        with quiet():
            study = optuna.create_study(
                study_name=plan.study, storage=storage, directions=directions, load_if_exists=True
            )
            study.set_metric_names(list(spec.objectives))
        sweep = Sweep(plan, folder, load_study(plan, storage), tracking, storage)
        fail_stale_trials(sweep)
        enqueue_main(sweep)
        enqueue_transfer(sweep)
        requeue_failed(sweep)
    return sweep


@dataclass(frozen=True)
class LaunchOptions:
    """How workers are started.

    Attributes:
        workers: number of workers; a single local one runs in this process.
        launcher: `local` processes, or jobs of `slurm`.
        slurm: `key=value` of submitit for the jobs.
        device: of each worker.
        track: log to MLflow.
        nproc: processes of a trial.
    """

    workers: int = 1
    launcher: Literal["local", "slurm"] = "local"
    slurm: tuple[str, ...] = ()
    device: str = "cpu"
    track: bool = True
    nproc: int = 1


def run_sweep(
    spec: SweepSpec,
    folder: Path,
    tracking: TrackingConfig,
    launch: LaunchOptions,
    *,
    progress: ProgressCallback | None = None,
    say: Callable[[str], None] = print,
) -> Sweep:
    """Prepares a sweep, runs its trials, confirms what came out best; the same call resumes it.

    Raises:
        TrialError: if a worker fails, or trials were lost to more faults than `max_retry`.
    """
    sweep = start_sweep(spec, folder, tracking, device=launch.device, progress=progress)
    if launch.track:
        open_tracking(tracking)
    _run_workers(sweep, launch, progress, say)
    if spec.confirm:
        best = {key: optimum.mixture for key, optimum in find_optima(sweep).items()}
        if number := enqueue_confirmations(sweep, best):
            say(f"{number} confirmation runs of the best mixtures and the uniform one")
            _run_workers(sweep, launch, progress, say)
    if launch.track:
        end_silent_runs(sweep)
    if gone := lost_trials(sweep):
        numbers = ", ".join(str(trial_number(trial)) for trial in gone)
        raise TrialError(
            f"{len(gone)} of {status(sweep)['asked']} trials were lost: {numbers}. Their workers met an error, or more "
            f"faults than sweep.max_retry={tracking.sweep.max_retry}; see {folder / 'logs'}. The same command tries "
            "them again."
        )
    return sweep


def _run_workers(
    sweep: Sweep, launch: LaunchOptions, progress: ProgressCallback | None, say: Callable[[str], None]
) -> None:
    if not sweep.count(TrialState.WAITING, TrialState.RUNNING):
        return
    if launch.workers == 1 and launch.launcher == "local":
        Worker(sweep, device=launch.device, track=launch.track, nproc=launch.nproc, say=say).run()
        return
    with StopSignals() as signals:

        def tick() -> None:
            signals.check()
            if progress:
                now = status(sweep)
                progress("trials", now["done"], now["asked"])

        how: dict[str, Any] = {"device": launch.device, "track": launch.track, "nproc": launch.nproc}
        if launch.launcher == "local":
            run_local(sweep.folder, launch.workers, **how, tick=tick)
            return
        jobs = submit(sweep.folder, launch.workers, launch.slurm, **how)
        try:
            wait_for(jobs, tick)
        except BaseException:
            for job in jobs:
                job.cancel()
            raise


def find_optima(sweep: Sweep) -> dict[str, Optimum]:
    """The best mixture for each objective, by the results so far."""
    return analyze(sweep.plan, trial_results(sweep), keys=sweep.plan.spec.objectives).optima


def report_sweep(sweep: Sweep, folder: Path | None = None, *, track: bool = True) -> SweepReport:
    """Writes the report of a sweep and logs its summary run; works at any time.

    Args:
        sweep: opened.
        folder: of the report; defaults to `report` in the sweep's folder.
        track: log to MLflow, one run for the study, replaced by the next report.
    """
    analysis = analyze(sweep.plan, trial_results(sweep))
    dropped = [
        (trial_number(t), str(t.user_attrs.get("pruned", ""))) for t in sweep.trials if t.state == TrialState.PRUNED
    ]
    report = write_report(analysis, folder or sweep.folder / "report", dropped=dropped)
    if track:
        log_sweep(sweep, analysis, report)
    return report
