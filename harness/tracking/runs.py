"""Runs in MLflow: evaluations, training curves and the web page that compares them.

The only file that imports mlflow, and only inside functions: telemetry is switched off first, and `import
harness.tracking.runs` stays cheap.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import urllib.error
import urllib.request
import uuid
import warnings
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from harness.config import STRICT, build, digest, file_digest, flatten, home, merge, plain, read_yaml
from harness.errors import HarnessError, InputError
from harness.results import OUTPUT_FIELDS, Item, Metric, RunResult, headline, read_results
from harness.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

    from harness.model import ModelCard
    from harness.task import TaskInfo

Status = Literal["FINISHED", "FAILED", "KILLED"]

#: Signs of a database that MLflow opens itself; everything else is a server or MLflow's own business.
_DATABASE = re.compile(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://")
#: Longest parameter shown; MLflow stores 6000 characters, which no table column can show. `protocol.json` has it whole.
_PARAM_CHARS = 1000
#: Longest text in a cell of an item table; `items/<task>.jsonl` has it whole.
_CELL_CHARS = 4000
_TAG_CHARS = 5000
#: How MLflow limits one request.
_PARAMS_PER_BATCH, _METRICS_PER_BATCH = 100, 1000
#: Opens an experiment on its table of runs; without it the page first asks what kind of experiment this is.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
#: Nothing is reported to anybody, and no background jobs run in the server.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
#: Unless the user has set them: fail after seconds, not after minutes; leave the terminal to the harness.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
#: Which attempt made a run: a request that was sent again, as its answer was lost, may have made two.
_LOG_ID = "log_id"
#: A view of the runs table that the experiment keeps, and the tag that MLflow's pages find it under.
_VIEW = "harness"
_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"
_VIEW_COLUMNS = ("attributes.`Created`", "tags.`model`", "tags.`corpus`", "tags.`split`", "tags.`tasks`")
#: Metric columns of that view, in all and for a task without figures.
_VIEW_METRICS, _VIEW_METRICS_PER_TASK = 24, 6
_LOG_AGAIN = "Results on disk are whole; mend 'tracking.uri' or the server and log them again."
_LOOK_AGAIN = "Check the name, and 'tracking.uri' or the server."
#: A server that is alive may be slow to start on a busy machine.
_START_S, _STOP_S = 300.0, 10.0


class TrackingError(HarnessError):
    """Something did not reach the tracking store; results on disk are whole."""


class AbsentError(TrackingError):
    """The store answers, and does not hold what was asked for: bad input, exit code 2."""

    exit_code = 2


class TrackingWarning(UserWarning):
    """Something has not reached the tracking store yet; it will be tried again."""


@dataclass(frozen=True, config=STRICT)
class StoreConfig:
    """Where runs are kept.

    Attributes:
        uri: SQLite, PostgreSQL or a tracking server; unset means `$HARNESS_HOME/mlflow/mlflow.db`.
        experiment: the MLflow experiment that runs belong to.
        artifact_location: folder or bucket of a new experiment's files; unset means beside the database.
    """

    uri: str | None = None
    experiment: str = "sutlm"
    artifact_location: str | None = None


@dataclass(frozen=True, config=STRICT)
class ServerConfig:
    """How `harness ui` serves the pages.

    Attributes:
        host: 127.0.0.1 keeps them on this machine.
        port: a free one is taken where it is in use.
        workers: server processes.
        allowed_hosts: host names to answer to; empty means MLflow's default, local ones.
        cors_origins: other sites whose pages may call the server.
        auth: `basic-auth` asks for a password; MLflow reads its secrets from the environment.
    """

    host: str = "127.0.0.1"
    port: NonNegativeInt = 5000
    workers: PositiveInt = 1
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    auth: Literal["none", "basic-auth"] = "none"


@dataclass(frozen=True, config=STRICT)
class LoggingConfig:
    """What is sent, and when.

    Attributes:
        flush_every_steps: training metrics of so many steps travel together.
        tables: send the items, for side-by-side comparison of outputs.
        system_metrics: sample processor, memory and GPU while training.
        registry: put trained checkpoints into the model registry.
    """

    flush_every_steps: PositiveInt = 50
    tables: bool = True
    system_metrics: bool = False
    registry: bool = False


@dataclass(frozen=True, config=STRICT)
class SweepConfig:
    """How workers of a sweep share trials.

    Attributes:
        storage: Optuna's database; unset means SQLite in the sweep's folder.
        heartbeat_s: seconds between a worker's signs of life.
        grace_s: silence after which its trial is retried.
        max_retry: times a trial is retried.
    """

    storage: str | None = None
    heartbeat_s: PositiveFloat = 30.0
    grace_s: PositiveFloat = 120.0
    max_retry: NonNegativeInt = 3

    def __post_init__(self) -> None:
        if self.grace_s <= self.heartbeat_s:
            raise ValueError(f"grace_s {self.grace_s} must exceed heartbeat_s {self.heartbeat_s}")


@dataclass(frozen=True, config=STRICT)
class TrackingConfig:
    """The content of `mlflow.yaml`; `tags` go on every run."""

    tracking: StoreConfig = field(default_factory=StoreConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    tags: dict[str, str] = field(default_factory=dict)
    sweep: SweepConfig = field(default_factory=SweepConfig)

    @property
    def uri(self) -> str:
        """The tracking URI; may hold a password, so it is not for printing."""
        return self.tracking.uri or f"sqlite:///{home().absolute() / 'mlflow' / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str | None:
        """Where a new experiment's files go; None leaves it to the tracking server."""
        if self.tracking.artifact_location or not _DATABASE.match(self.uri):
            return self.tracking.artifact_location
        path = _sqlite_path(self.uri)
        return str((path.parent.absolute() if path else home().absolute() / "mlflow") / "artifacts")


