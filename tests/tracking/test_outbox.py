"""Results that could not be sent: a real MLflow server that is killed while it takes a run in, and comes back."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness.cli.main import main
from harness.results import read_results
from harness.tracking import server as mlflow_server
from harness.tracking.config import StoreConfig, TrackingConfig
from harness.tracking.evaluations import log_run
from harness.tracking.outbox import log_or_queue, sync, unsent
from harness.tracking.storage import TrackingError, ensure_schema
from tests.runs import drawn, written
from tests.tracking.senders import active, held_sender

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def infos(result):
    return {}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A store in a file, which the tests of this file share; each logs a model of its own."""
    return TrackingConfig(tracking=StoreConfig(uri=f"sqlite:///{tmp_path_factory.mktemp('store')}/runs.db"))


@pytest.fixture
def nowhere():
    """A server that is not there."""
    return TrackingConfig(tracking=StoreConfig(uri=f"http://127.0.0.1:{free_port()}"))


class TestQueue:
    def test_what_arrived_waits_no_more(self, local, empty_home, tmp_path):
        result = drawn("model-0", skill=0.5, num=4)
        folder = written(result, tmp_path / "a")
        log_or_queue(result, local, infos={}, folder=folder)
        assert unsent() == []
        assert list(sync(local, infos)) == []
        assert len(active(local.uri, result.run_id)) == 1

    def test_what_did_not_arrive_waits_and_is_sent_once(self, local, nowhere, empty_home, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        result = drawn("model-1", skill=0.5, num=4)
        folder = written(result, tmp_path / "a")
        with pytest.raises(TrackingError, match="Logging run model-1-"):
            log_or_queue(result, nowhere, infos={}, folder=folder)
        assert unsent() == [folder]
        [failed] = sync(nowhere, infos)
        assert failed.logged is None
        assert "failed at http://127.0.0.1" in failed.problem
        assert unsent() == [folder]
        [sent] = sync(local, infos)
        assert (sent.run_id, sent.problem) == (result.run_id, "")
        assert list(sync(local, infos)) == []
        [run] = active(local.uri, result.run_id)
        assert run.info.run_id == sent.logged.run_id
        assert run.data.metrics["cra.u2t.pmi.r_at_1"] == result.metrics["cra.u2t.pmi.r_at_1"].value

    def test_named_folders_are_sent_too_and_never_twice(self, local, empty_home, tmp_path):
        folder = written(drawn("model-2", skill=0.5, num=4), tmp_path / "a")
        for _ in range(2):
            [sent] = sync(local, infos, [folder])
        assert len(active(local.uri, sent.run_id)) == 1

    def test_a_folder_that_holds_another_run_now_is_let_go(self, local, nowhere, empty_home, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        old, new = drawn("model-3", skill=0.5, num=4), drawn("b", skill=0.5, num=4)
        folder = written(old, tmp_path / "a")
        with pytest.raises(TrackingError):
            log_or_queue(old, nowhere, infos={}, folder=folder)
        written(new, folder)
        [gone] = sync(local, infos)
        assert gone.problem == f"{folder} now holds run {new.run_id}. It is no longer queued."
        assert unsent() == []

    def test_a_run_that_was_made_twice_by_a_repeated_request_counts_once(
        self, local, empty_home, tmp_path, monkeypatch
    ):
        """The answer to a request can be lost on its way; whoever sends it again makes a second run."""
        result = drawn("model-4", skill=0.5, num=4)
        folder = written(result, tmp_path / "a")
        create = MlflowClient.create_run

        def twice(self, *arguments, **more):
            create(self, *arguments, **more)
            return create(self, *arguments, **more)

        monkeypatch.setattr(MlflowClient, "create_run", twice)
        logged = log_run(result, local, infos={}, folder=folder)
        assert [r.info.run_id for r in active(local.uri, result.run_id)] == [logged.run_id]

    def test_the_command_says_what_was_sent(self, local, nowhere, empty_home, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        result = drawn("model-5", skill=0.5, num=4)
        folder = written(result, tmp_path / "a")
        with pytest.raises(TrackingError):
            log_or_queue(result, nowhere, infos={}, folder=folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", nowhere.uri)
        assert main(["sync"]) == 1
        assert "0 sent, 1 waiting" in capsys.readouterr().out
        monkeypatch.setenv("MLFLOW_TRACKING_URI", local.uri)
        assert main(["sync", "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        assert (len(data["runs"]), data["runs"][0]["sent"], data["waiting"]) == (1, True, [])
        assert main(["sync"]) == 0
        assert "0 sent, 0 waiting" in capsys.readouterr().out


class Server:
    """`mlflow server` over a database, on the same port every time."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.database = folder / "server.db"
        self.uri = f"http://127.0.0.1:{self.port}"
        store = TrackingConfig(tracking=StoreConfig(uri=f"sqlite:///{self.database}"))
        ensure_schema(store)
        self.command = mlflow_server._command(store, "127.0.0.1", self.port)
        self.environment = mlflow_server._environment(store)

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def count(self, table):
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.mark.slow
def test_a_server_killed_while_it_takes_a_run_in_costs_nothing(server, empty_home, tmp_path, monkeypatch):
    result = drawn("model-5", skill=0.5, num=300)
    folder = written(result, tmp_path / "a")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    server.start()
    sender = held_sender(folder)
    assert (server.count("runs"), server.count("metrics")) == (1, 0)
    server.kill()
    _, err = sender.communicate(timeout=300)
    assert sender.returncode == 1
    assert "not sent: Logging run" in err
    assert unsent() == [folder]
    assert read_results(folder) == result  # whole on disk
    assert server.count("runs") == 1

    server.start()
    done = [subprocess.Popen([sys.executable, "-m", "harness", "sync"]) for _ in range(2)]  # two at once send it once
    assert [process.wait(timeout=300) for process in done] == [0, 0]
    [run] = active(server.uri, result.run_id)
    assert run.info.status == "FINISHED"
    for key, metric in result.metrics.items():
        assert run.data.metrics[key] == metric.value
    items = Path(MlflowClient(tracking_uri=server.uri).download_artifacts(run.info.run_id, "items/cra.jsonl"))
    assert items.read_bytes() == (folder / "items" / "cra.jsonl").read_bytes()
    assert main(["sync"]) == 0
    assert len(active(server.uri, result.run_id)) == 1
