"""Requests to stop, which training asks for between steps."""

from __future__ import annotations

import signal
import time
from types import FrameType

#: Signals within so many seconds are one request: Ctrl-C reaches workers directly and through the coordinator.
_SAME_REQUEST_S = 5.0


class TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGINT was received; Optuna lets it through as an interruption."""


class StopSignals:
    """Takes SIGTERM and SIGINT and remembers them: training asks between steps, so that nothing is torn."""

    def __init__(self) -> None:
        self._received_at: float | None = None

    def __enter__(self) -> StopSignals:
        self._before = {s: signal.signal(s, self._remember) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._received_at is not None and now - self._received_at > _SAME_REQUEST_S:
            raise KeyboardInterrupt  # asked again: at once
        self._received_at = self._received_at or now

    def check(self) -> None:
        """Raises where a signal was received."""
        if self._received_at is not None:
            raise TerminatedError
