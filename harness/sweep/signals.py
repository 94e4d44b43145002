"""Requests to stop a worker, which it reads between two steps of training."""

from __future__ import annotations

import signal
import time
from types import FrameType

#: Signals within so many seconds are one request: Ctrl-C reaches workers directly and through the coordinator.
_SAME_REQUEST_S = 5.0


class TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGINT was received.

    A `KeyboardInterrupt`, so that nothing that handles errors handles it too.
    """


class StopSignals:
    """While entered, records SIGTERM and SIGINT instead of interrupting: files are never left half written.

    A second request, more than 5 seconds after the first, interrupts at once.
    """

    def __init__(self) -> None:
        self._received_at: float | None = None

    def __enter__(self) -> StopSignals:
        self._before = {s: signal.signal(s, self._record) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _record(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._received_at is not None and now - self._received_at > _SAME_REQUEST_S:
            raise KeyboardInterrupt
        self._received_at = self._received_at or now

    def check(self) -> None:
        """Returns if no signal has been received.

        Raises:
            TerminatedError: if one has.
        """
        if self._received_at is not None:
            raise TerminatedError
