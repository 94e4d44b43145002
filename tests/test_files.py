"""Files and folders appear whole or not at all; a lock keeps another process out and dies with its holder."""

import json
import os
import subprocess
import sys

import pytest
from filelock import Timeout

from harness import files
from harness.errors import UsageError


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.new_text_file(path) as stream:
        stream.write("häl")
        assert not path.exists()
        stream.write("lo\n")
    assert path.read_bytes() == "hällo\n".encode()
    assert leftovers(path.parent) == ["a.txt"]


@pytest.mark.parametrize("write", [files.new_text_file, files.new_path, files.new_folder])
def test_an_error_leaves_what_was_there(tmp_path, write):
    path = tmp_path / "a"
    path.mkdir() if write is files.new_folder else path.write_text("old", "utf-8")
    before = path.stat().st_ino
    with pytest.raises(KeyError), write(path):
        raise KeyError
    assert path.stat().st_ino == before
    assert leftovers(tmp_path) == ["a"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    with files.new_folder(path) as part:
        (part / "weights").write_bytes(b"1")
        assert leftovers(path) == ["old"]
    assert leftovers(path) == ["weights"]
    assert leftovers(tmp_path) == ["model"]


def test_json_holds_no_nan(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": "ü", "a": 1})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "b": "ü",\n "a": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["a"] == 1


def test_two_processes_have_parts_of_their_own(tmp_path):
    code = f"import pathlib; from harness import files; print(files.part_path(pathlib.Path({str(tmp_path)!r})))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other != str(files.part_path(tmp_path))
    assert other.endswith(".part")


def test_a_lock_keeps_others_out_until_its_holder_is_killed(tmp_path):
    code = (
        "import pathlib, time\nfrom harness.files import lock_of\n"
        f"with lock_of(pathlib.Path({str(tmp_path / 'x')!r})):\n    print('held', flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Timeout):
            files.lock_of(tmp_path / "x").acquire(timeout=0)
        holder.kill()
        holder.wait()
        with files.lock_of(tmp_path / "x").acquire(timeout=30):
            pass


def test_what_a_killed_process_left_of_a_folder_is_cleaned_up(tmp_path):
    """Killed between the two renames: the folder stands aside, the newest one counts; unfinished parts go."""
    for name in ("run.1.old", "run.2.old", "run.2.part", "run.lock", "run.3.old.txt", "runs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    os.utime(tmp_path / "run.1.old", (1, 1))
    files.recover_folder(tmp_path / "run")
    assert (tmp_path / "run" / "content").read_text() == "run.2.old"
    assert leftovers(tmp_path) == ["run", "run.3.old.txt", "run.lock", "runs"]


def test_a_folder_that_stands_is_not_replaced_by_what_is_left_of_it(tmp_path):
    for name in ("run", "run.1.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    files.recover_folder(tmp_path / "run")
    assert (tmp_path / "run" / "content").read_text() == "run"
    assert leftovers(tmp_path) == ["run"]


def test_a_file_is_not_written_over_a_folder_or_below_a_file(tmp_path):
    files.check_file(tmp_path / "new" / "report.html")
    with pytest.raises(UsageError, match="a folder has that name"):
        files.check_file(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        files.check_file(tmp_path / "file" / "report.html")
