"""Values by key in one SQLite file, each with its checksum."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from harness.checksums import set_aside
from harness.files import lock_of

_SCHEMA = "CREATE TABLE IF NOT EXISTS checked (key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL)"
_QUERY_KEYS = 500
#: Bytes.
CHECKSUM_SIZE = 16
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DamagedError(Exception):
    """The bytes of a row are not those that were written."""


def checksum(*parts: str | bytes) -> bytes:
    """Bytes that change with any part, and with where one ends and the next begins."""
    digest = hashlib.blake2b(digest_size=CHECKSUM_SIZE)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def is_damage(error: Exception) -> bool:
    """Whether an error met in a database says that its file is damaged, rather than busy or out of reach."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, DamagedError) or code in _CORRUPT


class CheckedDatabase:
    """Bytes by key, for values that can be computed again; safe for several processes on one machine.

    A file that is damaged, or in which a row that is read does not have its checksum, is renamed with a
    `DamageWarning`, and an empty one is used.

    Args:
        path: of the file, made when something is first put there.
        what: it holds, for the warning.
    """

    def __init__(self, path: Path, *, what: str) -> None:
        self.path, self.what = path, what

    def get(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those keys that have one."""
        wanted = list(keys)
        if not wanted or not self.path.is_file():
            return {}
        try:
            with self._connected() as connection:
                return dict(_read(connection, wanted))
        except (sqlite3.DatabaseError, DamagedError) as error:
            self._replace(error)
            return {}

    def put(self, values: Mapping[str, bytes]) -> None:
        """Adds values, in place of those that their keys had."""
        if not values:
            return
        rows = [(key, value, checksum(key, value)) for key, value in values.items()]
        try:
            self._write(rows)
        except sqlite3.DatabaseError as error:
            self._replace(error)
            self._write(rows)

    def _write(self, rows: list[tuple[str, bytes, bytes]]) -> None:
        with self._connected() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO checked VALUES (?, ?, ?)", rows)

    def _replace(self, error: Exception) -> None:
        """Sets a damaged file aside; any other error is raised again."""
        if not is_damage(error):
            raise error
        # Whoever waited for the lock may find that another process has done it: a sound file stays.
        with lock_of(self.path):
            if reason := self._damage():
                set_aside(self.path, what=self.what, reason=reason, instead="what is needed of it is computed anew")

    def _damage(self) -> str:
        if not self.path.is_file():
            return ""
        try:
            with self._connected() as connection:
                checked = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
                if checked != "ok":
                    return checked.splitlines()[-1]
                for row in connection.execute("SELECT CAST(key AS BLOB), value, checksum FROM checked"):
                    _check(*row)
        except (sqlite3.DatabaseError, DamagedError) as error:
            if is_damage(error):
                return str(error)
            raise
        return ""

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=60)) as connection:
            # Two processes that switch a new file to WAL at once can get "locked" at once, whatever the timeout.
            for attempt in range(50):
                try:
                    connection.execute("PRAGMA journal_mode=WAL")
                    connection.execute("PRAGMA synchronous=NORMAL")
                    connection.execute(_SCHEMA)
                    break
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF not in _LOCKED or attempt == 49:
                        raise
                    time.sleep(0.05)
            yield connection


def _read(connection: sqlite3.Connection, keys: list[str]) -> Iterator[tuple[str, bytes]]:
    for start in range(0, len(keys), _QUERY_KEYS):
        some = keys[start : start + _QUERY_KEYS]
        marks = ",".join("?" * len(some))
        for key, value, found in connection.execute(
            f"SELECT key, value, checksum FROM checked WHERE key IN ({marks})", some
        ):
            _check(key, value, found)
            yield key, value


def _check(key: object, value: object, found: object) -> None:
    if not (isinstance(key, str | bytes) and isinstance(value, bytes) and found == checksum(key, value)):
        raise DamagedError("a row does not have its checksum")
