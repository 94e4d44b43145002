"""Evaluation runs in MLflow: metrics, protocol, files, tables and figures of a result."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.results import Item, Metric, RunResult, headline
from harness.tracking.config import TrackingConfig
from harness.tracking.fields import TAG_CHARS, as_params, as_points, as_text, cut, send, tag_filter
from harness.tracking.storage import failed_if_interrupted, open_experiment, reported, run_url, withdraw
from harness.version import __version__

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from harness.task import TaskInfo

#: Longest text in a cell of an item table; `items/<task>.jsonl` has it whole.
_CELL_CHARS = 4000
#: Which attempt made a run: a request that was sent again, as its answer was lost, may have made two.
_LOG_ID = "log_id"
#: A view of the runs table that the experiment keeps, and the tag that MLflow's pages find it under.
VIEW = "harness"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_VIEW_COLUMNS = ("attributes.`Created`", "tags.`model`", "tags.`corpus`", "tags.`split`", "tags.`tasks`")
#: Metric columns of that view, in all and for a task that names no main ones.
_VIEW_METRICS, _VIEW_METRICS_PER_TASK = 24, 6


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """Where a result went.

    Attributes:
        run_id: MLflow's.
        url: its page, if the store is a tracking server.
    """

    run_id: str
    url: str | None


def log_run(result: RunResult, config: TrackingConfig, *, infos: Mapping[str, TaskInfo], folder: Path) -> LoggedRun:
    """Logs `result`, already written to `folder`, as one flat MLflow run in place of any earlier one of its `run_id`.

    Parameters are the protocol. Metrics are the results under their keys, `ci95/<key>.low` and `ci95/<key>.high`, and
    `counts/<task>.n_scored` and the like: MLflow's pages group by what stands before a slash. Artifacts are the
    files of `folder`, `<task>.json` for the view that compares items side by side, and `figures/<task>.<name>.svg`.
    Where the model is registered (`register_model`), its metrics appear on its own page too.

    Raises:
        TrackingError: if any of it did not arrive.
    """
    with reported(f"Logging run {result.run_id}", config):
        client, experiment = open_experiment(config)
        earlier = client.search_runs([experiment], filter_string=tag_filter("run_id", result.run_id))
        tags = {**config.tags, **_run_tags(result), "mlflow.note.content": _description(result, infos)}
        tags = {key: cut(value, TAG_CHARS) for key, value in tags.items()} | {_LOG_ID: uuid.uuid4().hex}
        run_id = client.create_run(experiment, run_name=result.run_id, tags=tags).info.run_id
        with failed_if_interrupted(client, run_id):
            model_id = _link_model(client, experiment, run_id, str(result.model["fingerprint"]))
            values = {key: metric.value for key, metric in result.metrics.items()}
            beside = {key: value for key, value in _numbers(result).items() if key not in values}
            points = [*as_points(values, 0, model_id=model_id), *as_points(beside, 0)]
            send(client, run_id, params=as_params(result.protocol), metrics=points)
            _log_files(client, run_id, folder)
            if config.logging.tables:
                _log_tables(client, run_id, result)
            _show_columns(client, experiment, result, infos)
            client.set_terminated(run_id, "FINISHED")
        twins = client.search_runs([experiment], filter_string=tag_filter(_LOG_ID, tags[_LOG_ID]))
        for other in {run.info.run_id for run in (*earlier, *twins)} - {run_id}:
            withdraw(client, other, "run_id", by=run_id)
    return LoggedRun(run_id, run_url(config, experiment, run_id))


def _show_columns(client: MlflowClient, experiment: str, result: RunResult, infos: Mapping[str, TaskInfo]) -> None:
    """Adds the tasks' main metrics to the columns that the runs table opens with; those already there stay."""
    known = json.loads(client.get_experiment(experiment).tags.get(VIEW_TAG) or "{}").get("selectedColumns", [])
    found: list[str] = []
    for name, task in result.tasks.items():
        if name in infos:
            shown = infos[name].main or list(headline(task.metrics, infos[name].headline))[:_VIEW_METRICS_PER_TASK]
            found += [f"metrics.`{key}`" for key in shown if key in task.metrics]
    columns = list(dict.fromkeys([*_VIEW_COLUMNS, *known, *found]))[: len(_VIEW_COLUMNS) + _VIEW_METRICS]
    if columns != known:
        client.set_experiment_tag(experiment, VIEW_TAG, json.dumps({"selectedColumns": columns}))


