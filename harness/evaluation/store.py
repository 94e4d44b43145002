"""Answers already computed, on disk: a run that was stopped resumes, and nothing is computed twice.

One SQLite file in WAL mode for all models and tasks. Several processes of one machine may read and write it at once.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, get_args

import numpy as np

from harness.checksums import set_aside
from harness.config import cache_folder
from harness.database import CHECKSUM_SIZE, DamagedError, checksum, is_damage
from harness.errors import HarnessError
from harness.files import lock_of
from harness.task import Answer, Record

T = TypeVar("T")

#: Rows wait for each other so long, or until they are so many: a commit costs more than a row.
_COMMIT_S, _COMMIT_ROWS = 0.5, 1000
_BUSY_S = 60.0
_TABLES = (
    "CREATE TABLE rows (set_id INTEGER NOT NULL, item TEXT NOT NULL, request TEXT NOT NULL, row BLOB NOT NULL, "
    "PRIMARY KEY (set_id, item))",
    "CREATE TABLE sets (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, protocol TEXT NOT NULL, "
    "corpus_digest TEXT NOT NULL, scoring TEXT NOT NULL, model TEXT NOT NULL, task TEXT NOT NULL, "
    "corpus TEXT NOT NULL, used REAL NOT NULL, UNIQUE (fingerprint, protocol, corpus_digest, scoring))",
)
_ANSWERS = {kind.__name__: kind for kind in (*get_args(Answer), Record)}


class StoreError(HarnessError):
    """A row store that cannot be opened, read or written."""


@dataclass(frozen=True)
class RowSet:
    """What the rows of one task on one model have in common.

    Attributes:
        fingerprint: of the model.
        protocol: digest of every choice of the task that can change a number.
        corpus_digest: of the corpus.
        scoring: version of the code that computed them.
        model: its name, for listings; no part of the key, like the following.
        task: its name.
        corpus: its name and split.
    """

    fingerprint: str
    protocol: str
    corpus_digest: str
    scoring: str
    model: str
    task: str
    corpus: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What must agree for a row to be used again; nothing operational is in it."""
        return self.fingerprint, self.protocol, self.corpus_digest, self.scoring


@dataclass(frozen=True)
class StoredRow:
    """An answer.

    Attributes:
        request: digest of what was asked.
        answer: what was found.
        work: what computing it and its neighbors took; with one row of those computed together, empty with the rest.
    """

    request: str
    answer: Answer | Record
    work: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class StoreEntry:
    """Rows of one model, task and corpus, for listings; `used` is when they were last read or written (epoch, s)."""

    model: str
    fingerprint: str
    task: str
    corpus: str
    rows: int
    bytes: int
    used: float


