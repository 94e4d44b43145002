"""Tracking against a real SQLite store and a real MLflow server."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness.errors import CheckpointError, ConfigError, InputError
from harness.model import ModelCard, read_card
from harness.results import Item, Metric, RunResult, TaskResult, read_results, write_results
from harness.task import TaskInfo
from harness.tracking import server as mlflow_server
from harness.tracking.config import LoggingConfig, ServerConfig, StoreConfig, TrackingConfig, load_tracking_config
from harness.tracking.evaluations import log_run
from harness.tracking.reading import fetch_run, stored_runs
from harness.tracking.registry import fetch_model, register_model
from harness.tracking.server import serve_ui
from harness.tracking.storage import AbsentError, TrackingError, TrackingWarning, ensure_schema
from harness.tracking.training import training_logger

# How MLflow uses its libraries: raised when its database classes are first used, here by the tests themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'
INFO = TaskInfo(
    "cra",
    1,
    "retrieval",
    "this test",
    headline=("cra.u2t.pmi.r_at_1",),
    main=tuple(f"cra.{d}.pmi.r_at_1" for d in ("u2u", "u2t", "t2u", "t2t")),
)


def metric(value, **changes):
    return replace(Metric(value, n=200, higher_is_better=True, ci95=(0.4, 0.6), chance=0.005), **changes)


def result(run_id="sutlm-tiny-ab12", score=0.5):
    metrics = {f"cra.{d}.pmi.r_at_1": metric(score) for d in ("u2u", "u2t", "t2u")}
    metrics["cra.u2t.gold_nll"] = metric(3.25, ci95=None, chance=None, higher_is_better=False)
    items = [
        Item("utt-1", output="hello", scores={"nll": {"sum": 3.5, "pmi": 1.0}, "ranks": [1, 2]}),
        Item("utt-2", group="s", output="x" * 9000, failed="too long", extra={"direction": "u2t"}),
    ]
    task = TaskResult("cra", "cra|v1|corpus:demo@3fa9", metrics, 3, 2, 1, {"norm": ["pmi", "sum"], "n": 200}, items)
    protocol = {
        "run": {"seed": 0, "odd key@": True, "long": "y" * 9000},
        "model": {"card": {"training": {"mixture": {"ast": 0.25}}, "source": ""}},
        "tasks": {"cra": task.protocol},
        "versions": {"harness": "9.9", "torch": "2.11.0"},
        "git": "f00d+dirty",
    }
    model = {"name": "sutlm-tiny", "fingerprint": "9c1e"}
    return RunResult(run_id, model, {"name": "demo", "split": "test", "digest": "3fa9"}, {"cra": task}, protocol)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store that the tests of this file share."""
    folder = tmp_path_factory.mktemp("store")
    return TrackingConfig(tracking=StoreConfig(uri=f"sqlite:///{folder}/mlflow.db"), tags={"team": "speech"})


@pytest.fixture(scope="module")
def client(store):
    ensure_schema(store)
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


