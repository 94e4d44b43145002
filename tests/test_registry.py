import importlib
import sys

import pytest

from harness.errors import PluginError, UnknownNameError
from harness.registry import Registry
from harness.task import task_registry

GROUP = "harness.things"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of importable packages; what tests import from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def things(site):
    """A registry of a package with two things, a private module, a helper and a subpackage."""
    package = site / "things_of_ours"
    (package / "deeper").mkdir(parents=True)
    for name in ("__init__", "_shared", "helper", "deeper/__init__"):
        (package / f"{name}.py").write_text("")
    (package / "apple.py").write_text('"""A fruit.\n\nMore about it."""\nTHING = "an apple"\n')
    (package / "broken.py").write_text('"""Not importable."""\nraise RuntimeError("imported too early")\n')
    return Registry(kind="thing", package="things_of_ours", attribute="THING", group=GROUP, not_members=("helper",))


def install(site, distribution, points, **modules):
    """Lays out an installed distribution: metadata with entry points, and modules."""
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    for name, source in modules.items():
        (site / f"{name}.py").write_text(source)
    importlib.invalidate_caches()


def test_names_are_file_names_and_nothing_is_imported(things):
    assert things.sources() == {"apple": "things_of_ours.apple", "broken": "things_of_ours.broken"}
    assert "things_of_ours.apple" not in sys.modules


def test_loads_what_the_module_exports(things):
    assert things.load("apple") == "an apple"


def test_names_can_have_hyphens(site, things):
    (site / "things_of_ours" / "red_apple.py").write_text('"""Another fruit."""\nTHING = "a red apple"\n')
    hyphens: Registry[str] = Registry(
        kind="thing", package="things_of_ours", attribute="THING", group=GROUP, hyphens=True
    )
    assert hyphens.sources()["red-apple"] == "things_of_ours.red_apple"
    assert hyphens.load("red-apple") == "a red apple"
    assert hyphens.first_line("red-apple") == "Another fruit."
    with pytest.raises(UnknownNameError, match="The nearest is 'red-apple'"):
        hyphens.load("red_apple")
    assert things.load("red_apple") == "a red apple"


def test_the_first_line_is_read_without_an_import(things):
    assert things.first_line("apple") == "A fruit."
    assert things.first_line("broken") == "Not importable."
    assert things.first_line("somebody_elses") == ""


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(things):
    with pytest.raises(UnknownNameError, match=r"no thing called 'aple'.*'apple'.*Known: apple, broken"):
        things.load("aple")


def test_an_absent_package_is_an_incomplete_installation(site):
    with pytest.raises(PluginError, match=r"things_of_nobody is missing; reinstall"):
        Registry(kind="thing", package="things_of_nobody", attribute="THING", group=GROUP).sources()


def test_plugins_are_listed_with_their_package_and_loaded_when_asked_for(things, site):
    install(site, "their-things", {"pear": "pears:PEAR"}, pears="PEAR = 'a pear'\n")
    assert things.sources()["pear"] == "pears:PEAR (package their-things)"
    assert "pears" not in sys.modules
    assert things.load("pear") == "a pear"


def test_names_are_sorted_wherever_they_come_from(things, site):
    install(site, "their-things", {"zebra": "z:Z", "aardvark": "a:A"})
    assert list(things.sources()) == ["aardvark", "apple", "broken", "zebra"]


def test_a_broken_plugin_is_listed_and_its_import_error_names_it(things, site):
    install(site, "their-things", {"pear": "pears:PEAR"}, pears="import a_module_that_is_absent\n")
    assert "pear" in things.sources()
    expected = r"plug-in thing 'pear', pears:PEAR \(package their-things\), failed.*a_module_that_is_absent"
    with pytest.raises(PluginError, match=expected) as caught:
        things.load("pear")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_plugin_without_the_object_it_promised(things, site):
    install(site, "their-things", {"pear": "pears:PEAR"}, pears="APPLE = 1\n")
    with pytest.raises(PluginError, match=r"'pear'.*no attribute 'PEAR'"):
        things.load("pear")


