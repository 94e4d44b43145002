"""The lease of a worker on a trial: it ends when another worker takes the trial over."""

from __future__ import annotations

import time

from optuna.trial import TrialState

from harness.sweep.signals import StopSignals
from harness.sweep.study import Sweep


class LeaseLostError(Exception):
    """This process sent no heartbeat for so long that its trial was given to another."""


class LeaseMonitor:
    """Checks, while a trial runs, that it still belongs to this process and that nobody has asked it to stop.

    Args:
        sweep: opened.
        number: of the attempt.
        signals: requests to stop.
    """

    def __init__(self, sweep: Sweep, number: int, signals: StopSignals) -> None:
        self._sweep, self._number, self._signals = sweep, number, signals
        self._interval_s = sweep.tracking.sweep.heartbeat_s
        self._checked_at = time.monotonic()

    def check(self) -> None:
        """Reads the database at most once per heartbeat.

        Raises:
            TerminatedError: if a signal has been received.
            LeaseLostError: if the trial was given to another worker.
        """
        self._signals.check()
        if time.monotonic() - self._checked_at >= self._interval_s:
            self._checked_at = time.monotonic()
            if self._sweep.attempt(self._number).state != TrialState.RUNNING:
                raise LeaseLostError
