"""A tracking store for the tests of each file, and a result on disk and in it."""

import shutil

import pytest
from mlflow import MlflowClient

from harness.results import write_results
from harness.tracking.config import StoreConfig, TrackingConfig
from harness.tracking.evaluations import log_run
from harness.tracking.storage import ensure_schema
from tests.tracking.examples import INFO, SVG, result


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A SQLite file with MLflow's schema and nothing in it."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    ensure_schema(TrackingConfig(tracking=StoreConfig(uri=f"sqlite:///{path}")))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory, empty_database):
    """A store that the tests of a file share."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copy(empty_database, folder / "mlflow.db")
    return TrackingConfig(tracking=StoreConfig(uri=f"sqlite:///{folder}/mlflow.db"), tags={"team": "speech"})


@pytest.fixture(scope="module")
def client(store):
    return MlflowClient(tracking_uri=store.uri)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`result()` on disk, with a file beside it that nobody asked to log."""
    folder = tmp_path_factory.mktemp("results")
    write_results(result(), folder)
    (folder / "figures").mkdir()
    (folder / "figures" / "cra.r_at_1.svg").write_text(SVG)
    (folder / "notes.txt").write_text("private")
    return folder


@pytest.fixture(scope="module")
def logged(store, client, folder):
    return log_run(result(), store, infos={"cra": INFO}, folder=folder)