class RowStore:
    """The answers known on this machine.

    A damaged file is renamed to `….corrupt-<n>` with a `DamageWarning`, and an empty one begun.

    Args:
        path: of the database; None: `rows.sqlite3` in the cache folder.

    Raises:
        StoreError: if it cannot be opened; so do all methods if it can no longer be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_folder() / "rows.sqlite3"
        self._pending: dict[RowSet, dict[str, StoredRow]] = {}
        self._committed = time.monotonic()
        self._connection = self._open()

    def __enter__(self) -> RowStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commits what is pending and closes the file."""
        try:
            self.commit()
        finally:
            self._connection.close()

    def get(self, rows: RowSet, requests: Mapping[str, str]) -> dict[str, StoredRow]:
        """The rows known for `requests`, item ids with digests of what is asked, in their order."""
        self.commit()

        def read(connection: sqlite3.Connection) -> dict[str, StoredRow]:
            found = connection.execute(
                "SELECT item, request, row FROM rows JOIN sets ON set_id = id WHERE "
                "fingerprint = ? AND protocol = ? AND corpus_digest = ? AND scoring = ?",
                rows.key,
            )
            known = {i: _decode(rows, i, request, row) for i, request, row in found if requests.get(i) == request}
            if known:
                _set_id(connection, rows)
            return {item: known[item] for item in requests if item in known}

        return self._attempt(read)

    def put(self, rows: RowSet, found: Mapping[str, StoredRow]) -> None:
        """Adds rows by item id, in place of those that these items had.

        They reach the disk with the first call half a second or more after the last commit, or by `commit`.
        """
        self._pending.setdefault(rows, {}).update(found)
        overdue = time.monotonic() - self._committed >= _COMMIT_S
        if overdue or sum(map(len, self._pending.values())) >= _COMMIT_ROWS:
            self.commit()

    def commit(self) -> None:
        """Puts what is pending on disk: kill -9 can no longer lose it."""
        if self._pending:
            encoded = {
                rows: [(item, row.request, _encode(rows, item, row)) for item, row in found.items()]
                for rows, found in self._pending.items()
            }

            def write(connection: sqlite3.Connection) -> None:
                for rows, values in encoded.items():
                    number = _set_id(connection, rows)
                    connection.executemany(
                        "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", [(number, *value) for value in values]
                    )

            self._attempt(write)
            self._pending.clear()
        self._committed = time.monotonic()

    def entries(self) -> list[StoreEntry]:
        """What is there, by model, task and corpus."""
        self.commit()
        query = (
            "SELECT model, fingerprint, task, corpus, COUNT(*), SUM(LENGTH(row)), MAX(used) FROM rows JOIN sets "
            "ON set_id = id GROUP BY model, fingerprint, task, corpus ORDER BY model, fingerprint, task, corpus"
        )
        return self._attempt(lambda connection: [StoreEntry(*row) for row in connection.execute(query)])

    def clear(self, *, model: str | None = None, task: str | None = None) -> int:
        """Removes the rows of a model (by name or fingerprint) and a task, by default of all; returns how many."""
        self.commit()

        def remove(connection: sqlite3.Connection) -> int:
            chosen = (
                "SELECT id FROM sets WHERE (?1 IS NULL OR ?1 IN (model, fingerprint)) AND (?2 IS NULL OR task = ?2)"
            )
            number = connection.execute(f"DELETE FROM rows WHERE set_id IN ({chosen})", (model, task)).rowcount
            connection.execute(f"DELETE FROM sets WHERE id IN ({chosen})", (model, task))
            return number

        removed = self._attempt(remove)
        self._connection.execute("PRAGMA incremental_vacuum").fetchall()
        return removed

    def _attempt(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `action` in one transaction, by a new file where the old one is damaged."""
        try:
            return self._transaction(action)
        except (sqlite3.Error, DamagedError) as error:
            if not is_damage(error):
                raise _unusable(self.path, error) from error
            self._connection.close()
            with lock_of(self.path):
                # Another process that met the same damage may have replaced the file: a sound one stays.
                if self.path.is_file() and self.path.stat().st_ino == self._inode:
                    self._set_aside(str(error))
            self._connection = self._open()
        try:
            return self._transaction(action)
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error

    def _transaction(self, action: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = action(self._connection)
            self._connection.execute("COMMIT")
            return result
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Two processes must neither make the tables at once nor set the same file aside twice.
            with lock_of(self.path):
                if reason := _damage(self.path):
                    self._set_aside(reason)
                connection = _connect(self.path)
                self._inode = self.path.stat().st_ino
                return connection
        except (sqlite3.Error, OSError) as error:
            raise _unusable(self.path, error) from error

    def _set_aside(self, reason: str) -> None:
        set_aside(self.path, what="row store", reason=reason, instead="an empty one is used")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        for setting in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        if not _tables(connection):
            connection.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                connection.execute(table)
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _damage(path: Path) -> str:
    """What is wrong with the database; empty for a sound one and for none."""
    if not path.is_file():
        return ""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        checked = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        if checked != "ok":
            return checked.splitlines()[-1]
        return "" if _tables(connection) in ([], list(_TABLES)) else "its tables are not those of a row store"
    except sqlite3.Error as error:
        if is_damage(error):
            return str(error)
        raise
    finally:
        connection.close()


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [str(sql) for (sql,) in rows]


def _set_id(connection: sqlite3.Connection, rows: RowSet) -> int:
    """The number of a set, which is made where it is new, and used now in any case."""
    names = (rows.model, rows.task, rows.corpus)
    connection.execute("INSERT OR IGNORE INTO sets VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, 0)", (*rows.key, *names))
    key = "fingerprint = ? AND protocol = ? AND corpus_digest = ? AND scoring = ?"
    connection.execute(f"UPDATE sets SET used = ? WHERE {key}", (time.time(), *rows.key))
    return int(connection.execute(f"SELECT id FROM sets WHERE {key}", rows.key).fetchone()[0])


def _unusable(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"The row store {path} cannot be used: {error}. Make room or repair it, set HARNESS_CACHE to another folder, "
        "or run with --no-cache."
    )


def _encode(rows: RowSet, item: str, row: StoredRow) -> bytes:
    """A row as bytes: a checksum of it and its key, then compressed a JSON header and its arrays as in memory."""
    values = {f.name: getattr(row.answer, f.name) for f in dataclasses.fields(row.answer)}
    arrays = {name: np.ascontiguousarray(v) for name, v in values.items() if isinstance(v, np.ndarray)}
    header = {
        "kind": type(row.answer).__name__,
        "plain": {name: v for name, v in values.items() if name not in arrays},
        "arrays": [[name, v.dtype.str, v.shape] for name, v in arrays.items()],
        "work": dict(row.work),
    }
    head = json.dumps(header).encode()
    body = b"".join([len(head).to_bytes(4, "little"), head, *(v.tobytes() for v in arrays.values())])
    compressed = zlib.compress(body, 1)
    return checksum(*rows.key, item, row.request, compressed) + compressed


def _decode(rows: RowSet, item: str, request: str, blob: bytes) -> StoredRow:
    found, compressed = blob[:CHECKSUM_SIZE], blob[CHECKSUM_SIZE:]
    if found != checksum(*rows.key, item, request, compressed):
        raise DamagedError("a row does not have its checksum")
    try:
        body = zlib.decompress(compressed)
        end = 4 + int.from_bytes(body[:4], "little")
        header: dict[str, Any] = json.loads(body[4:end])
        values = dict(header["plain"])
        for name, dtype, shape in header["arrays"]:
            array = np.frombuffer(body, dtype, count=int(np.prod(shape)), offset=end).reshape(shape).copy()
            values[name], end = array, end + array.nbytes
        return StoredRow(request, _ANSWERS[header["kind"]](**values), header["work"])
    except (zlib.error, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"a row does not read back: {error!r}") from error
