"""Folders whose files are no longer those that were written."""

import subprocess

import pytest

from harness.checksums import SUMS, damage, set_aside, write_sums
from harness.errors import DamageWarning


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "kept" / "deep").mkdir(parents=True)
    (tmp_path / "kept" / "a.bin").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "kept" / "deep" / "b c.txt").write_text("text")
    write_sums(tmp_path / "kept")
    return tmp_path / "kept"


def test_what_was_written_is_sound(folder):
    assert damage(folder) == ""
    (folder / "later.txt").write_text("not of it")
    assert damage(folder) == ""


def test_sha256sum_reads_the_sums(folder):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=folder, check=True)


def overwritten(path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = b"\xa5" * 300
    path.write_bytes(data)


DAMAGE = {
    "overwritten": (lambda f: overwritten(f / "a.bin"), "a.bin does not have its checksum"),
    "truncated": (lambda f: (f / "a.bin").write_bytes(b"\0" * 9), "a.bin does not have its checksum"),
    "removed": (lambda f: (f / "deep" / "b c.txt").unlink(), "deep/b c.txt is missing"),
    "without sums": (lambda f: (f / SUMS).unlink(), f"it holds no {SUMS}"),
    "damaged sums": (lambda f: (f / SUMS).write_bytes(b"\xff\n"), f"{SUMS} does not read back"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(folder, kind):
    damaging, reason = DAMAGE[kind]
    damaging(folder)
    assert damage(folder) == reason


def test_only_the_files_asked_for_are_looked_at(folder):
    overwritten(folder / "a.bin")
    assert damage(folder, ["deep/b c.txt"]) == ""
    assert damage(folder, ["a.bin"])
    (folder / "later.txt").write_text("without a checksum")
    assert damage(folder, ["later.txt"]) == "later.txt does not have its checksum"


def test_what_is_set_aside_replaces_nothing(folder):
    for number in (1, 2):
        folder.mkdir(exist_ok=True)
        with pytest.warns(
            DamageWarning, match=rf"^The cache .*kept is damaged \(why\); .*corrupt-{number}, and all ends"
        ):
            aside = set_aside(folder, what="cache", reason="why", instead="all ends well")
        assert aside.is_dir()
        assert not folder.exists()
    assert (folder.with_name("kept.corrupt-1") / "a.bin").is_file()


def test_what_a_database_writes_beside_itself_goes_along(tmp_path):
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"d.sqlite3{suffix}").write_text(suffix)
    with pytest.warns(DamageWarning):
        set_aside(tmp_path / "d.sqlite3", what="cache", reason="why", instead="so")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"d.sqlite3.corrupt-1{s}" for s in ("", "-shm", "-wal")]
