"""Runs of a sweep in MLflow: finished trials and reports, and the end of abandoned ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.tracking.config import TrackingConfig
from harness.tracking.evaluations import LoggedRun
from harness.tracking.fields import TAG_CHARS, as_params, as_points, cut, send, tag_filter
from harness.tracking.storage import failed_if_interrupted, open_experiment, reported, run_url, withdraw


def end_runs(config: TrackingConfig, tags: Mapping[str, str], *, keeping: tuple[str, Sequence[str]] = ("", ())) -> int:
    """Ends runs that still count as running, as killed; returns how many.

    Args:
        config: where they are.
        tags: that they all have.
        keeping: a tag and its values: runs with one of them stay as they are.

    Raises:
        TrackingError: if the store does not answer.
    """
    key, values = keeping
    with reported("Ending abandoned runs", config):
        client, experiment = open_experiment(config)
        text = " and ".join(["attributes.status = 'RUNNING'", *(tag_filter(k, v) for k, v in tags.items())])
        found = [r for r in client.search_runs([experiment], text) if r.data.tags.get(key) not in values]
        for run in found:
            client.set_terminated(run.info.run_id, "KILLED")
    return len(found)


def log_summary(
    config: TrackingConfig,
    name: str,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    folder: Path,
    key_tag: str = "key",
) -> LoggedRun:
    """Logs one finished run with the files of `folder`, in place of any earlier one with the same `key_tag`.

    Raises:
        TrackingError: if any of it did not arrive.
    """
    with reported(f"Logging '{name}'", config):
        client, experiment = open_experiment(config)
        earlier = client.search_runs([experiment], filter_string=tag_filter(key_tag, tags[key_tag]))
        all_tags = {key: cut(value, TAG_CHARS) for key, value in {**config.tags, **tags}.items()}
        run_id = client.create_run(experiment, run_name=name, tags=all_tags).info.run_id
        with failed_if_interrupted(client, run_id):
            send(client, run_id, params=as_params(params), metrics=as_points(metrics, 0))
            client.log_artifacts(run_id, str(folder))
            client.set_terminated(run_id, "FINISHED")
        for run in earlier:
            withdraw(client, run.info.run_id, key_tag, by=run_id)
    return LoggedRun(run_id, run_url(config, experiment, run_id))
