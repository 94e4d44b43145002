"""Evaluation runs that are in the store: found and fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.tracking.config import TrackingConfig
from harness.tracking.fields import tag_filter
from harness.tracking.storage import LOOK_AGAIN, connect, reported, silence

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class StoredRun:
    """An evaluation in the store.

    Attributes:
        id: MLflow's.
        model: the name of its model.
        when: seconds since 1970.
    """

    id: str
    model: str
    when: float


def stored_runs(config: TrackingConfig, *, model: str | None = None) -> list[StoredRun]:
    """Finished evaluations of the experiment, the latest first; none where there is no such experiment.

    Raises:
        TrackingError: if the store does not answer.
    """
    wanted = ["attributes.status = 'FINISHED'", "tags.run_id LIKE '%'"]
    wanted += [tag_filter("model", model)] if model is not None else []
    with reported("Looking for runs", config, remedy=LOOK_AGAIN):
        client = connect(config)
        known = client.get_experiment_by_name(config.tracking.experiment)
        if known is None or known.lifecycle_stage == "deleted":  # looking makes none
            return []
        experiment = known.experiment_id
        text, order = " and ".join(wanted), ["attributes.start_time DESC"]
        page = client.search_runs([experiment], text, order_by=order)
        found = list(page)
        while page.token:
            page = client.search_runs([experiment], text, order_by=order, page_token=page.token)
            found += page
    return [StoredRun(r.info.run_id, r.data.tags["model"], r.info.start_time / 1000) for r in found]


def fetch_run(config: TrackingConfig, run_id: str, folder: Path, *, items: bool = True) -> Path:
    """Copies a run's results into `folder`, which `read_results` then reads.

    Raises:
        TrackingError: if the run is not there, or not an evaluation of the harness.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with reported(f"Fetching run {run_id}", config, remedy=LOOK_AGAIN):
        silence()
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=config.uri)
        for name in ("results.json", "protocol.json", *(["items"] if items else [])):
            client.download_artifacts(run_id, name, str(folder))
    return folder
