"""Evaluation runs in a real SQLite store."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.results import write_results
from harness.tracking.config import LoggingConfig, StoreConfig, TrackingConfig
from harness.tracking.evaluations import log_run
from harness.tracking.storage import TrackingError
from tests.tracking.examples import SVG, metric, result
from tests.tracking.processes import finished, python

# How MLflow uses its libraries: raised when its database classes are first used, here by the tests themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class TestLogRun:
    def test_metrics_carry_intervals_and_counts(self, client, logged):
        run = client.get_run(logged.run_id)
        assert run.info.status == "FINISHED"
        assert logged.url is None
        assert run.data.metrics == {
            **{f"cra.{d}.pmi.r_at_1": 0.5 for d in ("u2u", "u2t", "t2u")},
            **{f"ci95/cra.{d}.pmi.r_at_1.low": 0.4 for d in ("u2u", "u2t", "t2u")},
            **{f"ci95/cra.{d}.pmi.r_at_1.high": 0.6 for d in ("u2u", "u2t", "t2u")},
            "cra.u2t.gold_nll": 3.25,
            "counts/cra.n_expected": 3.0,
            "counts/cra.n_scored": 2.0,
            "counts/cra.n_failed": 1.0,
        }

    def test_parameters_are_the_protocol(self, client, logged):
        params = client.get_run(logged.run_id).data.params
        assert params["tasks.cra.norm"] == '["pmi", "sum"]'
        assert params["model.card.training.mixture.ast"] == "0.25"
        assert params["model.card.source"] == ""
        assert params["versions.torch"] == "2.11.0"
        assert params["run.odd key_"] == "true"
        assert params["run.long"] == "y" * 999 + "…"

    def test_tags_relate_flat_runs(self, client, logged):
        tags = client.get_run(logged.run_id).data.tags
        expected = {
            "run_id": "sutlm-tiny-ab12",
            "mlflow.runName": "sutlm-tiny-ab12",
            "model": "sutlm-tiny",
            "fingerprint": "9c1e",
            "corpus": "demo",
            "split": "test",
            "tasks": "cra",
            "signature.cra": "cra|v1|corpus:demo@3fa9",
            "git_revision": "f00d+dirty",
            "mlflow.source.git.commit": "f00d",
            "harness_version": "9.9",
            "team": "speech",
        }
        assert expected.items() <= tags.items()
        assert "mlflow.parentRunId" not in tags
        assert "| cra.u2t.pmi.r_at_1 | 0.5 | 0.4 – 0.6 | 0.005 | 200 |" in tags["mlflow.note.content"]
        assert "gold_nll" not in tags["mlflow.note.content"]  # no headline

    def test_the_results_are_artifacts_and_nothing_else_is(self, client, logged, folder, tmp_path):
        at = Path(client.download_artifacts(logged.run_id, "", str(tmp_path)))
        files = {path.relative_to(at).as_posix() for path in at.rglob("*") if path.is_file()}
        assert files == {"results.json", "protocol.json", "items/cra.jsonl", "cra.json", "figures/cra.r_at_1.svg"}
        for name in ("results.json", "protocol.json", "items/cra.jsonl"):
            assert (at / name).read_bytes() == (folder / name).read_bytes()
        assert (at / "figures/cra.r_at_1.svg").read_text() == SVG

    def test_the_table_has_flat_columns_and_is_known_to_the_evaluation_view(self, client, logged, tmp_path):
        table = json.loads(Path(client.download_artifacts(logged.run_id, "cra.json", str(tmp_path))).read_text())
        assert table["columns"] == ["id", "output", "nll.sum", "nll.pmi", "ranks", "group", "failed", "direction"]
        assert table["data"][0] == ["utt-1", "hello", 3.5, 1.0, "[1, 2]", None, None, None]
        assert table["data"][1][3] is None
        assert len(table["data"][1][1]) == 4000
        tag = client.get_run(logged.run_id).data.tags["mlflow.loggedArtifacts"]
        assert json.loads(tag) == [{"path": "cra.json", "type": "table"}]

    def test_the_experiment_opens_on_its_runs(self, client, logged, store):
        experiment = client.get_experiment_by_name("sutlm")
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
        assert experiment.artifact_location == store.artifact_root

    def test_the_same_run_again_replaces_the_first(self, store, client, tmp_path):
        write_results(result("again"), tmp_path)
        config = replace(store, logging=LoggingConfig(tables=False))
        first = log_run(result("again"), config, infos={}, folder=tmp_path)
        second = log_run(result("again", score=0.75), config, infos={}, folder=tmp_path)
        runs = client.search_runs([client.get_experiment_by_name("sutlm").experiment_id], "tags.run_id = 'again'")
        assert [run.info.run_id for run in runs] == [second.run_id] != [first.run_id]
        assert runs[0].data.metrics["cra.u2t.pmi.r_at_1"] == 0.75
        assert {a.path for a in client.list_artifacts(second.run_id)} == {"results.json", "protocol.json", "items"}

    def test_a_run_that_did_not_arrive_whole_is_marked_and_told(self, store, client, tmp_path):
        with pytest.raises(TrackingError, match=r"Logging run partial failed at sqlite.*results\.json.*log them again"):
            log_run(result("partial"), store, infos={}, folder=tmp_path)
        (run,) = client.search_runs(
            [client.get_experiment_by_name("sutlm").experiment_id], "tags.run_id = 'partial'", max_results=2
        )
        assert run.info.status == "FAILED"

    def test_more_than_a_request_holds_arrives(self, store, client, tmp_path):
        big = result("big")
        task = replace(big.tasks["cra"], metrics={f"cra.c{i}.m": metric(float(i)) for i in range(700)})
        big = replace(big, tasks={"cra": task}, protocol={f"p{i}": i for i in range(250)})
        write_results(big, tmp_path)
        run = client.get_run(log_run(big, store, infos={}, folder=tmp_path).run_id)
        assert len(run.data.metrics) == 3 * 700 + 3
        assert {f"p{i}": str(i) for i in range(250)}.items() <= run.data.params.items()

    @pytest.mark.parametrize(
        "uri", ["http://me:secret@127.0.0.1:9", "sqlite:////proc/none/x.db", "./mlruns", "mssql+absent://me:secret@h/n"]
    )
    def test_an_unusable_store_is_one_clear_error_without_secrets(self, uri, folder, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        config = TrackingConfig(tracking=StoreConfig(uri=uri))
        with pytest.raises(TrackingError, match="Results on disk are complete") as caught:
            log_run(result(), config, infos={}, folder=folder)
        assert "secret" not in str(caught.value)
        assert caught.value.exit_code == 1
        assert list(tmp_path.iterdir()) == []


class TestView:
    def test_the_runs_table_opens_with_the_main_metrics(self, logged, client):
        tag = client.get_experiment_by_name("sutlm").tags["mlflow.sharedViewState.harness"]
        columns = json.loads(tag)["selectedColumns"]
        assert columns[1:5] == ["tags.`model`", "tags.`corpus`", "tags.`split`", "tags.`tasks`"]
        assert [c for c in columns if c.startswith("metrics")] == [
            f"metrics.`cra.{d}.pmi.r_at_1`" for d in ("u2u", "u2t", "t2u")
        ]


class TestTelemetry:
    CODE = """
        import sys, time
        reached = []
        sys.addaudithook(lambda name, args: reached.append((name, args)) if name in EVENTS else None)
        EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
        from pathlib import Path
        from harness.tracking.config import StoreConfig, TrackingConfig
        from harness.tracking.evaluations import log_run
        assert "mlflow" not in sys.modules
        from harness.results import read_results
        config = TrackingConfig(tracking=StoreConfig(uri=sys.argv[1]))
        log_run(read_results(Path(sys.argv[2])), config, infos={}, folder=Path(sys.argv[2]))
        from mlflow.telemetry.client import get_telemetry_client
        assert get_telemetry_client() is None
        time.sleep(1)
        print(reached)
    """

    def test_logging_reaches_no_other_machine(self, store, folder):
        off = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS")
        environment = {key: value for key, value in os.environ.items() if key not in off}
        assert finished(python(self.CODE, store.uri, folder, env=environment)).strip() == "[]"
