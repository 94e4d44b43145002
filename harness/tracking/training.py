"""Training runs in MLflow, which take metrics step by step."""

from __future__ import annotations

import types
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from harness.config import digest
from harness.tracking.config import TrackingConfig
from harness.tracking.fields import METRICS_PER_BATCH, TAG_CHARS, as_params, as_points, cut, send, tag_filter
from harness.tracking.registry import register
from harness.tracking.storage import TrackingError, TrackingWarning, open_experiment, reported, run_url, withdraw

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from harness.model import ModelCard

Status = Literal["FINISHED", "FAILED", "KILLED"]


def training_logger(
    config: TrackingConfig, name: str, params: Mapping[str, Any], tags: Mapping[str, str], *, key_tag: str = "key"
) -> TrainingLogger:
    """A run that takes metrics step by step; use it in `with`.

    A run whose tag `key_tag` equals that of `tags` is opened again and takes the other tags. Its parameters cannot
    change: one that differs now becomes a tag `resumed.<parameter>`. Of processes that make it at the same moment, all
    go on in the run that was made first.

    Raises:
        TrackingError: if the run cannot be opened.
    """
    with reported(f"Opening the training run '{name}'", config):
        client, experiment = open_experiment(config)
        texts = as_params(params)
        found = _find(client, experiment, key_tag, tags.get(key_tag))
        if found is None:
            made = client.create_run(experiment, run_name=name, tags={**config.tags, **tags})
            found = _find(client, experiment, key_tag, tags.get(key_tag)) or made
            if found.info.run_id == made.info.run_id:
                send(client, made.info.run_id, params=texts)
                return TrainingLogger(client, config, made.info.run_id, experiment, last={})
            withdraw(client, made.info.run_id, key_tag, by=found.info.run_id)
        run_id, old = found.info.run_id, found.data.params
        client.update_run(run_id, status="RUNNING")
        for key, value in tags.items():
            if found.data.tags.get(key) != value:
                client.set_tag(run_id, key, value)
        send(client, run_id, params={key: value for key, value in texts.items() if key not in old})
        for key, value in texts.items():
            if old.get(key, value) != value:
                client.set_tag(run_id, f"resumed.{key}", value)
        keys = [key for key in found.data.metrics if not key.startswith("system/")]
        last = {key: max(p.step for p in client.get_metric_history(run_id, key)) for key in keys}
        return TrainingLogger(client, config, run_id, experiment, last=last)


def card_logger(config: TrackingConfig, card: ModelCard) -> TrainingLogger:
    """The run of a card's training, which a resumed training opens again.

    Raises:
        TrackingError: if the run cannot be opened.
    """
    params = {"architecture": card.architecture, "training": card.training, "tokenizers": card.tokenizers}
    key = digest([card.name, card.training, card.architecture])[:16]
    tags = {"kind": "training", "model": card.name, "key": key}
    return training_logger(config, f"train {card.name}", params, tags)


def _find(client: MlflowClient, experiment: str, key: str, value: str | None) -> Any:
    """The run with this tag that was made first, or None."""
    if value is None:
        return None
    runs = client.search_runs([experiment], tag_filter(key, value))
    return min(runs, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


class TrainingLogger:
    """Sends metrics in batches; made by `training_logger`.

    Attributes:
        run_id: MLflow's.
        url: the run's page, if the store is a tracking server.
    """

    def __init__(
        self, client: MlflowClient, config: TrackingConfig, run_id: str, experiment: str, *, last: Mapping[str, int]
    ) -> None:
        self.run_id, self.url = run_id, run_url(config, experiment, run_id)
        self._client, self._config, self._experiment = client, config, experiment
        self._last = dict(last)
        self._pending: list[Any] = []
        self._flushed_at: int | None = None
        self._closed = False
        self._monitor = self._start_monitor(resume=bool(last)) if config.logging.system_metrics else None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of a step; one logged at this or a later step already is left out.

        A batch that cannot be sent is sent with the next one, with a `TrackingWarning`: it does not stop the training.
        """
        fresh = {key: value for key, value in metrics.items() if step > self._last.get(key, -1)}
        self._last |= dict.fromkeys(fresh, step)
        self._pending += as_points(fresh, step)
        self._flushed_at = step if self._flushed_at is None else self._flushed_at
        if step - self._flushed_at >= self._config.logging.flush_every_steps:
            self._flushed_at = step
            try:
                self.flush()
            except TrackingError as error:
                warnings.warn(str(error), TrackingWarning, stacklevel=2)

    def flush(self) -> None:
        """Sends the pending metrics.

        Raises:
            TrackingError: if they could not be sent; they stay pending.
        """
        with reported(f"Logging the training run {self.run_id}", self._config):
            while self._pending:
                self._client.log_batch(self.run_id, metrics=self._pending[:METRICS_PER_BATCH])
                del self._pending[:METRICS_PER_BATCH]

    def register(self, card: ModelCard, *, fingerprint: str) -> str | None:
        """Puts a trained checkpoint into the model registry under its card's name; None if that is off.

        Returns its `models:/name/version`.

        Raises:
            TrackingError: if it could not be stored.
        """
        if not self._config.logging.registry:
            return None
        with reported(f"Registering the checkpoint '{card.name}'", self._config):
            client, config, experiment = self._client, self._config, self._experiment
            return register(client, config, experiment, card, card.name, fingerprint, (), run_id=self.run_id)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Puts tags on the run.

        Raises:
            TrackingError: if they could not be sent.
        """
        with reported(f"Tagging the training run {self.run_id}", self._config):
            for key, value in tags.items():
                self._client.set_tag(self.run_id, key, cut(value, TAG_CHARS))

    def abandon(self) -> None:
        """Leaves the run as it is to whoever has opened it since; nothing more is sent."""
        self._closed = True
        if self._monitor:
            self._monitor.finish()

    def close(self, status: Status = "FINISHED") -> None:
        """Sends the rest and ends the run; further calls do nothing.

        Raises:
            TrackingError: if the rest could not be sent.
        """
        if self._closed:
            return
        self._closed = True
        if self._monitor:
            self._monitor.finish()
        try:
            self.flush()
        finally:
            with reported(f"Ending the training run {self.run_id}", self._config):
                self._client.set_terminated(self.run_id, status)

    def __enter__(self) -> TrainingLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if error is None:
            return self.close()
        try:
            self.close("FAILED" if isinstance(error, Exception) else "KILLED")
        except TrackingError as second:  # must not hide what ended the training
            error.add_note(str(second))

    def _start_monitor(self, *, resume: bool) -> Any:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self.run_id, resume_logging=resume, tracking_uri=self._config.uri)
        monitor.start()
        return monitor
