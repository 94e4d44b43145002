"""Settings of tracking: `mlflow.yaml`, the environment, the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from harness.config import STRICT, build, home, merge, read_yaml

#: Signs of a database that MLflow opens itself; everything else is a server or MLflow's own business.
_DATABASE_URI = re.compile(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://")


@dataclass(frozen=True, config=STRICT)
class StoreConfig:
    """Where runs are stored.

    Attributes:
        uri: SQLite, PostgreSQL or a tracking server; None: `$HARNESS_HOME/mlflow/mlflow.db`.
        experiment: the MLflow experiment that runs belong to.
        artifact_location: folder or bucket of a new experiment's files; None: beside the database.
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
        system_metrics: sample CPU, memory and GPU while training.
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
        storage: Optuna's database; None: SQLite in the sweep's folder.
        heartbeat_s: seconds between a worker's heartbeats.
        grace_s: seconds without a heartbeat after which its trial is retried.
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
    def is_database(self) -> bool:
        """Whether the store is a database that MLflow opens itself, rather than a tracking server."""
        return _DATABASE_URI.match(self.uri) is not None

    @property
    def sqlite_path(self) -> Path | None:
        """The file of a SQLite database; None for other stores and for one in memory."""
        scheme, _, rest = self.uri.partition(":///")
        name = rest.partition("?")[0]
        return Path(name) if scheme.startswith("sqlite") and name else None

    @property
    def artifact_root(self) -> str | None:
        """Where a new experiment's files go; None leaves it to the tracking server."""
        if self.tracking.artifact_location or not self.is_database:
            return self.tracking.artifact_location
        path = self.sqlite_path
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
    tracking_config(data, where=str(file))
    environment = {"uri": os.environ.get("MLFLOW_TRACKING_URI"), "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME")}
    data = merge(data, {"tracking": {key: value for key, value in environment.items() if value}})
    return tracking_config(merge(data, overrides or {}), where="tracking settings")


def tracking_config(data: Mapping[str, Any], *, where: str) -> TrackingConfig:
    """The settings of nested mappings, built section by section: a message names the section and the nearest key.

    Raises:
        ConfigError: naming `where`, for an unknown key and for an unfit value.
    """
    sections = {
        name: build(_SECTIONS[name], value, where=f"{where}: {name}")
        if name in _SECTIONS and isinstance(value, Mapping)
        else value
        for name, value in data.items()
        if value is not None
    }
    return build(TrackingConfig, sections, where=where)
