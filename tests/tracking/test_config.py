"""Settings of tracking."""

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.tracking.config import StoreConfig, TrackingConfig, load_tracking_config

ROOT = Path(__file__).resolve().parents[2]


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
