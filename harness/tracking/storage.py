"""The tracking store: how it is created, opened, and how its failures are reported."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import home
from harness.errors import HarnessError, without_secrets
from harness.files import lock_of, new_path
from harness.tracking.config import TrackingConfig

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Opens an experiment on its table of runs; without it the page first asks what kind of experiment this is.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
#: No telemetry, and no background jobs in the server.
QUIET = {
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
_LOG_AGAIN = "Results on disk are complete; correct 'tracking.uri' or restart the server, and log them again."
LOOK_AGAIN = "Check the name, and 'tracking.uri' or the server."


class TrackingError(HarnessError):
    """Something did not reach the tracking store; results on disk are complete."""


class AbsentError(TrackingError):
    """The store answers, and does not hold what was asked for: bad input, exit code 2."""

    exit_code = 2


class TrackingWarning(UserWarning):
    """Something has not reached the tracking store yet; it will be tried again."""


def ensure_schema(config: TrackingConfig) -> None:
    """Creates the database once, however many processes ask at the same time; a tracking server keeps its own.

    A SQLite file is made under another name and renamed, so that no process sees half a schema.

    Raises:
        TrackingError: if it cannot be created.
    """
    path = config.sqlite_path
    if not config.is_database or (path and _has_content(path)):
        return
    with reported("Creating the tracking database", config), lock_of(path or home() / "mlflow" / "database"):
        if path is None:
            _create_schema(config.uri, config)
        elif not _has_content(path):
            with new_path(path) as part:
                part.unlink(missing_ok=True)  # of a process that was killed and had the same number
                _create_schema(f"sqlite:///{part}", config)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _create_schema(uri: str, config: TrackingConfig) -> None:
    silence()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, config.artifact_root).engine.dispose()


def silence() -> None:
    """Switches telemetry off, also where somebody imported mlflow before us."""
    os.environ.update(QUIET)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.telemetry import set_telemetry_client

    set_telemetry_client()


@contextmanager
def reported(action: str, config: TrackingConfig, *, remedy: str = _LOG_AGAIN) -> Iterator[None]:
    """Turns whatever MLflow, its database or the network raise into one clear error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MLflow's own use of its libraries
        silence()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # the last: no database driver
            reason = without_secrets(str(error).strip() or repr(error))[:500]
            absent = isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST"
            kind = AbsentError if absent and remedy == LOOK_AGAIN else TrackingError
            raise kind(f"{action} failed at {without_secrets(config.uri)}: {reason.rstrip('.')}. {remedy}") from error


def connect(config: TrackingConfig) -> MlflowClient:
    """A client of the store, whose schema is created where absent."""
    ensure_schema(config)
    silence()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=config.uri)


def open_store(config: TrackingConfig) -> None:
    """Does beforehand what the first use of the store would: imports MLflow and opens the database, if it is one.

    Raises:
        TrackingError: if the database cannot be opened.
    """
    with reported("Opening the tracking store", config):
        client = connect(config)
        if config.is_database:
            client.get_experiment_by_name(config.tracking.experiment)


def open_experiment(config: TrackingConfig) -> tuple[MlflowClient, str]:
    """A client with the id of the experiment, both made where absent."""
    client = connect(config)
    name = config.tracking.experiment
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        with existing_is_fine():
            client.create_experiment(name, artifact_location=config.artifact_root, tags=_EXPERIMENT_TAGS)
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"The experiment '{name}' at {without_secrets(config.uri)} was deleted: restore it there, or name another "
            "under 'tracking.experiment'."
        )
    return client, str(experiment.experiment_id)


@contextmanager
def existing_is_fine() -> Iterator[None]:
    """For what another process may create at the same moment."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def run_url(config: TrackingConfig, experiment: str, run_id: str) -> str | None:
    """The page of a run; None if the store is not a tracking server."""
    if not config.uri.startswith(("http://", "https://")):
        return None
    return f"{re.sub(r'//[^/@]*@', '//', config.uri).rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"


def withdraw(client: MlflowClient, run_id: str, key_tag: str, *, by: str) -> None:
    """Deletes a run that another replaces; where only its owner may delete it, it loses the tag that it is found by."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_run(run_id)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        client.set_tag(run_id, "replaced_by", by)
        client.delete_tag(run_id, key_tag)


@contextmanager
def failed_if_interrupted(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Marks a run that did not arrive whole, as far as the store still answers."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except BaseException:
        with suppress(MlflowException, OSError):
            client.set_terminated(run_id, "FAILED")
        raise
