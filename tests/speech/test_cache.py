import subprocess
import sys

from harness.segments import UnitSpan
from harness.speech.cache import UnitCache


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