def test_a_broken_plugin_does_not_keep_others_from_loading(things, site):
    install(site, "their-things", {"pear": "pears:PEAR"}, pears="1 / 0\n")
    assert things.load("apple") == "an apple"


def test_a_name_of_ours_and_theirs_is_refused_naming_both(things, site):
    install(site, "their-things", {"apple": "pears:PEAR"})
    expected = r"Two places claim the thing 'apple': things_of_ours.apple and pears:PEAR \(package their-things\)"
    with pytest.raises(PluginError, match=expected):
        things.sources()
    with pytest.raises(PluginError, match=expected):
        things.load("apple")


def test_a_name_of_two_plugins_is_refused_naming_both(things, site):
    install(site, "their-things", {"pear": "pears:PEAR"})
    install(site, "more-things", {"pear": "more:PEAR"})
    with pytest.raises(PluginError, match=r"'pear'.*package (their|more)-things.*package (their|more)-things.*Rename"):
        things.load("pear")


WORK_IN_PROGRESS = """
from __future__ import annotations
from typing import Literal
from pydantic.dataclasses import dataclass

@dataclass(frozen=True)
class Options:
    kind: Literal["a", "b"] = "a"

THING = Options(kind="b")
"""


def test_loads_an_object_of_a_file(things, tmp_path, monkeypatch):
    (tmp_path / "wip.py").write_text(WORK_IN_PROGRESS)
    assert things.load(f"{tmp_path / 'wip.py'}:THING").kind == "b"
    monkeypatch.chdir(tmp_path)
    assert things.load("wip.py:THING").kind == "b"
    assert things.load("./wip.py:Options")().kind == "a"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("absent.py:THING", PluginError, r"no file absent.py \(asked for thing 'absent.py:THING'\)"),
        ("wip.py:OTHER", PluginError, r"wip.py defines no 'OTHER'"),
        ("bad.py:THING", PluginError, r"bad.py, asked for as thing 'bad.py:THING', failed.*ZeroDivisionError"),
        ("wip.py:", PluginError, r"wip.py defines no ''"),
    ],
)
def test_says_what_is_wrong_with_a_file(things, tmp_path, monkeypatch, name, error, message):
    (tmp_path / "wip.py").write_text("THING = 1\n")
    (tmp_path / "bad.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        things.load(name)


def test_the_first_line_of_a_plugin_is_read_without_an_import(things, site):
    package = site / "orchard"
    (package / "deep").mkdir(parents=True)
    for name in ("__init__", "deep/__init__"):
        (package / f"{name}.py").write_text("raise RuntimeError('imported too early')\n")
    (package / "deep" / "pears.py").write_text('"""A pear tree.\n\nIts fruit."""\nraise RuntimeError("too early")\n')
    points = {"pear": "orchard.deep.pears:PEAR", "package": "orchard.deep:X", "plain": "plums:PLUM"}
    install(site, "their-things", points, plums='"""Plums."""\nPLUM = 1\n')
    assert things.first_line("pear") == "A pear tree."
    assert things.first_line("plain") == "Plums."
    assert things.first_line("package") == ""
    assert not {"orchard", "orchard.deep", "plums"} & set(sys.modules)


@pytest.mark.parametrize("target", ["nowhere:X", "orchard.nowhere:X", "plums.nowhere:X", "broken_file:X", "sys:X"])
def test_a_plugin_whose_file_cannot_be_read_has_no_first_line(things, site, target):
    (site / "orchard").mkdir()
    install(site, "their-things", {"pear": target}, plums="", broken_file="def (:\n")
    assert things.first_line("pear") == ""
    assert "pear" in things.sources()


def test_an_object_of_another_kind_is_refused(tmp_path):
    (tmp_path / "own.py").write_text("TASK = 3\n")
    with pytest.raises(PluginError, match="is not a task: int has no 'info'"):
        task_registry().load(f"{tmp_path / 'own.py'}:TASK")
