"""Units already computed, on disk, keyed by unit system and by the audio's bytes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

import numpy as np

from harness.config import cache_folder
from harness.segments import UnitSpan

_SCHEMA = "CREATE TABLE IF NOT EXISTS units (audio TEXT PRIMARY KEY, units BLOB NOT NULL, durations BLOB NOT NULL)"
_QUERY_KEYS = 500
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class UnitCache:
    """Units of whole audio files of one unit system, safe for several processes on one machine.

    The folder is named after the system and the rows after the SHA-256 of the audio file: neither another codebook nor
    a replaced file can be given old units.
    """

    def __init__(self, system: str, rate_hz: float) -> None:
        self.system, self.rate_hz = system, rate_hz
        self.path = cache_folder() / "units" / system / "units.sqlite3"

    def get(self, audio_digests: Iterable[str]) -> dict[str, UnitSpan]:
        """The cached units, by the SHA-256 of the audio file's bytes."""
        keys = list(audio_digests)
        if not keys or not self.path.is_file():
            return {}
        found: dict[str, UnitSpan] = {}
        with closing(self._connect()) as connection:
            for start in range(0, len(keys), _QUERY_KEYS):
                some = keys[start : start + _QUERY_KEYS]
                marks = ",".join("?" * len(some))
                rows = connection.execute(f"SELECT audio, units, durations FROM units WHERE audio IN ({marks})", some)
                found |= {audio: self._span(units, durations) for audio, units, durations in rows}
        return found

    def put(self, spans: Mapping[str, UnitSpan]) -> None:
        """Adds units by the SHA-256 of their audio; existing rows stay."""
        rows = [(audio, _pack(span.units), _pack(span.durations)) for audio, span in spans.items()]
        with closing(self._connect()) as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO units VALUES (?, ?, ?)", rows)

    def _span(self, units: bytes, durations: bytes) -> UnitSpan:
        return UnitSpan(_unpack(units), _unpack(durations), self.rate_hz, self.system)

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=60)
        # Two processes that switch a new file to WAL at once can get "locked" at once, whatever the timeout.
        for attempt in range(50):
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute(_SCHEMA)
                return connection
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _LOCKED or attempt == 49:
                    connection.close()
                    raise
                time.sleep(0.05)
        raise AssertionError("unreachable")


def _pack(values: Sequence[int]) -> bytes:
    return np.asarray(values, dtype="<u4").tobytes()


def _unpack(blob: bytes) -> tuple[int, ...]:
    return tuple(np.frombuffer(blob, dtype="<u4").tolist())