_SECTIONS: dict[str, type] = {
    "tracking": StoreConfig,
    "server": ServerConfig,
    "logging": LoggingConfig,
    "sweep": SweepConfig,
}


def load_tracking_config(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> TrackingConfig:
    """Settings, the first that is set of: `overrides`, environment, file, built-in default.

    Args:
        path: of the file; None means `mlflow.yaml` in the working directory, if there is one.
        overrides: nested like the file.

    Raises:
        ConfigError: if `path` is absent, for an unknown key (naming the nearest known one) and for an unfit value.
    """
    file = path or Path("mlflow.yaml")
    data = read_yaml(file) if path or file.is_file() else {}
    _settings(data, where=str(file))
    environment = {"uri": os.environ.get("MLFLOW_TRACKING_URI"), "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME")}
    data = merge(data, {"tracking": {key: value for key, value in environment.items() if value}})
    return _settings(merge(data, overrides or {}), where="tracking settings")


def _settings(data: Mapping[str, Any], *, where: str) -> TrackingConfig:
    """Builds section by section, so that a message names the section and the nearest key in it."""
    sections = {
        name: build(_SECTIONS[name], value, where=f"{where}: {name}")
        if name in _SECTIONS and isinstance(value, Mapping)
        else value
        for name, value in data.items()
        if value is not None
    }
    return build(TrackingConfig, sections, where=where)


# --- the store --------------------------------------------------------------------------------------------------------


def ensure_schema(config: TrackingConfig) -> None:
    """Creates the database once, however many processes ask at the same time; a tracking server keeps its own.

    A SQLite file is made under another name and renamed, so that nobody ever sees half a schema.

    Raises:
        TrackingError: if it cannot be created.
    """
    path = _sqlite_path(config.uri)
    if not _DATABASE.match(config.uri) or (path and _has_content(path)):
        return
    lock = (path or home() / "mlflow" / "database").with_suffix(".lock")
    with _reported("Creating the tracking database", config), _locked(lock):
        if path is None:
            _create_schema(config.uri, config)
        elif not _has_content(path):
            part = path.with_name(path.name + ".part")
            part.unlink(missing_ok=True)
            _create_schema(f"sqlite:///{part}", config)
            os.replace(part, path)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _create_schema(uri: str, config: TrackingConfig) -> None:
    _silence()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, config.artifact_root).engine.dispose()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock between processes of this machine; the kernel drops it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite URI; None for other databases and for one in memory."""
    scheme, _, rest = uri.partition(":///")
    name = rest.partition("?")[0]
    return Path(name) if scheme.startswith("sqlite") and name else None


def _silence() -> None:
    """Switches telemetry off, also where somebody imported mlflow before us."""
    os.environ.update(_QUIET)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.telemetry import set_telemetry_client

    set_telemetry_client()


@contextmanager
def _reported(action: str, config: TrackingConfig, *, remedy: str = _LOG_AGAIN) -> Iterator[None]:
    """Turns whatever MLflow, its database or the network raise into one clear error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # how MLflow uses its libraries is not ours to mend
        _silence()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # the last: no database driver
            reason = _without_secrets(str(error).strip() or repr(error))[:500]
            absent = isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST"
            kind = AbsentError if absent and remedy == _LOOK_AGAIN else TrackingError
            raise kind(f"{action} failed at {_without_secrets(config.uri)}: {reason.rstrip('.')}. {remedy}") from error


def _without_secrets(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def _client(config: TrackingConfig) -> MlflowClient:
    ensure_schema(config)
    _silence()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=config.uri)


def _open(config: TrackingConfig) -> tuple[MlflowClient, str]:
    """A client with the id of the experiment, both made where absent."""
    client = _client(config)
    name = config.tracking.experiment
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        with _existing_is_fine():
            client.create_experiment(name, artifact_location=config.artifact_root, tags=_EXPERIMENT_TAGS)
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"The experiment '{name}' at {_without_secrets(config.uri)} was deleted: restore it there, or name another "
            "under 'tracking.experiment'."
        )
    return client, str(experiment.experiment_id)


