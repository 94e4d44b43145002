"""MLflow's pages, served by a real MLflow server."""

import json
import signal
import socket
import sys
import textwrap
import urllib.request
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from harness.model import ModelCard, read_card
from harness.tracking import server as mlflow_server
from harness.tracking.config import ServerConfig, StoreConfig, TrackingConfig
from harness.tracking.evaluations import log_run
from harness.tracking.registry import fetch_model, register_model
from harness.tracking.server import serve_ui
from harness.tracking.storage import TrackingError
from tests.tracking.examples import INFO, SVG, result
from tests.tracking.processes import group_is_gone, python, until

# How MLflow uses its libraries: raised when its database classes are first used, here by the tests themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


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

    def test_a_required_port_must_be_free(self, store):
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
        port = mlflow_server._port("127.0.0.1", 0, required=False)
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
