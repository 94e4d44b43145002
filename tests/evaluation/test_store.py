"""Rows come back as they were, for their own key only, whatever other processes and bad disks do."""

import sqlite3
import subprocess
import sys
import time
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest

from harness.database import DamagedError
from harness.errors import DamageWarning
from harness.evaluation import store as store_module
from harness.evaluation.store import RowSet, RowStore, StoredRow, StoreError
from harness.task import Loglikelihoods, Unscorable

ROWS = RowSet("weights", "protocol", "utterances", "engine", model="toy", task="cra", corpus="demo:test")


def answer(seed=0, n=5):
    draw = np.random.default_rng(seed)
    return Loglikelihoods(-draw.exponential(50, n), draw.integers(1, 9, n))


def row(seed=0):
    return StoredRow("asked", answer(seed))


def asked(*items):
    return dict.fromkeys(items, "asked")


def same(a, b):
    for field in fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())
        else:
            assert x == y
    return type(a) is type(b)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "rows.sqlite3"


@pytest.fixture
def store(path):
    with RowStore(path) as opened:
        yield opened


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        answer(),
        answer(n=1000),
        Loglikelihoods(
            np.array([-0.0, -5e-324, -1e308, np.nextafter(-1, 0)]), np.arange(4), np.array([True, False] * 2)
        ),
        Loglikelihoods(np.zeros(0), np.zeros(0, dtype=np.int64)),
        Unscorable("prompt and continuation have 9 tokens, the model reads “8” at most"),
    ],
    ids=["short", "long", "pruned", "empty", "unscorable"],
)
def test_answers_come_back_bit_for_bit(path, value):
    with RowStore(path) as first:
        first.put(ROWS, {"a": StoredRow("asked", value, {"tokens": 7, "shared_prefix": True})})
    with RowStore(path) as second:
        found = second.get(ROWS, asked("a", "b"))
    assert list(found) == ["a"]
    assert same(found["a"].answer, value)
    assert (found["a"].request, found["a"].work) == ("asked", {"tokens": 7, "shared_prefix": True})


def test_arrays_that_come_back_can_be_changed(store):
    store.put(ROWS, {"a": row()})
    store.get(ROWS, asked("a"))["a"].answer.values[0] = 1.0


@pytest.mark.parametrize("part", ["fingerprint", "protocol", "corpus_digest", "scoring"])
def test_rows_are_shared_by_no_other_key(store, part):
    other = replace(ROWS, **{part: "another"})
    store.put(ROWS, {"a": row(1)})
    assert store.get(other, asked("a")) == {}
    store.put(other, {"a": row(2)})
    assert same(store.get(ROWS, asked("a"))["a"].answer, answer(1))
    assert same(store.get(other, asked("a"))["a"].answer, answer(2))


def test_names_are_no_part_of_the_key(store):
    store.put(ROWS, {"a": row()})
    assert list(store.get(replace(ROWS, model="a copy of the card", corpus="moved"), asked("a"))) == ["a"]


def test_another_question_under_the_same_id_has_no_answer(store):
    store.put(ROWS, {"a": row()})
    assert store.get(ROWS, {"a": "asked otherwise"}) == {}


def test_rows_are_returned_in_the_order_asked_for_and_replaced_by_later_ones(store):
    store.put(ROWS, {item: row(1) for item in "abc"})
    store.put(ROWS, {"b": row(2)})
    found = store.get(ROWS, asked("c", "b", "a"))
    assert list(found) == ["c", "b", "a"]
    assert same(found["b"].answer, answer(2))


def test_default_place_is_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    with RowStore() as opened:
        assert opened.path == tmp_path / "rows.sqlite3"


# --- commits ----------------------------------------------------------------------------------------------------------