@contextmanager
def _existing_is_fine() -> Iterator[None]:
    """For what another process may create at the same moment."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _run_url(config: TrackingConfig, experiment: str, run_id: str) -> str | None:
    if not config.uri.startswith(("http://", "https://")):
        return None
    return f"{re.sub(r'//[^/@]*@', '//', config.uri).rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"


def _send(client: MlflowClient, run_id: str, *, params: Mapping[str, str], metrics: Sequence[Any] = ()) -> None:
    """Parameters and metrics in as few requests as MLflow allows."""
    from mlflow.entities import Param

    pairs = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(pairs), _PARAMS_PER_BATCH):
        client.log_batch(run_id, params=pairs[start : start + _PARAMS_PER_BATCH])
    for start in range(0, len(metrics), _METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])


def _points(values: Mapping[str, float], step: int, *, model_id: str | None = None) -> list[Any]:
    from mlflow.entities import Metric as Point

    now = int(time.time() * 1000)
    return [Point(key, float(value), now, step, model_id=model_id) for key, value in values.items()]


# --- one evaluation ---------------------------------------------------------------------------------------------------


@plain_dataclass(frozen=True, slots=True)
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
    files of `folder`, `<task>.json` for the view that compares items side by side, and `figures/<task>.<name>.png`.
    Where the model is registered (`register_model`), its metrics appear on its own page too.

    Raises:
        TrackingError: if any of it did not arrive.
    """
    with _reported(f"Logging run {result.run_id}", config):
        client, experiment = _open(config)
        earlier = client.search_runs([experiment], filter_string=_tag_filter("run_id", result.run_id))
        tags = {**config.tags, **_run_tags(result), "mlflow.note.content": _description(result, infos)}
        tags = {key: _cut(value, _TAG_CHARS) for key, value in tags.items()} | {_LOG_ID: uuid.uuid4().hex}
        run_id = client.create_run(experiment, run_name=result.run_id, tags=tags).info.run_id
        with _failed_if_interrupted(client, run_id):
            model_id = _link_model(client, experiment, run_id, str(result.model["fingerprint"]))
            values = {key: metric.value for key, metric in result.metrics.items()}
            beside = {key: value for key, value in _numbers(result).items() if key not in values}
            points = [*_points(values, 0, model_id=model_id), *_points(beside, 0)]
            _send(client, run_id, params=_params(result.protocol), metrics=points)
            _log_files(client, run_id, folder)
            if config.logging.tables:
                _log_tables(client, run_id, result)
            _log_figures(client, run_id, result, infos)
            _show_columns(client, experiment, result, infos)
            client.set_terminated(run_id, "FINISHED")
        twins = client.search_runs([experiment], filter_string=_tag_filter(_LOG_ID, tags[_LOG_ID]))
        for other in {run.info.run_id for run in (*earlier, *twins)} - {run_id}:
            _withdraw(client, other, "run_id", by=run_id)
    return LoggedRun(run_id, _run_url(config, experiment, run_id))


def _withdraw(client: MlflowClient, run_id: str, key_tag: str, *, by: str) -> None:
    """Deletes a run that another replaces; where only its owner may delete it, it loses the tag that it is found by."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_run(run_id)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        client.set_tag(run_id, "replaced_by", by)
        client.delete_tag(run_id, key_tag)


def _show_columns(client: MlflowClient, experiment: str, result: RunResult, infos: Mapping[str, TaskInfo]) -> None:
    """Adds the tasks' main metrics to the columns that the runs table opens with; those already there stay."""
    known = json.loads(client.get_experiment(experiment).tags.get(_VIEW_TAG) or "{}").get("selectedColumns", [])
    found: list[str] = []
    for name, task in result.tasks.items():
        if name in infos:
            drawn = [key for rows in infos[name].figures.values() for row in rows.values() for key in row.values()]
            shown = drawn or list(headline(task.metrics, infos[name].headline))[:_VIEW_METRICS_PER_TASK]
            found += [f"metrics.`{key}`" for key in shown if key in task.metrics]
    columns = list(dict.fromkeys([*_VIEW_COLUMNS, *known, *found]))[: len(_VIEW_COLUMNS) + _VIEW_METRICS]
    if columns != known:
        client.set_experiment_tag(experiment, _VIEW_TAG, json.dumps({"selectedColumns": columns}))


def _link_model(client: MlflowClient, experiment: str, run_id: str, fingerprint: str) -> str | None:
    """Says that the run evaluates the registered model of this fingerprint; None if there is none."""
    from mlflow.entities import LoggedModelInput

    found = client.search_logged_models([experiment], f"tags.fingerprint = '{fingerprint}'", max_results=1)
    if not found:
        return None
    client.log_inputs(run_id, models=[LoggedModelInput(found[0].model_id)])
    return str(found[0].model_id)


