"""Values come back as they were put, or not at all."""

import sqlite3
import subprocess
import sys
import warnings

import pytest

from harness.database import CheckedDatabase, checksum
from harness.errors import DamageWarning

ROWS = {f"key {i}": bytes([i % 256]) * (i % 90) for i in range(1200)}


@pytest.fixture
def database(tmp_path):
    made = CheckedDatabase(tmp_path / "sub" / "values.sqlite3", what="toy cache")
    assert made.get(["key 1"]) == {}
    made.put(ROWS)
    return made


def test_values_come_back(database):
    assert database.get([*ROWS, "another"]) == ROWS
    database.put({"key 7": b"new", "key 8": b""})
    assert database.get(["key 7", "key 8"]) == {"key 7": b"new", "key 8": b""}
    assert database.get([]) == {}


def middle(data):
    at = len(data) // 2
    return data[:at] + b"\xa5" * 300 + data[at + 300 :]


DAMAGE = {
    "300 bytes in the middle": middle,
    "300 bytes of another page": lambda data: data[:20_000] + data[40_000:40_300] + data[20_300:],
    "truncated": lambda data: data[: len(data) // 2],
    "truncated within its header": lambda data: data[:50],
    "no database": lambda data: b"not a database" * 500,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_never_gives_another_value(database, kind):
    bad = DAMAGE[kind](database.path.read_bytes())
    database.path.write_bytes(bad)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = database.get(ROWS)
        assert found in ({}, {key: ROWS[key] for key in found})
        database.put({key: value for key, value in ROWS.items() if key not in found})
        assert database.get(ROWS) == ROWS
    aside = database.path.with_name("values.sqlite3.corrupt-1")
    assert aside.is_file()
    messages = [str(w.message) for w in caught]
    assert len(messages) == 1
    assert messages[0].startswith(f"The toy cache {database.path} is damaged (")
    assert str(aside) in messages[0]
    assert caught[0].category is DamageWarning


def test_every_byte_of_a_row_is_checked(database):
    """Also that a value lies under its own key: rows exchanged by a bad disk are found."""
    for statement in (
        "UPDATE checked SET value = x'00' WHERE key = 'key 5'",
        "UPDATE checked SET value = (SELECT value FROM checked WHERE key = 'key 6'), "
        "checksum = (SELECT checksum FROM checked WHERE key = 'key 6') WHERE key = 'key 5'",
        "UPDATE checked SET value = 'text' WHERE key = 'key 5'",
        "UPDATE checked SET checksum = x'00' WHERE key = 'key 5'",
    ):
        database.put(ROWS)
        connection = sqlite3.connect(database.path)
        connection.execute(statement)
        connection.commit()
        connection.close()
        assert database.get(["key 4"])  # other rows are not looked at
        with pytest.warns(DamageWarning, match="a row does not have its checksum"):
            assert database.get(["key 4", "key 5"]) == {}


def test_a_checksum_tells_its_parts_apart():
    assert len({checksum("ab", b"c"), checksum("a", b"bc"), checksum("abc"), checksum("ab", "c", "")}) == 4
    assert checksum("ab", b"c") == checksum(b"ab", "c")


def test_what_another_process_replaced_stays(database):
    """Whoever finds the damage second must not set the new file aside."""
    error = sqlite3.DatabaseError("file is not a database")
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    database._replace(error)
    assert database.get(ROWS) == ROWS


def test_a_busy_database_is_not_damaged(database):
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        database._replace(error)
    assert database.path.is_file()


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    code = (
        "import sys; from pathlib import Path; from harness.database import CheckedDatabase\n"
        "for i in range(30):\n"
        "    CheckedDatabase(Path(sys.argv[1]), what='toy').put({f'{sys.argv[2]}-{i}': b'v', 'same': b's'})"
    )
    path = tmp_path / "values.sqlite3"
    workers = [subprocess.Popen([sys.executable, "-c", code, path, name]) for name in "abc"]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    keys = [f"{name}-{i}" for name in "abc" for i in range(30)]
    assert len(CheckedDatabase(path, what="toy").get([*keys, "same"])) == 91
