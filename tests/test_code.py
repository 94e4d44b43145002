"""Which source counts as part of a value's key."""

import importlib
import shutil
import sys
import sysconfig

import pytest

from harness.code import PACKAGE, _is_installed, own_sources, sources_digest, versions_of
from harness.model import adapter_registry
from harness.task import task_registry


def files_of(kind, **more):
    """Where the sources that count were read."""
    everything = {p.read_text("utf-8"): p for folder in ("harness", "tasks", "models") for p in _python(folder)}
    return {everything[text].relative_to(PACKAGE.parent).as_posix() for text in own_sources(kind, **more)}


def _python(folder):
    return [path for path in (PACKAGE.parent / folder).rglob("*.py") if path.stat().st_size]


def test_siblings_and_named_packages_count():
    found = files_of(type(task_registry().load("pelm")), also=("harness.metrics",))
    assert {
        "tasks/pelm.py",
        "tasks/_pelm_continuations.py",
        "tasks/_halves.py",
        "harness/metrics/repetition.py",
    } <= found
    assert all(name.startswith(("tasks/_", "tasks/pelm", "harness/metrics/")) for name in found)
    assert not any(name.startswith("harness/") for name in files_of(type(task_registry().load("pelm"))))


def test_an_adapter_is_its_module():
    assert files_of(adapter_registry().load("sutlm")) == {"models/sutlm.py"}


FILES = {
    "a_toy_package/__init__.py": "",
    "a_toy_package/adapter.py": "from . import near\nfrom .deep import deeper\nimport a_toy_module\n"
    "from a_toy_namespace.part import VALUE\n\n\nclass Own:\n    def load(self):\n        from ._later import LATER\n",
    "a_toy_package/near.py": "import json\nimport numpy as np\n",
    "a_toy_package/deep.py": "from a_toy_package._deepest import deepest as deeper\n",
    "a_toy_package/_deepest.py": "deepest = 1\n",
    "a_toy_package/_later.py": "LATER = 1\n",
    "a_toy_package/stranger.py": "",
    "a_toy_module.py": "",
    "a_toy_namespace/part.py": "VALUE = 1\n",
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + f"# {name}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield importlib.import_module("a_toy_package.adapter").Own
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("name", FILES)
def test_what_is_imported_counts_however_it_is_imported(toy, tmp_path, name):
    before = own_sources(toy)
    with (tmp_path / name).open("a") as stream:
        stream.write("# another way\n")
    assert (own_sources(toy) != before) == (name != "a_toy_package/stranger.py")


def test_installed_packages_do_not_count(toy, tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"
    for folder in ("a_toy_package", "a_toy_namespace"):
        shutil.move(tmp_path / folder, installed / folder)
    shutil.move(tmp_path / "a_toy_module.py", installed)
    monkeypatch.syspath_prepend(str(installed))
    real = sysconfig.get_path("platlib")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(installed) if name == "purelib" else real)
    for name in [n for n in sys.modules if n.startswith("a_toy_")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    _is_installed.cache_clear()
    own = importlib.import_module("a_toy_package.adapter").Own
    assert len(own_sources(own)) == 6  # its own package, neither the module nor the namespace beside it
    _is_installed.cache_clear()


def test_names_and_sources_decide_a_digest(tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("a = 1\n")
    other.write_text("a = 1\n")
    assert sources_digest([one]) != sources_digest([other])
    before = sources_digest([one, other])
    other.write_text("a = 2\n")
    assert sources_digest([one, other]) != before


def test_an_absent_package_has_a_version_too():
    found = versions_of(["numpy", "no-such-package-anywhere"])
    assert found["numpy"][0].isdigit()
    assert found["no-such-package-anywhere"] == "absent"