def _link_model(client: MlflowClient, experiment: str, run_id: str, fingerprint: str) -> str | None:
    """Says that the run evaluates the registered model of this fingerprint; None if there is none."""
    from mlflow.entities import LoggedModelInput

    found = client.search_logged_models([experiment], f"tags.fingerprint = '{fingerprint}'", max_results=1)
    if not found:
        return None
    client.log_inputs(run_id, models=[LoggedModelInput(found[0].model_id)])
    return str(found[0].model_id)


def _run_tags(result: RunResult) -> dict[str, str]:
    revision = str(result.protocol.get("git") or "")
    versions = result.protocol.get("versions") or {}
    return {
        "run_id": result.run_id,
        "model": str(result.model["name"]),
        "fingerprint": str(result.model["fingerprint"]),
        "corpus": str(result.corpus["name"]),
        "split": str(result.corpus["split"]),
        "tasks": ",".join(result.tasks),
        "harness_version": str(versions.get("harness", __version__)),
        **({"git_revision": revision, "mlflow.source.git.commit": revision.partition("+")[0]} if revision else {}),
        **{f"signature.{name}": task.signature for name, task in result.tasks.items()},
    }


def _description(result: RunResult, infos: Mapping[str, TaskInfo]) -> str:
    """The headline numbers as Markdown, for the top of the run's page."""
    lines = []
    for name, task in result.tasks.items():
        keys = infos[name].headline if name in infos else ()
        lines += [f"`{task.signature}`", "", "| metric | value | 95 % CI | chance | n |", "|---|---|---|---|---|"]
        lines += [_row(key, metric) for key, metric in headline(task.metrics, keys).items()]
        lines.append("")
    return "\n".join(lines)


def _row(key: str, metric: Metric) -> str:
    ci95 = f"{metric.ci95[0]:.4g} – {metric.ci95[1]:.4g}" if metric.ci95 else ""
    chance = "" if metric.chance is None else f"{metric.chance:.4g}"
    return f"| {key} | {metric.value:.4g} | {ci95} | {chance} | {metric.n} |"


def _numbers(result: RunResult) -> dict[str, float]:
    """Every number of a result under the name it has in MLflow."""
    numbers = {key: metric.value for key, metric in result.metrics.items()}
    for key, metric in result.metrics.items():
        if metric.ci95:
            numbers |= {f"ci95/{key}.low": metric.ci95[0], f"ci95/{key}.high": metric.ci95[1]}
    for name, task in result.tasks.items():
        counts = {"n_expected": task.n_expected, "n_scored": task.n_scored, "n_failed": task.n_failed}
        numbers |= {f"counts/{name}.{key}": float(count) for key, count in counts.items()}
    return numbers


def _log_files(client: MlflowClient, run_id: str, folder: Path) -> None:
    for name in ("results.json", "protocol.json"):
        client.log_artifact(run_id, str(folder / name))
    for name in ("items", "figures"):
        if (folder / name).is_dir() and any((folder / name).iterdir()):
            client.log_artifacts(run_id, str(folder / name), name)


def _log_tables(client: MlflowClient, run_id: str, result: RunResult) -> None:
    for name, task in result.tasks.items():
        if task.items:
            client.log_table(run_id, _table(task.items), f"{name}.json")


def _table(items: Sequence[Item]) -> dict[str, list[Any]]:
    """Items as columns: `id`, then the output, which MLflow's view compares first; nested values under dotted names."""
    rows = [item.columns() for item in items]
    found = dict.fromkeys(key for row in rows for key in row)
    outputs = [key for key in found if key == "output" or key.startswith("output.")]
    columns = dict.fromkeys(["id", *outputs, *found])
    return {column: [_cell(row.get(column)) for row in rows] for column in columns}


def _cell(value: Any) -> Any:
    return cut(as_text(value), _CELL_CHARS) if isinstance(value, (str, list, dict)) else value
