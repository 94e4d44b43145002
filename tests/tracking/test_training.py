"""Training runs in a real SQLite store."""

import signal
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from harness.model import ModelCard, read_card
from harness.tracking.config import LoggingConfig
from harness.tracking.registry import fetch_model
from harness.tracking.storage import TrackingError, TrackingWarning
from harness.tracking.training import training_logger
from tests.tracking.processes import python, until

# How MLflow uses its libraries: raised when its database classes are first used, here by the tests themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


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

    def test_two_that_open_it_at_once_share_the_run_made_first(self, store, client, monkeypatch):
        """The other process makes its run after this one has looked and before it makes its own."""
        others = []

        def meanwhile(*arguments, **more):
            monkeypatch.undo()
            others.append(training_logger(store, "train", {}, {"key": "twin"}))
            return create(*arguments, **more)

        create = MlflowClient.create_run
        monkeypatch.setattr(MlflowClient, "create_run", meanwhile)
        logger = training_logger(store, "train", {}, {"key": "twin"})
        assert [logger.run_id] == [other.run_id for other in others]
        experiment = client.get_experiment_by_name(store.tracking.experiment)
        found = client.search_runs([experiment.experiment_id], "tags.key = 'twin'")
        assert [run.info.run_id for run in found] == [logger.run_id]

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
