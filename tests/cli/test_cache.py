"""`harness cache`, and computing without it; tests of resuming fill it."""

import json
import os
from pathlib import Path

import pytest

from harness.cli.cache import temporary_cache
from harness.cli.main import main


def test_a_damaged_store_is_reported_and_the_command_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    (tmp_path / "rows.sqlite3").write_bytes(b"not a database" * 500)
    assert main(["cache", "list"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"harness: warning: The row store {tmp_path}/rows.sqlite3 is damaged")
    assert captured.out.startswith("0 rows in")


def test_an_empty_cache_is_no_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    assert main(["cache", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["cache", "clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": 0}


@pytest.mark.parametrize("before", ["/somewhere", None])
def test_a_temporary_cache_leaves_nothing_behind(monkeypatch, before):
    monkeypatch.delenv("HARNESS_CACHE", raising=False)
    if before:
        monkeypatch.setenv("HARNESS_CACHE", before)
    with temporary_cache(True):
        folder = Path(os.environ["HARNESS_CACHE"])
        assert folder.is_dir()
    assert not folder.exists()
    assert os.environ.get("HARNESS_CACHE") == before
    with temporary_cache(False):
        assert os.environ.get("HARNESS_CACHE") == before
