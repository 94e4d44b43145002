import signal

import pytest

from harness.sweep.signals import StopSignals, TerminatedError


def test_a_request_to_stop_that_arrives_twice_is_one_request():
    """Ctrl-C in a terminal reaches a worker directly and through its coordinator."""
    with StopSignals() as signals:
        signals.check()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(TerminatedError):
            signals.check()