def test_rows_are_committed_together_but_within_half_a_second(path, store, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(store_module.time, "monotonic", lambda: now)
    store.commit()
    with RowStore(path) as other:
        store.put(ROWS, {"a": row()})
        assert other.get(ROWS, asked("a")) == {}
        now += 0.6
        store.put(ROWS, {"b": row()})
        assert list(other.get(ROWS, asked("a", "b"))) == ["a", "b"]


def test_many_rows_do_not_wait(path, store):
    store.commit()
    store.put(ROWS, {str(i): StoredRow("asked", Unscorable("")) for i in range(1000)})
    with RowStore(path) as other:
        assert len(other.get(ROWS, asked(*map(str, range(1000))))) == 1000


def test_leaving_commits_even_after_an_error(path):
    def stopped():
        with RowStore(path) as first:
            first.commit()
            first.put(ROWS, {"a": row()})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with RowStore(path) as second:
        assert list(second.get(ROWS, asked("a"))) == ["a"]


_WRITER = """
import sys
from pathlib import Path
from harness.evaluation.store import StoredRow, RowSet, RowStore
from harness.task import Unscorable
rows = RowSet("weights", "protocol", "utterances", "engine", model="toy", task="cra", corpus="demo:test")
with RowStore(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    sys.stdin.read()
    for i in range(200):
        store.put(rows, {f"{sys.argv[2]}/{i}": StoredRow("asked", Unscorable(sys.argv[2]))})
        store.commit()
"""


def test_two_processes_that_write_at_once_lose_nothing(path):
    def start(name):
        command = [sys.executable, "-c", _WRITER, str(path), name]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start("first") as first, start("second") as second:
        for writer in (first, second):
            assert writer.stdout.readline() == "ready\n"
        for writer in (first, second):
            writer.stdin.close()
    assert (first.returncode, second.returncode) == (0, 0)
    with RowStore(path) as opened:
        items = [f"{name}/{i}" for name in ("first", "second") for i in range(200)]
        assert list(opened.get(ROWS, asked(*items))) == items


# --- damage -----------------------------------------------------------------------------------------------------------


def filled(path):
    with RowStore(path) as first:
        first.put(ROWS, {str(i): row(i) for i in range(400)})
    return path.read_bytes()


def overwrite(path, at, content):
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(content)


def execute(path, statement):
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


DAMAGE = {
    "no database": lambda path, data: path.write_bytes(b"not a database" * 500),
    "bad header": lambda path, data: overwrite(path, 0, b"\0" * 16),
    "cut short": lambda path, data: path.write_bytes(data[: len(data) // 2]),
    "bad page": lambda path, data: overwrite(path, 4096 * 3, b"\xff" * 4096),
    "other columns": lambda path, data: execute(path, "ALTER TABLE rows ADD COLUMN more"),
    "other tables": lambda path, data: execute(path, "DROP TABLE sets"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_store_is_set_aside_and_reported(path, kind):
    DAMAGE[kind](path, filled(path))
    bad = path.read_bytes()
    aside = path.with_name("rows.sqlite3.corrupt-1")
    with pytest.warns(DamageWarning, match=rf"{path} is damaged .*{aside}"):
        opened = RowStore(path)
    assert opened.get(ROWS, asked("0")) == {}
    opened.put(ROWS, {"0": row()})
    opened.close()
    assert aside.read_bytes() == bad
    with RowStore(path) as again:
        assert list(again.get(ROWS, asked("0"))) == ["0"]


def test_a_second_damaged_store_does_not_replace_the_first(path):
    for number in (1, 2):
        filled(path)
        overwrite(path, 0, bytes([number]) * 16)
        with pytest.warns(DamageWarning, match=rf"corrupt-{number},"):
            RowStore(path).close()
    assert [path.with_name(f"rows.sqlite3.corrupt-{n}").read_bytes()[0] for n in (1, 2)] == [1, 2]


def test_a_changed_bit_in_a_row_is_noticed(path):
    filled(path)
    connection = sqlite3.connect(path)
    (blob,) = connection.execute("SELECT row FROM rows WHERE item = '7'").fetchone()
    connection.execute("UPDATE rows SET row = ? WHERE item = '7'", (blob[:-20] + bytes([blob[-20] ^ 1]) + blob[-19:],))
    connection.commit()
    connection.close()
    with RowStore(path) as opened, pytest.warns(DamageWarning, match="does not have its checksum"):
        assert opened.get(ROWS, asked("7")) == {}


@pytest.mark.parametrize(
    ("change", "item"),
    [
        ("UPDATE rows SET row = (SELECT row FROM rows WHERE item = '8') WHERE item = '7'", "7"),
        ("UPDATE rows SET set_id = 1 WHERE set_id = 2", "of another protocol"),
    ],
)
def test_a_row_under_the_key_of_another_is_noticed(path, change, item):
    """A disk that exchanges pages leaves rows that are sound in themselves."""
    filled(path)
    with RowStore(path) as opened:
        opened.put(replace(ROWS, protocol="other"), {"of another protocol": row()})
    execute(path, change)
    with RowStore(path) as opened, pytest.warns(DamageWarning, match="does not have its checksum"):
        assert opened.get(ROWS, asked(item)) == {}


def test_300_damaged_bytes_anywhere_give_no_other_answer(path):
    data = filled(path)
    truth = {str(i): repr(row(i).answer) for i in range(400)}
    for at in range(0, len(data) - 300, len(data) // 12):
        path.write_bytes(data[:at] + b"\xa5" * 300 + data[at + 300 :])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with RowStore(path) as opened:
                found = opened.get(ROWS, asked(*truth))
        assert {item: repr(found[item].answer) for item in found} in ({}, truth)
        assert len(caught) == (not found)


def test_a_store_that_another_process_replaced_stays(path):
    """Of two processes that meet the damage, the second must not set the new file aside."""
    with RowStore(path) as first:
        first.put(ROWS, {"a": row()})
        first.commit()
        aside = path.with_name("aside")
        aside.mkdir()
        for file in path.parent.glob("rows.sqlite3*"):
            file.rename(aside / file.name)
        with RowStore(path) as second:
            second.put(ROWS, {"b": row()})
        met = iter([DamagedError("met by the first")])

        def read(connection):
            for error in met:
                raise error
            return connection.execute("SELECT item FROM rows").fetchall()

        assert first._attempt(read) == [("b",)]
    assert not list(path.parent.glob("*.corrupt-*"))


def test_damage_met_while_writing_loses_no_pending_row(path):
    with RowStore(path) as opened:
        opened.put(ROWS, {"a": row()})
        opened.commit()
        opened._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        opened._connection.execute("PRAGMA shrink_memory")  # forgets the pages that it has read
        path.write_bytes(b"not a database" * 2000)
        opened.put(ROWS, {"b": row()})
        with pytest.warns(DamageWarning, match="corrupt-1"):
            opened.commit()
        assert list(opened.get(ROWS, asked("a", "b"))) == ["b"]


def test_a_busy_store_is_not_damaged(path, monkeypatch):
    monkeypatch.setattr(store_module, "_BUSY_S", 0.05)
    with RowStore(path) as first, RowStore(path) as second:
        first._connection.execute("BEGIN IMMEDIATE")
        second.put(ROWS, {"a": row()})
        with pytest.raises(StoreError, match=rf"{path} cannot be used: database is locked.*--no-cache"):
            second.commit()
        first._connection.execute("ROLLBACK")
    with RowStore(path) as third:
        assert list(third.get(ROWS, asked("a"))) == ["a"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/rows\.sqlite3 cannot be used.*HARNESS_CACHE"):
        RowStore(tmp_path / "file" / "rows.sqlite3")


# --- list and clear ---------------------------------------------------------------------------------------------------

OTHERS = {
    "settings": replace(ROWS, protocol="other settings"),
    "task": replace(ROWS, protocol="other task", task="pelm"),
    "model": replace(ROWS, fingerprint="other weights", model="tiny"),
}


@pytest.fixture
def full(store):
    for rows in (ROWS, *OTHERS.values()):
        store.put(rows, {"a": row(), "b": row()})
    return store


def test_entries_count_rows_by_model_task_and_corpus(full):
    before = time.time()
    entries = full.entries()
    names = [(e.model, e.fingerprint, e.task, e.corpus, e.rows) for e in entries]
    assert names == [
        ("tiny", "other weights", "cra", "demo:test", 2),
        ("toy", "weights", "cra", "demo:test", 4),
        ("toy", "weights", "pelm", "demo:test", 2),
    ]
    assert all(100 < e.bytes < 2000 and before - 60 < e.used <= time.time() for e in entries)


def test_reading_counts_as_use(full, monkeypatch):
    full.commit()
    monkeypatch.setattr(store_module.time, "time", lambda: 2e9)
    full.get(OTHERS["model"], asked("a"))
    assert [e.used == 2e9 for e in full.entries()] == [True, False, False]


@pytest.mark.parametrize(
    ("chosen", "removed"),
    [
        ({}, 8),
        ({"model": "toy"}, 6),
        ({"model": "weights"}, 6),
        ({"task": "pelm"}, 2),
        ({"model": "toy", "task": "cra"}, 4),
        ({"model": "nobody"}, 0),
    ],
)
def test_clear_removes_what_is_named_and_says_how_much(full, chosen, removed):
    assert full.clear(**chosen) == removed
    assert sum(e.rows for e in full.entries()) == 8 - removed
    full.put(ROWS, {"a": row()})
    assert list(full.get(ROWS, asked("a"))) == ["a"]
