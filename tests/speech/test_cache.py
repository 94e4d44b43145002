import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import DamageWarning
from harness.segments import UnitSpan
from harness.speech import cache as cache_module
from harness.speech.cache import UnitCache, encoding_version


def span(*units: int, system: str = "s1") -> UnitSpan:
    return UnitSpan(units, (1,) * len(units), 25.0, system)


def test_what_was_put_comes_back(empty_home):
    cache = UnitCache("s1", 25.0)
    assert cache.get(["a"]) == {}
    cache.put({"a": span(1, 2), "b": UnitSpan((70_000, 3), (4, 1), 25.0, "s1")})
    assert cache.get(["a", "b", "c"]) == {"a": span(1, 2), "b": UnitSpan((70_000, 3), (4, 1), 25.0, "s1")}


def test_systems_are_apart(empty_home):
    UnitCache("s1", 25.0).put({"a": span(1, 2)})
    assert UnitCache("s2", 25.0).get(["a"]) == {}
    assert UnitCache("s1", 25.0).path.is_relative_to(empty_home / "cache" / "units" / "s1")


def test_thousands_of_keys(empty_home):
    cache = UnitCache("s1", 25.0)
    rows = {f"{i}": span(i, i + 1) for i in range(3000)}
    cache.put(rows)
    assert cache.get(rows) == rows


def test_processes_that_write_at_once_lose_nothing(empty_home):
    code = (
        "import sys; from harness.segments import UnitSpan; from harness.speech.cache import UnitCache\n"
        "for i in range(40):\n"
        "    UnitCache('s1', 25.0).put({f'{sys.argv[1]}-{i}': UnitSpan((i,), (1,), 25.0, 's1'), 'same': "
        "UnitSpan((7,), (1,), 25.0, 's1')})"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "abcd"]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0, 0]
    keys = [f"{name}-{i}" for name in "abcd" for i in range(40)]
    assert len(UnitCache("s1", 25.0).get([*keys, "same"])) == 161


def test_damaged_units_are_never_given_back(empty_home):
    """300 bytes in the middle of the file, which SQLite itself does not notice."""
    cache = UnitCache("s1", 25.0)
    rows = {f"{i}": UnitSpan((i, i + 1) * 50, (2,) * 100, 25.0, "s1") for i in range(100)}
    cache.put(rows)
    data = cache.path.read_bytes()
    cache.path.write_bytes(data[: len(data) // 2] + b"\xa5" * 300 + data[len(data) // 2 + 300 :])
    with pytest.warns(DamageWarning, match=rf"The unit cache {cache.path} is damaged .*corrupt-1, .*computed anew\.$"):
        assert UnitCache("s1", 25.0).get(rows) == {}
    cache.put(rows)
    assert UnitCache("s1", 25.0).get(rows) == rows


def test_units_of_other_code_or_libraries_are_not_given(empty_home, tmp_path, monkeypatch):
    package = Path(cache_module.__file__).parents[1]
    copy = shutil.copytree(package, tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    versions = {encoding_version(), encoding_version(copy / "speech")}
    assert len(versions) == 1
    for name in ("speech/mfcc.py", "speech/audio.py", "speech/kmeans.py", "segments.py", "speech/lookup.py"):
        with (copy / name).open("a") as stream:
            stream.write("# another way\n")
        encoding_version.cache_clear()
        versions.add(encoding_version(copy / "speech"))
    assert len(versions) == 5  # all but looking units up
    UnitCache("s1", 25.0).put({"a": span(1, 2)})
    encoding_version.cache_clear()
    monkeypatch.setattr("harness.code.version", lambda package: "0")
    assert UnitCache("s1", 25.0).get(["a"]) == {}
    encoding_version.cache_clear()
