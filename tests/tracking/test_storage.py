"""A store that several processes create at once."""

import pytest
from mlflow import MlflowClient

from tests.tracking.processes import finished, python

# How MLflow uses its libraries: raised when its database classes are first used, here by the tests themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


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

    @pytest.mark.slow
    def test_four_processes_at_once_share_a_fresh_store(self, tmp_path):
        (tmp_path / "mlflow.db").touch()  # an empty file is no database yet
        (tmp_path / "mlflow.db.1.part").write_text("left by a process that was killed")
        assert finished(python(self.CODE, f"sqlite:///{tmp_path}/mlflow.db")) == "[0, 0, 0, 0]\n"
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
        (experiment,) = client.search_experiments(filter_string="name = 'sutlm'")
        runs = client.search_runs([experiment.experiment_id])
        assert sorted(run.info.run_name for run in runs) == list("abcd")
        assert all(run.info.status == "FINISHED" for run in runs)
        assert all(len(client.get_metric_history(run.info.run_id, "loss")) == 120 for run in runs)
        assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlflow.db.1.part"}
