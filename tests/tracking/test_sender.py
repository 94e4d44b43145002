"""Results sent by a process of its own, into a real SQLite store."""

import os
import signal
import time

import pytest
from mlflow import MlflowClient

from harness.task import TaskInfo
from harness.tracking.config import StoreConfig, TrackingConfig
from harness.tracking.outbox import unsent
from harness.tracking.sender import ResultSender
from harness.tracking.storage import TrackingError
from tests.runs import drawn, written

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

INFO = TaskInfo(
    "cra", 1, "retrieval", "this test",
    headline=("cra.u2t.pmi.r_at_1",), main=("cra.u2t.pmi.r_at_1",),
)  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return TrackingConfig(tracking=StoreConfig(uri=f"sqlite:///{tmp_path}/runs.db"), tags={"team": "speech"})


def test_results_arrive_one_after_the_other(store, empty_home, tmp_path):
    results = [drawn(name, skill=0.5, num=4) for name in ("a", "b")]
    with ResultSender(store) as sender:
        logged = [sender.send(r, infos={"cra": INFO}, folder=written(r, tmp_path / r.run_id)) for r in results]
    client = MlflowClient(tracking_uri=store.uri)
    for result, one in zip(results, logged, strict=True):
        run = client.get_run(one.run_id)
        assert (run.info.status, run.info.run_name, one.url) == ("FINISHED", result.run_id, None)
        assert run.data.tags["team"] == "speech"
        assert "| cra.u2t.pmi.r_at_1 |" in run.data.tags["mlflow.note.content"]
        assert run.data.metrics["cra.u2t.pmi.r_at_1"] == result.metrics["cra.u2t.pmi.r_at_1"].value
        assert {file.path for file in client.list_artifacts(one.run_id)} >= {"cra.json", "items", "results.json"}
    assert unsent() == []


def test_what_cannot_be_sent_is_an_error_and_stays_queued(empty_home, tmp_path):
    nowhere = TrackingConfig(tracking=StoreConfig(uri="sqlite:////proc/none/x.db"))
    result = drawn("a", skill=0.5, num=4)
    folder = written(result, tmp_path / "a")
    with ResultSender(nowhere) as sender:
        for _ in range(2):
            with pytest.raises(TrackingError, match="Creating the tracking database failed"):
                sender.send(result, infos={}, folder=folder)
    assert unsent() == [folder]


def test_a_process_that_was_killed_loses_no_result(store, empty_home, tmp_path):
    result = drawn("a", skill=0.5, num=4)
    folder = written(result, tmp_path / "a")
    with ResultSender(store) as sender:
        os.kill(sender.pid, signal.SIGKILL)
        time.sleep(0.1)
        with pytest.raises(TrackingError, match=f"The process that sends run {result.run_id} .* has ended"):
            sender.send(result, infos={}, folder=folder)
    assert unsent() == [folder]


def test_it_ends_with_the_block_whether_or_not_anything_was_sent(store, empty_home):
    with ResultSender(store) as sender:
        pid = sender.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not list(empty_home.rglob("*.part"))
