import optuna
import pytest

from harness.sweep.storage import NoWaitingTrialError, open_storage
from harness.tracking.config import SweepConfig

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def test_a_worker_only_takes_what_waits(tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}"
    optuna.create_study(study_name="x", storage=open_storage(url, SweepConfig(), create=True))
    study = optuna.load_study(study_name="x", storage=open_storage(url, SweepConfig()))
    with pytest.raises(NoWaitingTrialError):
        study.optimize(lambda trial: 0.0, n_trials=1)
    assert study.trials == []
