import signal
import time
from contextlib import closing

import pytest
from optuna.trial import TrialState

from harness.sweep.lease import LeaseLostError, LeaseMonitor
from harness.sweep.signals import StopSignals, TerminatedError
from tests.toy_sweep import hand_made

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def test_a_lease_ends_when_the_trial_is_failed_by_another_process(tmp_path):
    with closing(hand_made(tmp_path, 1, heartbeat_s=0.001)) as sweep, StopSignals() as signals:
        (trial,) = sweep.trials
        sweep.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        lease = LeaseMonitor(sweep, trial.number, signals)
        lease.check()
        sweep.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        time.sleep(0.01)  # longer than a heartbeat
        with pytest.raises(LeaseLostError):
            lease.check()


def test_a_request_to_stop_ends_the_check(tmp_path):
    with closing(hand_made(tmp_path, 1)) as sweep, StopSignals() as signals:
        lease = LeaseMonitor(sweep, 0, signals)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(TerminatedError):
            lease.check()
