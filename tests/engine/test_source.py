"""What answers are stored under changes with the code that computes them, and with no other."""

import importlib
import shutil

import pytest

from harness.code import PACKAGE
from harness.engine.source import procedure_version, scoring_version, source_digest
from harness.task import task_registry
from tests.tiny_decoder import TinyDecoder


@pytest.fixture
def package(tmp_path):
    return shutil.copytree(PACKAGE, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))


def changed(path):
    """Whether a comment in a module changes the digest; the module is left as it was."""
    before = path.read_bytes()
    path.write_bytes(before + b"# another way\n")
    source_digest.cache_clear()
    different = source_digest(path.parents[1]) != source_digest()
    path.write_bytes(before)
    return different


def test_the_digest_covers_the_engine_and_what_feeds_it(package):
    assert source_digest(package) == source_digest()
    modules = [*(package / "engine").glob("*.py"), *(package / "speech").glob("*.py")]
    assert {path.stem for path in modules if not changed(path)} == {"cache", "lookup", "record", "training"}
    assert changed(package / "training" / "vocabulary.py")
    assert not any(changed(package / other) for other in ("report/html.py", "cli/run.py", "training/loop.py"))


def test_the_version_of_answers_is_that_of_adapter_and_libraries(tmp_path, monkeypatch):
    (tmp_path / "own_adapter.py").write_text("class Own:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("own_adapter").Own()
    before = scoring_version(own)
    assert scoring_version(own) == before != scoring_version(TinyDecoder())
    (tmp_path / "own_adapter.py").write_text("class Own:\n    temperature = 2\n")
    assert scoring_version(own) != before
    (tmp_path / "own_adapter.py").write_text("class Own:\n    pass\n")
    monkeypatch.setattr("harness.code.version", lambda package: "0")
    assert scoring_version(own) != before


def test_the_order_and_number_of_models_say_nothing(tmp_path, monkeypatch):
    (tmp_path / "other_adapter.py").write_text("class Other:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    other = importlib.import_module("other_adapter").Other()
    tiny = TinyDecoder()
    assert scoring_version(tiny, other) == scoring_version(other, tiny, tiny) != scoring_version(tiny)


def test_records_of_a_procedure_are_those_of_its_code_and_of_what_it_inherits(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "base_of_a_task.py").write_text("class Base: pass\n")
    (tmp_path / "the_task.py").write_text("from base_of_a_task import Base\n\n\nclass Toy(Base): pass\n")
    task = importlib.import_module("the_task").Toy()
    seen = {procedure_version(task, [TinyDecoder()]), procedure_version(task, [TinyDecoder()])}
    assert len(seen) == 1
    for changed in ("the_task.py", "base_of_a_task.py"):
        with (tmp_path / changed).open("a") as file:
            file.write("# another way\n")
        seen.add(procedure_version(task, [TinyDecoder()]))
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["pelm", "slue_ner"])
def test_records_of_a_procedure_are_those_of_its_metrics(name, monkeypatch):
    """`_pelm_continuations.py` and `harness/metrics/tags.py` compute records, though not by inheritance."""
    task = task_registry().load(name)
    seen = []
    monkeypatch.setattr("harness.engine.source.own_sources", lambda kind, *, also=(): seen.append((kind, also)) or [])
    procedure_version(task, [TinyDecoder()])
    assert (type(task), ("harness.metrics",)) in seen