@contextmanager
def _failed_if_interrupted(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Marks a run that did not arrive whole, as far as the store still answers."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except BaseException:
        with suppress(MlflowException, OSError):
            client.set_terminated(run_id, "FAILED")
        raise


def _tag_filter(key: str, value: str) -> str:
    quote = '"' if "'" in value else "'"
    return f"tags.`{key}` = {quote}{value}{quote}"


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


def _params(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as MLflow parameters: dotted legal names, JSON where not text, long values cut."""
    flat = flatten(plain(settings))
    return {re.sub(r"[^\w.\- ]", "_", key)[:250]: _cut(_text(value), _PARAM_CHARS) for key, value in flat.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _log_files(client: MlflowClient, run_id: str, folder: Path) -> None:
    for name in ("results.json", "protocol.json"):
        client.log_artifact(run_id, str(folder / name))
    client.log_artifacts(run_id, str(folder / "items"), "items")


def _log_tables(client: MlflowClient, run_id: str, result: RunResult) -> None:
    for name, task in result.tasks.items():
        if task.items:
            client.log_table(run_id, _table(task.items), f"{name}.json")


def _table(items: Sequence[Item]) -> dict[str, list[Any]]:
    """Items as columns: `id`, then the output, which MLflow's view compares first; nested values under dotted names."""
    rows = [flatten(plain(item)) for item in items]
    found = dict.fromkeys(key for row in rows for key in row)
    columns = dict.fromkeys(["id", *(key for key in OUTPUT_FIELDS if key in found), *found])
    return {column: [_cell(row.get(column)) for row in rows] for column in columns}


def _cell(value: Any) -> Any:
    return _cut(_text(value), _CELL_CHARS) if isinstance(value, (str, list, dict)) else value


def _log_figures(client: MlflowClient, run_id: str, result: RunResult, infos: Mapping[str, TaskInfo]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name in (n for n in result.tasks if n in infos):
            for title, layout in infos[name].figures.items():
                cells = {
                    row: {column: result.metrics[key] for column, key in keys.items() if key in result.metrics}
                    for row, keys in layout.items()
                }
                if any(cells.values()):
                    figure = heat_map(f"{name}: {title}", cells)
                    figure.savefig(Path(scratch, f"{name}.{re.sub(r'[^A-Za-z0-9_-]+', '_', title)}.png"), dpi=150)
        if os.listdir(scratch):
            client.log_artifacts(run_id, scratch, "figures")


def heat_map(title: str, cells: Mapping[str, Mapping[str, Metric]]) -> Figure:
    """Numbers with their intervals on a colored grid, the better the brighter; what was not measured stays gray.

    Args:
        title: the chance level and the number of items are added to it.
        cells: metrics by row and column.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    metrics = [metric for row in cells.values() for metric in row.values()]
    values = np.array([[row[c].value if c in row else np.nan for c in columns] for row in cells.values()])
    figure = Figure(figsize=(2.4 + 1.5 * len(columns), 1.6 + 0.9 * len(cells)), layout="constrained")
    axes = figure.add_subplot()
    colors = colormaps["viridis_r" if metrics[0].higher_is_better is False else "viridis"].with_extremes(bad="0.9")
    low, high = _color_range(metrics)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=low, vmax=high, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(cells)), list(cells))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("\n".join([title, _caption(metrics)]), fontsize="medium")
    for i, row in enumerate(cells.values()):
        for j, column in enumerate(columns):
            if column in row:
                red, green, blue, _ = colors((row[column].value - low) / (high - low))
                ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
                axes.text(j, i, _label(row[column]), ha="center", va="center", color=ink, fontsize="small")
    figure.colorbar(image, ax=axes)
    return figure


def _color_range(metrics: Sequence[Metric]) -> tuple[float, float]:
    """0–1 for shares, 0–100 for per cents that have a chance level, else from lowest to highest."""
    low, high = min(m.value for m in metrics), max(m.value for m in metrics)
    if metrics[0].chance is not None and low >= 0 and high <= 100:
        return 0.0, 1.0 if high <= 1 else 100.0
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _caption(metrics: Sequence[Metric]) -> str:
    chances, counts = {m.chance for m in metrics if m.chance is not None}, {m.n for m in metrics}
    words = [f"{word} {_range(values)}" for word, values in (("chance", chances), ("n", counts)) if values]
    return ", ".join(words)


def _range(values: set[float] | set[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} – {high:g}"


def _label(metric: Metric) -> str:
    ci95 = f"\n{metric.ci95[0]:.3g} – {metric.ci95[1]:.3g}" if metric.ci95 else ""
    return f"{metric.value:.3g}{ci95}"


# --- runs that wait to be sent ----------------------------------------------------------------------------------------


@plain_dataclass(frozen=True, slots=True)
class Sent:
    """What `sync` did with one run.

    Attributes:
        run_id: of the harness.
        folder: its results.
        logged: where it went; None if it could not be sent.
        problem: why not.
    """

    run_id: str
    folder: Path
    logged: LoggedRun | None
    problem: str = ""


def log_or_keep(result: RunResult, config: TrackingConfig, *, infos: Mapping[str, TaskInfo], folder: Path) -> LoggedRun:
    """`log_run`, with a note under `$HARNESS_HOME` until the run has arrived, from which `sync` sends it.

    The note is written first: a killed server and a killed harness alike lose nothing.

    Raises:
        TrackingError: as `log_run`; the note stays.
    """
    note = _note(result.run_id)
    with _locked(note.with_suffix(".lock")):
        note.write_text(json.dumps({"run_id": result.run_id, "folder": str(folder.absolute())}), "utf-8")
        logged = log_run(result, config, infos=infos, folder=folder)
        note.unlink()
    return logged


def unsent() -> list[Path]:
    """Results folders that wait to be sent."""
    notes = (json.loads(path.read_text("utf-8")) for path in sorted(_unsent_folder().glob("*.json")))
    return [Path(note["folder"]) for note in notes]


def sync(
    config: TrackingConfig, infos: Callable[[RunResult], Mapping[str, TaskInfo]], folders: Sequence[Path] = ()
) -> Iterator[Sent]:
    """Sends every run that waits, each once, however many processes send; stops where the store does not answer.

    A run that arrived in part before is replaced; so is one that is there already.

    Args:
        config: where to.
        infos: of a run's tasks.
        folders: results folders to send besides, from a machine without a network for example.

    Raises:
        InputError: if one of `folders` holds no finished run.
    """
    for folder in folders:
        result = read_results(folder)
        try:
            yield Sent(result.run_id, folder, log_or_keep(result, config, infos=infos(result), folder=folder))
        except TrackingError as error:
            yield Sent(result.run_id, folder, None, str(error))
            return
    for path in sorted(_unsent_folder().glob("*.json")):
        with _locked(path.with_suffix(".lock")):
            if not path.exists():  # somebody else has sent it meanwhile
                continue
            sent = _send_noted(path, config, infos)
        yield sent
        if sent.logged is None and path.exists():
            return


def _send_noted(path: Path, config: TrackingConfig, infos: Callable[[RunResult], Mapping[str, TaskInfo]]) -> Sent:
    note = json.loads(path.read_text("utf-8"))
    run_id, folder = str(note["run_id"]), Path(note["folder"])
    try:
        result = read_results(folder)
    except InputError as error:
        path.unlink()  # there is nothing to send any more
        return Sent(run_id, folder, None, f"{error} It is no longer waited for.")
    if result.run_id != run_id:
        path.unlink()
        return Sent(run_id, folder, None, f"{folder} now holds run {result.run_id}. It is no longer waited for.")
    try:
        logged = log_run(result, config, infos=infos(result), folder=folder)
    except TrackingError as error:
        return Sent(run_id, folder, None, str(error))
    path.unlink()
    return Sent(run_id, folder, logged)


def _unsent_folder() -> Path:
    return home() / "mlflow" / "unsent"


def _note(run_id: str) -> Path:
    _unsent_folder().mkdir(parents=True, exist_ok=True)
    return _unsent_folder() / f"{digest(run_id)[:24]}.json"


# --- runs that are there ----------------------------------------------------------------------------------------------


@plain_dataclass(frozen=True, slots=True)
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
    wanted += [_tag_filter("model", model)] if model is not None else []
    with _reported("Looking for runs", config, remedy=_LOOK_AGAIN):
        client = _client(config)
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
    with _reported(f"Fetching run {run_id}", config, remedy=_LOOK_AGAIN):
        _silence()
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=config.uri)
        for name in ("results.json", "protocol.json", *(["items"] if items else [])):
            client.download_artifacts(run_id, name, str(folder))
    return folder


# --- registered models ------------------------------------------------------------------------------------------------


def register_model(
    config: TrackingConfig, card: ModelCard, name: str, *, fingerprint: str, aliases: Sequence[str] = ()
) -> str:
    """Puts a checkpoint with its card into the store as a model and a version of `name`: `models:/name/version`.

    Raises:
        InputError: if `name` or an alias is none that MLflow takes.
        CheckpointError: if the card has no weights.
        TrackingError: if it could not be stored.
    """
    if re.search(r"[/:]", name) or not name.strip():
        raise InputError(f"'{name}' cannot name a registered model: leave out '/' and ':'; give another --name.")
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            raise InputError(
                f"'{alias}' cannot be an alias: letters, digits, '_' and '-', and neither 'latest' nor a version "
                "such as 'v1'; give another --alias."
            )
    card.require_checkpoint()
    with _reported(f"Registering '{name}'", config, remedy=_LOOK_AGAIN):
        client, experiment = _open(config)
        return _register(client, config, experiment, card, name, fingerprint, aliases, run_id=None)


def _register(
    client: MlflowClient,
    config: TrackingConfig,
    experiment: str,
    card: ModelCard,
    name: str,
    fingerprint: str,
    aliases: Sequence[str],
    *,
    run_id: str | None,
) -> str:
    import yaml

    facts = {key: value for key, value in plain(card).items() if key != "folder" and value not in ("", None, {})}
    weights = card.checkpoint_path / "model.safetensors"
    if card.sha256 is None and weights.is_file():
        facts["sha256"] = file_digest(weights)
    tags = {"fingerprint": fingerprint, "adapter": card.adapter, "card": card.name}
    made = client.create_logged_model(
        experiment, name=re.sub(r"[/:.%\"']", "_", name), source_run_id=run_id, tags=tags,
        params=_params({"architecture": card.architecture, "training": card.training}), model_type=card.adapter,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        if card.needs_checkpoint:
            client.log_model_artifacts(made.model_id, str(card.checkpoint_path))
            facts["checkpoint"] = "."
        Path(scratch, _CARD).write_text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), "utf-8")
        client.log_model_artifact(made.model_id, str(Path(scratch, _CARD)))
    client.finalize_logged_model(made.model_id, "READY")
    with _existing_is_fine():
        client.create_registered_model(name)
    source, tags = f"models:/{made.model_id}", {**tags, _MODEL_ID: made.model_id}
    with _default_store(config):
        version = client.create_model_version(name, source, run_id=run_id, tags=tags, model_id=made.model_id)
    for alias in aliases:
        client.set_registered_model_alias(name, alias, version.version)
    return f"models:/{name}/{version.version}"


@contextmanager
def _default_store(config: TrackingConfig) -> Iterator[None]:
    """MLflow looks a version's source up in its default store, whatever store the client has."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = config.uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


#: Tag of a version: the logged model that it is. Not every store of MLflow keeps the version's own field.
_MODEL_ID = "model_id"
#: The card of a registered model, beside its checkpoint.
_CARD = "registered.yaml"
#: MLflow keeps `latest` and versions for itself.
_ALIAS = re.compile(r"(?!(latest|v\d+)$)[\w-]{1,256}", re.ASCII | re.IGNORECASE)
_MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[^/@]+))")


def is_registered(name: str) -> bool:
    """Whether `name` is written as a registered model: `models:/name/3` or `models:/name@alias`."""
    return name.startswith("models:/")


def fetch_model(config: TrackingConfig, uri: str) -> Path:
    """The card of a registered model, whose checkpoint is copied under `$HARNESS_HOME/registry` once.

    The card's name becomes `<name>-v<version>`, so that two versions can be told apart.

    Raises:
        InputError: if `uri` is neither `models:/name/version` nor `models:/name@alias`.
        TrackingError: if the registry has no such version, or it was not registered by the harness.
    """
    asked = _MODEL_URI.fullmatch(uri)
    if asked is None:
        raise InputError(f"'{uri}' names no registered model; write models:/NAME/VERSION or models:/NAME@ALIAS.")
    name = asked["name"]
    with _reported(f"Fetching {uri}", config, remedy=_LOOK_AGAIN):
        _silence()
        from mlflow import MlflowClient
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        client = MlflowClient(tracking_uri=config.uri)
        version = (
            client.get_model_version(name, asked["version"])
            if asked["version"]
            else client.get_model_version_by_alias(name, asked["alias"])
        )
        model_id = version.tags.get(_MODEL_ID)
        if not model_id:
            raise TrackingError(f"{uri} was not registered by 'harness register': it brings no card.")
        folder = home() / "registry" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-v{version.version}-{model_id[-12:]}"
        with _locked(folder.with_name(folder.name + ".lock")):
            if not folder.is_dir():
                location = client.get_logged_model(model_id).artifact_location
                part = folder.with_name(folder.name + ".part")
                part.mkdir(parents=True, exist_ok=True)
                get_artifact_repository(location, tracking_uri=config.uri).download_artifacts("", str(part))
                os.replace(part, folder)
    _name_card(folder / _CARD, f"{name}-v{version.version}", uri)
    return folder / _CARD


def _name_card(path: Path, name: str, uri: str) -> None:
    import yaml

    if not path.is_file():
        raise TrackingError(f"{uri} was not registered by 'harness register': it brings no card.")
    facts = read_yaml(path)
    if facts.get("name") != name:
        part = path.with_suffix(".part")
        part.write_text(yaml.safe_dump({**facts, "name": name}, sort_keys=False, allow_unicode=True), "utf-8")
        os.replace(part, path)


# --- one training -----------------------------------------------------------------------------------------------------


def training_logger(
    config: TrackingConfig, name: str, params: Mapping[str, Any], tags: Mapping[str, str], *, key_tag: str = "key"
) -> TrainingLogger:
    """A run that takes metrics step by step; use it in `with`.

    A run whose tag `key_tag` equals that of `tags` is opened again and takes the other tags. Its parameters cannot
    change: one that differs now becomes a tag `resumed.<parameter>`.

    Raises:
        TrackingError: if the run cannot be opened.
    """
    with _reported(f"Opening the training run '{name}'", config):
        client, experiment = _open(config)
        texts = _params(params)
        found = _find(client, experiment, key_tag, tags.get(key_tag))
        if found is None:
            made = client.create_run(experiment, run_name=name, tags={**config.tags, **tags})
            _send(client, made.info.run_id, params=texts)
            return TrainingLogger(client, config, made.info.run_id, experiment, last={})
        run_id, old = found.info.run_id, found.data.params
        client.update_run(run_id, status="RUNNING")
        for key, value in tags.items():
            if found.data.tags.get(key) != value:
                client.set_tag(run_id, key, value)
        _send(client, run_id, params={key: value for key, value in texts.items() if key not in old})
        for key, value in texts.items():
            if old.get(key, value) != value:
                client.set_tag(run_id, f"resumed.{key}", value)
        keys = [key for key in found.data.metrics if not key.startswith("system/")]
        last = {key: max(p.step for p in client.get_metric_history(run_id, key)) for key in keys}
        return TrainingLogger(client, config, run_id, experiment, last=last)


def _find(client: MlflowClient, experiment: str, key: str, value: str | None) -> Any:
    """The latest run with this tag, or None."""
    if value is None:
        return None
    order = ["attributes.start_time DESC"]
    return next(iter(client.search_runs([experiment], _tag_filter(key, value), max_results=1, order_by=order)), None)


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
    with _reported("Ending abandoned runs", config):
        client, experiment = _open(config)
        text = " and ".join(["attributes.status = 'RUNNING'", *(_tag_filter(k, v) for k, v in tags.items())])
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
    with _reported(f"Logging '{name}'", config):
        client, experiment = _open(config)
        earlier = client.search_runs([experiment], filter_string=_tag_filter(key_tag, tags[key_tag]))
        cut = {key: _cut(value, _TAG_CHARS) for key, value in {**config.tags, **tags}.items()}
        run_id = client.create_run(experiment, run_name=name, tags=cut).info.run_id
        with _failed_if_interrupted(client, run_id):
            _send(client, run_id, params=_params(params), metrics=_points(metrics, 0))
            client.log_artifacts(run_id, str(folder))
            client.set_terminated(run_id, "FINISHED")
        for run in earlier:
            _withdraw(client, run.info.run_id, key_tag, by=run_id)
    return LoggedRun(run_id, _run_url(config, experiment, run_id))


class TrainingLogger:
    """Sends metrics in batches; made by `training_logger`.

    Attributes:
        run_id: MLflow's.
        url: the run's page, if the store is a tracking server.
    """

    def __init__(
        self, client: MlflowClient, config: TrackingConfig, run_id: str, experiment: str, *, last: Mapping[str, int]
    ) -> None:
        self.run_id, self.url = run_id, _run_url(config, experiment, run_id)
        self._client, self._config, self._experiment = client, config, experiment
        self._last = dict(last)
        self._pending: list[Any] = []
        self._flushed_at: int | None = None
        self._closed = False
        self._monitor = self._start_monitor(resume=bool(last)) if config.logging.system_metrics else None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of a step; one logged at this or a later step already is left out.

        A batch that cannot be sent is kept for the next one, with a `TrackingWarning`: it does not stop the training.
        """
        fresh = {key: value for key, value in metrics.items() if step > self._last.get(key, -1)}
        self._last |= dict.fromkeys(fresh, step)
        self._pending += _points(fresh, step)
        self._flushed_at = step if self._flushed_at is None else self._flushed_at
        if step - self._flushed_at >= self._config.logging.flush_every_steps:
            self._flushed_at = step
            try:
                self.flush()
            except TrackingError as error:
                warnings.warn(str(error), TrackingWarning, stacklevel=2)

    def flush(self) -> None:
        """Sends what is waiting.

        Raises:
            TrackingError: if it could not be sent; it stays waiting.
        """
        with _reported(f"Logging the training run {self.run_id}", self._config):
            while self._pending:
                self._client.log_batch(self.run_id, metrics=self._pending[:_METRICS_PER_BATCH])
                del self._pending[:_METRICS_PER_BATCH]

    def register(self, card: ModelCard, *, fingerprint: str) -> str | None:
        """Puts a trained checkpoint into the model registry under its card's name; None if that is off.

        Returns its `models:/name/version`.

        Raises:
            TrackingError: if it could not be stored.
        """
        if not self._config.logging.registry:
            return None
        with _reported(f"Registering the checkpoint '{card.name}'", self._config):
            client, config, experiment = self._client, self._config, self._experiment
            return _register(client, config, experiment, card, card.name, fingerprint, (), run_id=self.run_id)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Puts tags on the run.

        Raises:
            TrackingError: if they could not be sent.
        """
        with _reported(f"Tagging the training run {self.run_id}", self._config):
            for key, value in tags.items():
                self._client.set_tag(self.run_id, key, _cut(value, _TAG_CHARS))

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
            with _reported(f"Ending the training run {self.run_id}", self._config):
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


# --- the pages --------------------------------------------------------------------------------------------------------


def serve_ui(config: TrackingConfig, *, port: int | None = None, open_browser: bool = False) -> UiServer:
    """Starts `mlflow server` on the store and waits until it answers; use it in `with`, or call `stop`.

    From here on SIGTERM ends this process by `SystemExit(143)`, so that the server never outlives it.

    Args:
        config: its `server` section says where to listen; a free port is taken where the configured one is in use.
        port: insists on this port.
        open_browser: opens the page of the experiment.

    Raises:
        TrackingError: if the store is a server already, `port` is in use, or the server does not come up.
    """
    if not _DATABASE.match(config.uri):
        raise TrackingError(f"'tracking.uri' is no database but {_without_secrets(config.uri)}: open it in a browser.")
    ensure_schema(config)
    host = config.server.host
    server = UiServer(
        config, host, _port(host, config.server.port if port is None else port, insisted=port is not None)
    )
    with server.stopped_on_error(), _reported("Opening the tracking store", config):
        client, experiment = _open(config)  # while the server starts
        view = f"?viewStateShareKey={_VIEW}" if _VIEW_TAG in client.get_experiment(experiment).tags else ""
        server.wait_until_healthy()
    server.url = f"{server.address}/#/experiments/{experiment}/runs{view}"
    if open_browser:
        webbrowser.open(server.url)
    return server


def _port(host: str, wanted: int, *, insisted: bool) -> int:
    """`wanted` if it can be listened on, else a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in (wanted, 0):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError as error:
                if candidate and not insisted:
                    continue
                raise TrackingError(f"Cannot listen on {host}:{candidate} ({error.strerror}); give another.") from None
            return int(probe.getsockname()[1])
    raise TrackingError(f"No port is free on {host}.")


class UiServer:
    """A running `mlflow server`; made by `serve_ui`.

    Attributes:
        address: `http://host:port`, also a tracking URI.
        url: the page of the experiment.
        pid: of the server, which leads a process group of its own.
    """

    def __init__(self, config: TrackingConfig, host: str, port: int) -> None:
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.address = self.url = f"http://{f'[{name}]' if ':' in name else name}:{port}"
        self._log = home() / "mlflow" / f"ui-{port}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._stopped = False
        self._restore = _exit_on_sigterm()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                _command(config, host, port),
                env=_environment(config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        atexit.register(self.stop)
        self.pid = self._process.pid

    @contextmanager
    def stopped_on_error(self) -> Iterator[None]:
        """Leaves no server behind when what is done next fails."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def wait_until_healthy(self) -> None:
        """Returns when the server answers.

        Raises:
            TrackingError: if it ends or stays silent, with the end of its log.
        """
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise TrackingError(f"The server did not start (code {self._process.returncode}): {self._tail()}")
            with suppress(urllib.error.URLError, OSError), opener.open(f"{self.address}/health", timeout=2):
                return
            time.sleep(0.1)
        raise TrackingError(f"The server did not answer within {_START_S:g} s: {self._tail()}")

    def wait(self) -> None:
        """Blocks until Ctrl-C, then stops the server.

        Raises:
            TrackingError: if the server ends by itself.
        """
        try:
            code = self._process.wait()
        except KeyboardInterrupt:
            return self.stop()
        self.stop()
        raise TrackingError(f"The server ended with code {code}: {self._tail()}")

    def stop(self) -> None:
        """Ends the server with all its workers; further calls do nothing."""
        if self._stopped:
            return  # its number may belong to somebody else by now
        self._stopped = True
        atexit.unregister(self.stop)
        self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while self._alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        self._restore()

    def __enter__(self) -> UiServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _alive(self) -> bool:
        self._process.poll()  # reaps it; the group lives as long as any worker does
        return self._signal_group(0)

    def _signal_group(self, number: int) -> bool:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _tail(self) -> str:
        lines = self._log.read_text("utf-8", errors="replace").splitlines()[-15:]
        return _without_secrets("\n".join([f"see {self._log}", *lines]))


def _exit_on_sigterm() -> Callable[[], None]:
    """Makes SIGTERM unwind the stack; returns what undoes it. Only the main thread may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)

    def undo() -> None:
        if signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, before)

    return undo


def _command(config: TrackingConfig, host: str, port: int) -> list[str]:
    server = config.server
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--workers", str(server.workers)]
    if server.allowed_hosts:
        command += ["--allowed-hosts", ",".join(server.allowed_hosts)]
    if server.cors_origins:
        command += ["--cors-allowed-origins", ",".join(server.cors_origins)]
    if server.auth != "none":
        command += ["--app-name", server.auth]
    return command


def _environment(config: TrackingConfig) -> dict[str, str]:
    """The store travels in the environment: a command line, with the database's password, is public.

    On this machine clients write files themselves; for others the server takes them in.
    """
    local = config.server.host in ("127.0.0.1", "localhost", "::1")
    root = "MLFLOW_DEFAULT_ARTIFACT_ROOT" if local else "MLFLOW_ARTIFACTS_DESTINATION"
    # The working directory may hold a folder called mlflow: keep it off the import path.
    return {
        **os.environ,
        **_QUIET,
        "PYTHONSAFEPATH": "1",
        "MLFLOW_BACKEND_STORE_URI": config.uri,
        root: str(config.artifact_root),
    }