@pytest.fixture(scope="module")
def server(store, client, tmp_path_factory):
    """The pages of the store, started where the configured port is taken."""
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as taken:
        patch.setenv("HARNESS_HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "PYTEST_CURRENT_TEST"):
            patch.delenv(name, raising=False)
        port = taken.getsockname()[1]
        with serve_ui(replace(store, server=ServerConfig(port=port))) as server:
            assert not server.address.endswith(f":{port}")
            yield server
        assert group_is_gone(server.pid)


def python(code, *arguments, **kwargs):
    """A Python process that runs `code`."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def finished(process):
    """Standard output of a process that must succeed."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


class TestConfig:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)

    def test_the_shipped_file_says_what_is_built_in(self):
        assert load_tracking_config(ROOT / "mlflow.yaml") == load_tracking_config() == TrackingConfig()

    def test_the_default_store_is_sqlite_at_home(self, empty_home):
        config = load_tracking_config()
        assert config.uri == f"sqlite:///{empty_home}/mlflow/mlflow.db"
        assert config.artifact_root == f"{empty_home}/mlflow/artifacts"

    def test_command_line_over_environment_over_file_over_default(self, monkeypatch):
        Path("mlflow.yaml").write_text("tracking: {uri: file-uri, experiment: file}\nserver: {port: 1}\n")
        config = load_tracking_config()
        assert (config.uri, config.tracking.experiment, config.server.port) == ("file-uri", "file", 1)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "environment-uri")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "environment")
        config = load_tracking_config(None, {"tracking": {"uri": "command-uri"}})
        assert (config.uri, config.tracking.experiment) == ("command-uri", "environment")
        assert (config.server.port, config.server.host) == (1, "127.0.0.1")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("server: {prot: 1}", r"mlflow\.yaml: server: unknown key 'prot'\. Did you mean 'port'\?"),
            ("trackin: {}", r"mlflow\.yaml: unknown key 'trackin'\. Did you mean 'tracking'\?"),
            ("logging: {flush_every_steps: 0}", "'flush_every_steps'.*greater than 0"),
            ("server: {auth: secret}", "'auth'.*basic-auth"),
            ("server: 5000", "'server'"),
            ("tags: {team: [a]}", r"'tags\.team'"),
            ("sweep: {heartbeat_s: 60, grace_s: 60}", "grace_s 60.0 must exceed heartbeat_s 60.0"),
        ],
    )
    def test_what_does_not_fit_is_an_error(self, text, message):
        Path("mlflow.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_tracking_config()

    def test_an_unknown_override_is_an_error(self):
        with pytest.raises(ConfigError, match="tracking: unknown key 'url'"):
            load_tracking_config(None, {"tracking": {"url": "x"}})

    def test_a_named_file_must_exist(self):
        with pytest.raises(ConfigError, match=r"absent\.yaml"):
            load_tracking_config(Path("absent.yaml"))

    def test_an_empty_section_keeps_its_defaults(self):
        Path("mlflow.yaml").write_text("server:\ntags:\n")
        assert load_tracking_config() == TrackingConfig()

    @pytest.mark.parametrize(
        ("uri", "root"),
        [("http://tracking:5000", None), ("sqlite:////data/x.db", "/data/artifacts"), ("postgresql://h/n", "HOME")],
    )
    def test_files_lie_beside_the_database_unless_a_server_keeps_them(self, uri, root, empty_home):
        config = TrackingConfig(tracking=StoreConfig(uri=uri))
        assert config.artifact_root == (f"{empty_home}/mlflow/artifacts" if root == "HOME" else root)
        named = TrackingConfig(tracking=StoreConfig(uri=uri, artifact_location="s3://bucket"))
        assert named.artifact_root == "s3://bucket"


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
        with pytest.raises(TrackingError, match="Results on disk are whole") as caught:
            log_run(result(), config, infos={}, folder=folder)
        assert "secret" not in str(caught.value)
        assert caught.value.exit_code == 1
        assert list(tmp_path.iterdir()) == []


class TestSchema:
    CODE = """
        import os, sys
        import mlflow.store.tracking.sqlalchemy_store  # once, so that the four start as one
        from harness.tracking.config import StoreConfig, TrackingConfig
        from harness.tracking.training import training_logger
        config = TrackingConfig(tracking=StoreConfig(uri=sys.argv[1]))

        def train(name):
            with training_logger(config, name, {"name": name}, {}) as logger:
                for step in range(1, 121):
                    logger.log(step, {"loss": 1 / step})
            os._exit(0)

        children = [os.fork() or train(name) for name in "abcd"]
        print([os.waitpid(child, 0)[1] for child in children])
    """

    def test_four_processes_at_once_share_a_fresh_store(self, tmp_path):
        (tmp_path / "mlflow.db").touch()  # an empty file is no database yet
        (tmp_path / "mlflow.db.part").write_text("left by a process that was killed")
        assert finished(python(self.CODE, f"sqlite:///{tmp_path}/mlflow.db")) == "[0, 0, 0, 0]\n"
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
        (experiment,) = client.search_experiments(filter_string="name = 'sutlm'")
        runs = client.search_runs([experiment.experiment_id])
        assert sorted(run.info.run_name for run in runs) == list("abcd")
        assert all(run.info.status == "FINISHED" for run in runs)
        assert all(len(client.get_metric_history(run.info.run_id, "loss")) == 120 for run in runs)
        assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.lock"}


class TestTrainingLogger:
    def steps(self, client, run_id, key="loss"):
        return [point.step for point in client.get_metric_history(run_id, key)]

    def config(self, store, **settings):
        return replace(store, logging=LoggingConfig(**settings))

    def test_metrics_travel_together(self, store, client):
        with training_logger(self.config(store, flush_every_steps=5), "train", {"lr": 1e-3}, {}) as logger:
            for step in range(1, 6):
                logger.log(step, {"loss": 1.0})
            assert self.steps(client, logger.run_id) == []
            logger.log(6, {"loss": 1.0})
            assert self.steps(client, logger.run_id) == [1, 2, 3, 4, 5, 6]
            logger.log(7, {"loss": float("nan")})
        run = client.get_run(logger.run_id)
        assert self.steps(client, logger.run_id) == [1, 2, 3, 4, 5, 6, 7]
        assert (run.info.status, run.data.params, run.data.tags["team"]) == ("FINISHED", {"lr": "0.001"}, "speech")

    CODE = """
        import os, signal, sys
        from harness.tracking.config import LoggingConfig, StoreConfig, TrackingConfig
        from harness.tracking.training import training_logger
        config = TrackingConfig(tracking=StoreConfig(uri=sys.argv[1]), logging=LoggingConfig(flush_every_steps=4))
        logger = training_logger(config, "train", {"steps": 10}, {"key": "it's 3"})
        for step in range(1, 11):
            logger.log(step, {"loss": 1.0} | ({"dev.loss": 2.0} if step % 5 == 0 else {}))
        print(logger.run_id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """

    def test_a_killed_training_goes_on_in_its_run_and_repeats_no_step(self, store, client):
        process = python(self.CODE, store.uri)
        killed = process.communicate(timeout=120)[0].strip()
        assert process.returncode == -signal.SIGKILL
        assert client.get_run(killed).info.status == "RUNNING"
        assert self.steps(client, killed) == list(range(1, 10))  # the tenth was waiting
        logger = training_logger(store, "train", {"steps": 20, "new": 1}, {"key": "it's 3"})
        assert logger.run_id == killed
        for step in range(4, 21):  # from the checkpoint of step 3
            logger.log(step, {"loss": 1.0} | ({"dev.loss": 2.0} if step % 5 == 0 else {}))
        logger.close()
        logger.close()
        assert self.steps(client, killed) == list(range(1, 21))
        assert self.steps(client, killed, "dev.loss") == [5, 10, 15, 20]
        run = client.get_run(killed)
        assert (run.info.status, run.data.params) == ("FINISHED", {"steps": "10", "new": "1"})
        assert run.data.tags["resumed.steps"] == "20"

    def test_another_key_is_another_run(self, store):
        one = training_logger(store, "train", {}, {"trial_key": "1"}, key_tag="trial_key")
        two = training_logger(store, "train", {}, {"trial_key": "2"}, key_tag="trial_key")
        again = training_logger(store, "train", {}, {"trial_key": "1"}, key_tag="trial_key")
        assert one.run_id == again.run_id != two.run_id
        for logger in (one, two, again):
            logger.close()

    @pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
    def test_what_ends_the_training_ends_the_run(self, store, client, error, status):
        logger = training_logger(store, "train", {}, {})
        with pytest.raises(error, match="over"), logger:
            raise_after_a_step(logger, error("over"))
        assert client.get_run(logger.run_id).info.status == status
        assert self.steps(client, logger.run_id) == [1]

    def test_what_could_not_be_sent_is_kept(self, store, client, monkeypatch):
        logger = training_logger(self.config(store, flush_every_steps=1), "train", {}, {})
        logger.log(1, {"loss": 1.0})
        with monkeypatch.context() as patch:
            patch.setattr(logger._client, "log_batch", broken)
            with pytest.warns(TrackingWarning, match="no route"):
                logger.log(2, {"loss": 1.0})
            with pytest.raises(TrackingError, match="no route"):
                logger.flush()
        logger.close()
        assert self.steps(client, logger.run_id) == [1, 2]

    def test_a_tracking_failure_does_not_hide_what_ended_the_training(self, store, monkeypatch):
        logger = training_logger(store, "train", {}, {})
        monkeypatch.setattr(logger._client, "log_batch", broken)
        with pytest.raises(ValueError, match="diverged") as caught, logger:
            raise_after_a_step(logger, ValueError("diverged"))
        assert "no route" in caught.value.__notes__[0]

    def test_system_metrics_are_sampled_if_asked_for(self, store, client, monkeypatch):
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
        with training_logger(self.config(store, system_metrics=True), "train", {}, {}) as logger:
            until(lambda: client.get_run(logger.run_id).data.metrics)
        assert any(key.startswith("system/cpu") for key in client.get_run(logger.run_id).data.metrics)

    def test_checkpoints_become_versions_if_asked_for(self, store, client, tmp_path, empty_home):
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        card = ModelCard("trained", "sutlm", checkpoint=str(tmp_path))
        with training_logger(store, "train", {}, {}) as logger:
            assert logger.register(card, fingerprint="f00") is None
        with training_logger(self.config(store, registry=True), "train", {}, {}) as logger:
            assert logger.register(card, fingerprint="f00") == "models:/trained/1"
            assert logger.register(card, fingerprint="f00") == "models:/trained/2"
        assert client.get_model_version("trained", "2").run_id == logger.run_id
        fetched = read_card(str(fetch_model(store, "models:/trained/2")))
        assert fetched.name == "trained-v2"
        assert (fetched.require_checkpoint() / "model.safetensors").read_bytes() == b"weights"


def raise_after_a_step(logger, error):
    logger.log(1, {"loss": 1.0})
    raise error


def broken(*_, **__):
    raise OSError("no route to host")


def until(condition, seconds=60):
    """Waits for `condition` to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def group_is_gone(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


class TestView:
    def test_the_runs_table_opens_with_the_main_metrics(self, logged, client):
        tag = client.get_experiment_by_name("sutlm").tags["mlflow.sharedViewState.harness"]
        columns = json.loads(tag)["selectedColumns"]
        assert columns[1:5] == ["tags.`model`", "tags.`corpus`", "tags.`split`", "tags.`tasks`"]
        assert [c for c in columns if c.startswith("metrics")] == [
            f"metrics.`cra.{d}.pmi.r_at_1`" for d in ("u2u", "u2t", "t2u")
        ]


class TestStoredRuns:
    def test_a_run_comes_back_as_it_was(self, store, logged, folder, tmp_path):
        back = fetch_run(store, logged.run_id, tmp_path / "back")
        assert read_results(back) == read_results(folder)
        light = fetch_run(store, logged.run_id, tmp_path / "light", items=False)
        assert read_results(light, items=False).metrics == read_results(folder).metrics
        assert not (light / "items").exists()

    def test_an_unknown_run_is_an_error(self, store, tmp_path):
        with pytest.raises(TrackingError, match="Fetching run 0123"):
            fetch_run(store, "0123" * 8, tmp_path)

    def test_the_latest_comes_first_and_only_evaluations_count(self, store, logged, tmp_path):
        later = replace(result("later"), model={"name": "other", "fingerprint": "1"})
        write_results(later, tmp_path)
        second = log_run(later, store, infos={}, folder=tmp_path)
        training_logger(store, "train", {}, {"model": "other"}).close()
        runs = stored_runs(store)
        assert runs[0].id == second.run_id
        assert logged.run_id in {r.id for r in runs}
        assert [r.id for r in stored_runs(store, model="other")] == [second.run_id]

    def test_looking_for_runs_makes_no_experiment(self, store, client, logged):
        elsewhere = replace(store, tracking=replace(store.tracking, experiment="a name with a typo"))
        assert stored_runs(elsewhere) == []
        assert client.get_experiment_by_name("a name with a typo") is None


class TestRegistry:
    @pytest.fixture
    def card(self, tmp_path):
        """A card whose checkpoint holds a folder of its own."""
        (tmp_path / "weights" / "speech").mkdir(parents=True)
        (tmp_path / "weights" / "model.safetensors").write_bytes(b"weights")
        (tmp_path / "weights" / "speech" / "tokenizer.json").write_text("{}")
        return ModelCard("mine", "sutlm", checkpoint="weights", training={"steps": 3}, folder=tmp_path)

    def test_a_registered_checkpoint_comes_back_with_its_card(self, store, card, empty_home):
        uri = register_model(store, card, "tiny", fingerprint="abc", aliases=("best", "prod"))
        assert uri == "models:/tiny/1"
        for name in ("models:/tiny/1", "models:/tiny@best", "models:/tiny@prod"):
            fetched = read_card(str(fetch_model(store, name)))
        assert (fetched.name, fetched.adapter, fetched.training) == ("tiny-v1", "sutlm", {"steps": 3})
        assert fetched.sha256 == hashlib.sha256(b"weights").hexdigest()
        assert (fetched.require_checkpoint() / "speech" / "tokenizer.json").is_file()
        assert len(list((empty_home / "registry").glob("tiny-v1-*/"))) >= 1

    def test_an_alias_moves_to_the_newest(self, store, card, empty_home):
        register_model(store, card, "moving", fingerprint="abc", aliases=("best",))
        (card.checkpoint_path / "model.safetensors").write_bytes(b"better")
        register_model(store, card, "moving", fingerprint="abd", aliases=("best",))
        best = read_card(str(fetch_model(store, "models:/moving@best")))
        assert best.name == "moving-v2"
        assert (best.checkpoint_path / "model.safetensors").read_bytes() == b"better"

    def test_evaluations_are_linked_to_the_model_they_evaluate(self, store, client, card, tmp_path):
        register_model(store, card, "linked", fingerprint="linked-fingerprint")
        evaluated = replace(result("of-linked"), model={"name": "mine", "fingerprint": "linked-fingerprint"})
        write_results(evaluated, tmp_path / "out")
        logged = log_run(evaluated, store, infos={"cra": INFO}, folder=tmp_path / "out")
        [model] = client.get_run(logged.run_id).inputs.model_inputs
        found = client.get_logged_model(model.model_id)
        assert {m.key: m.value for m in found.metrics}["cra.u2t.pmi.r_at_1"] == 0.5

    @pytest.mark.parametrize(
        ("name", "alias", "message"),
        [("a/b", "best", "'a/b' cannot name"), ("x", "v1", "'v1' cannot be an alias"), ("x", "Latest", "'Latest'")],
    )
    def test_names_that_cannot_be_are_refused_at_once(self, store, client, card, name, alias, message):
        before = {m.name for m in client.search_registered_models()}
        with pytest.raises(InputError, match=message):
            register_model(store, card, name, fingerprint="abc", aliases=("fine", alias))
        assert {m.name for m in client.search_registered_models()} == before

    def test_what_cannot_be_had_is_an_error(self, store, client, card):
        with pytest.raises(InputError, match="names no registered model; write models:/NAME/VERSION"):
            fetch_model(store, "models:/tiny")
        with pytest.raises(AbsentError, match="Fetching models:/nosuch/1") as caught:
            fetch_model(store, "models:/nosuch/1")
        assert caught.value.exit_code == 2
        with pytest.raises(CheckpointError, match="no weights"):
            register_model(store, replace(card, checkpoint="nowhere"), "tiny", fingerprint="")
        client.create_registered_model("bare")
        client.create_model_version("bare", str(card.checkpoint_path))
        with pytest.raises(TrackingError, match="was not registered by 'harness register'"):
            fetch_model(store, "models:/bare/1")


class TestServer:
    def get(self, server, path):
        with urllib.request.urlopen(f"{server.address}/{path}", timeout=30) as answer:
            return answer.read()

    def test_the_address_shows_the_experiment(self, server, client):
        experiment = client.get_experiment_by_name("sutlm").experiment_id
        assert server.url.startswith(f"{server.address}/#/experiments/{experiment}/runs")
        assert b"<title>MLflow</title>" in self.get(server, "")

    def test_it_logs_and_shows_a_run(self, server, folder):
        config = TrackingConfig(tracking=StoreConfig(uri=server.address))
        logged = log_run(result("over-http"), config, infos={"cra": INFO}, folder=folder)
        assert logged.url == server.url.partition("?")[0] + f"/{logged.run_id}"
        run = MlflowClient(tracking_uri=server.address).get_run(logged.run_id)
        assert run.data.metrics["ci95/cra.u2t.pmi.r_at_1.high"] == 0.6
        query = f"get-artifact?path=figures/cra.r_at_1.svg&run_uuid={logged.run_id}"
        assert self.get(server, query) == SVG.encode()
        table = json.loads(self.get(server, f"get-artifact?path=cra.json&run_uuid={logged.run_id}"))
        assert [row[0] for row in table["data"]] == ["utt-1", "utt-2"]

    def test_a_checkpoint_is_registered_and_comes_back_over_http(self, server, tmp_path, empty_home):
        config = TrackingConfig(tracking=StoreConfig(uri=server.address))
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        card = ModelCard("mine", "sutlm", checkpoint=str(tmp_path))
        uri = register_model(config, card, "over-http", fingerprint="abc", aliases=("best",))
        assert uri == "models:/over-http/1"
        fetched = read_card(str(fetch_model(config, "models:/over-http@best")))
        assert fetched.name == "over-http-v1"
        assert (fetched.require_checkpoint() / "model.safetensors").read_bytes() == b"weights"

    def test_it_reports_to_nobody(self, server, store):
        state = json.loads(self.get(server, "ajax-api/3.0/mlflow/ui-telemetry"))
        assert state["disable_ui_telemetry"] is True
        environment = mlflow_server._environment(store)
        assert environment["MLFLOW_DISABLE_TELEMETRY"] == environment["DO_NOT_TRACK"] == "true"
        assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"

    def test_the_command_line_shows_no_password(self):
        config = TrackingConfig(
            tracking=StoreConfig(uri="postgresql://me:secret@db/runs"),
            server=ServerConfig(host="0.0.0.0", allowed_hosts=("a", "b"), cors_origins=("c",), auth="basic-auth"),
        )
        command = " ".join(mlflow_server._command(config, "0.0.0.0", 5000))
        assert "secret" not in command
        assert "--workers 1 --allowed-hosts a,b --cors-allowed-origins c --app-name basic-auth" in command
        assert "MLFLOW_ARTIFACTS_DESTINATION" in mlflow_server._environment(config)

    def test_a_port_insisted_on_must_be_free(self, store):
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TrackingError, match="in use"):
            serve_ui(store, port=taken.getsockname()[1])

    def test_a_server_is_not_served_again(self):
        with pytest.raises(TrackingError, match=r"is not a database but http://h:1: open it"):
            serve_ui(TrackingConfig(tracking=StoreConfig(uri="http://h:1")))

    def test_a_server_that_ends_says_why(self, store, empty_home, monkeypatch):
        command = [sys.executable, "-c", "raise SystemExit('no such option')"]
        monkeypatch.setattr(mlflow_server, "_command", lambda *_: command)
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(TrackingError, match=r"(?s)did not start \(code 1\).*no such option"):
            serve_ui(store)
        assert signal.getsignal(signal.SIGTERM) is before

    #: A quick stand-in that has a worker and is deaf to SIGTERM, as a busy server may be.
    STUB = """
        import http.server, signal, subprocess, sys
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "600"])
        address = "127.0.0.1", int(sys.argv[1])
        http.server.HTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
    """
    CODE = """
        import signal, sys
        from harness.tracking import server as mlflow_server
        from harness.tracking.config import TrackingConfig
        from harness.tracking.server import UiServer
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with & ignores it
        mlflow_server._command = lambda config, host, port: [sys.executable, "-c", sys.argv[1], str(port)]
        mlflow_server._STOP_S = 0.5
        port = mlflow_server._port("127.0.0.1", 0, insisted=False)
        with UiServer(TrackingConfig(), "127.0.0.1", port) as server:
            server.wait_until_healthy()
            print(server.pid, flush=True)
            server.wait()
    """

    @pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, {143}), (signal.SIGINT, {0, -signal.SIGINT})])
    def test_a_signal_ends_it_with_all_its_workers(self, empty_home, number, codes):
        (empty_home / "health").touch()
        process = python(self.CODE, textwrap.dedent(self.STUB), cwd=empty_home)
        pid = int(process.stdout.readline())
        assert not group_is_gone(pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode in codes, err
        until(lambda: group_is_gone(pid))  # killed, and soon reaped by the system


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
