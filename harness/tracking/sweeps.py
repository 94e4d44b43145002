"""Sweeps in MLflow: one run for each trial, one for the report, under tags that relate them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.tracking.config import TrackingConfig
from harness.tracking.evaluations import LoggedRun
from harness.tracking.fields import TAG_CHARS, as_params, as_points, cut, send, tag_filter
from harness.tracking.storage import (
    TrackingError,
    TrackingWarning,
    failed_if_interrupted,
    open_experiment,
    reported,
    run_url,
    withdraw,
)
from harness.tracking.training import Status, TrainingLogger, training_logger

_TRIAL_KEY, _SWEEP_KEY = "trial_key", "sweep_key"


@dataclass(frozen=True, slots=True)
class TrialLabels:
    """What relates a trial's run to its sweep.

    Attributes:
        sweep: its name.
        study: Optuna's name of it, which no other sweep has.
        number: of the trial, in its first attempt.
        attempt: 0 at first, one more with every retry.
        stage: of the sweep that asked for the trial.
    """

    sweep: str
    study: str
    number: int
    attempt: int
    stage: str

    def tags(self) -> dict[str, str]:
        """The labels as tags; `trial_key` is the same for all attempts."""
        return {
            "kind": "trial",
            "sweep": self.sweep,
            "study": self.study,
            "trial": str(self.number),
            _TRIAL_KEY: trial_key(self.study, self.number),
            "attempt": str(self.attempt),
            "stage": self.stage,
        }


def trial_key(study: str, number: int) -> str:
    """The tag by which all attempts of a trial find its run."""
    return f"{study}/{number}"


class TrialLogger:
    """A trial's run: one for all attempts. What does not arrive is reported once, as a warning; the trial goes on.

    Args:
        config: where to.
        labels: of the trial.
        mixture: share of each part, a parameter `mixture.<part>`.
        settings: further parameters.
    """

    def __init__(
        self, config: TrackingConfig, labels: TrialLabels, *, mixture: Mapping[str, float], settings: Mapping[str, Any]
    ) -> None:
        params = {**{f"mixture.{part}": share for part, share in mixture.items()}, **settings}
        self._logger: TrainingLogger | None = None
        with self._failures_reported():
            name = f"{labels.sweep} {labels.number:05d}"
            self._logger = training_logger(config, name, params, labels.tags(), key_tag=_TRIAL_KEY)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of a training step."""
        if self._logger:
            with self._failures_reported():
                self._logger.log(step, metrics)

    def finish(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs what the trial gave, as `trial_metrics` names it, and ends the run."""
        if self._logger:
            with self._failures_reported():
                self._logger.log(step, metrics)
                self._logger.close()

    def end(self, status: Status, tags: Mapping[str, str]) -> None:
        """Ends the run without further metrics."""
        if self._logger:
            with self._failures_reported():
                self._logger.tag(tags)
                self._logger.close(status)

    def abandon(self) -> None:
        """Leaves the run to the attempt that has opened it since."""
        if self._logger:
            self._logger.abandon()

    @contextmanager
    def _failures_reported(self) -> Iterator[None]:
        try:
            yield
        except TrackingError as error:
            self._logger = None
            warnings.warn(str(error), TrackingWarning, stacklevel=2)


def trial_metrics(
    metrics: Mapping[str, float],
    *,
    mixture: Mapping[str, float],
    realized: Mapping[str, Mapping[str, float]],
    costs: Mapping[str, float],
) -> dict[str, float]:
    """Every number of a trial under its name in MLflow; the ratios too, so that plots can put them on axes.

    Args:
        metrics: of the tasks, under their keys.
        mixture: share of each part, as asked.
        realized: token share, sample share and epochs of each part, as trained.
        costs: tokens, FLOPs, seconds, bytes.
    """
    shares = ("token_share", "sample_share", "epochs")
    return {
        **metrics,
        **{f"ratio/{part}": share for part, share in mixture.items()},
        **{f"realized/{part}.{key}": row[key] for part, row in realized.items() for key in shares},
        **{f"cost/{key}": value for key, value in costs.items()},
    }


def optimum_metrics(
    key: str, *, value: float, uniform: float, gain: float, mixture: Mapping[str, float]
) -> dict[str, float]:
    """The best mixture for a metric under its names in MLflow.

    Args:
        key: of the metric.
        value: predicted at the best mixture.
        uniform: predicted at equal shares.
        gain: of the one over the other.
        mixture: the best share of each part.
    """
    found = {f"best/{key}": value, f"uniform/{key}": uniform, f"gain/{key}": gain}
    return found | {f"best_{part}/{key}": share for part, share in mixture.items()}


def log_sweep_report(
    config: TrackingConfig,
    sweep: str,
    study: str,
    *,
    settings: Mapping[str, Any],
    metrics: Mapping[str, float],
    text: str,
    folder: Path,
) -> LoggedRun:
    """Logs the report of a sweep as one finished run, in place of an earlier one.

    Args:
        config: where to.
        sweep: its name.
        study: Optuna's name of it.
        settings: the sweep's, which become parameters.
        metrics: the number of trials, and `optimum_metrics`.
        text: Markdown for the top of the run's page.
        folder: files of the report.

    Raises:
        TrackingError: if any of it did not arrive.
    """
    tags = {"kind": "sweep", "sweep": sweep, "study": study, _SWEEP_KEY: study, "mlflow.note.content": text}
    all_tags = {key: cut(value, TAG_CHARS) for key, value in {**config.tags, **tags}.items()}
    with reported(f"Logging 'sweep {sweep}'", config):
        client, experiment = open_experiment(config)
        earlier = client.search_runs([experiment], filter_string=tag_filter(_SWEEP_KEY, study))
        run_id = client.create_run(experiment, run_name=f"sweep {sweep}", tags=all_tags).info.run_id
        with failed_if_interrupted(client, run_id):
            send(client, run_id, params=as_params(settings), metrics=as_points(metrics, 0))
            client.log_artifacts(run_id, str(folder))
            client.set_terminated(run_id, "FINISHED")
        for run in earlier:
            withdraw(client, run.info.run_id, _SWEEP_KEY, by=run_id)
    return LoggedRun(run_id, run_url(config, experiment, run_id))


def end_abandoned_trials(config: TrackingConfig, study: str, *, unfinished: Collection[int]) -> int:
    """Ends the runs of trials that still count as running, as killed; returns how many.

    Args:
        config: where they are.
        study: of the trials.
        unfinished: numbers of trials that are running or waiting: their runs stay as they are.

    Raises:
        TrackingError: if the store does not answer.
    """
    keys = {trial_key(study, number) for number in unfinished}
    filters = ["attributes.status = 'RUNNING'", tag_filter("study", study), tag_filter("kind", "trial")]
    with reported("Ending abandoned runs", config):
        client, experiment = open_experiment(config)
        found = client.search_runs([experiment], " and ".join(filters))
        abandoned = [run for run in found if run.data.tags.get(_TRIAL_KEY) not in keys]
        for run in abandoned:
            client.set_terminated(run.info.run_id, "KILLED")
    return len(abandoned)
