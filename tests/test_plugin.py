"""A package of somebody else, really installed, used by the command line from a folder of its own."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.version import Version

PLUGIN = Path(__file__).resolve().parents[1] / "examples" / "plugin"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A copy of the example, and a folder where pip installed it."""
    folder = tmp_path_factory.mktemp("plugin")
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(PLUGIN, folder / "source", ignore=ignored)
    pip(folder / "source", folder / "site")
    return folder


def pip(source, site):
    # setuptools builds wheels by itself since 70.1; an older one needs the network to build.
    isolation = [] if Version(installed("setuptools")) < Version("70.1") else ["--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *isolation, "--target", site, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def installed(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return "0"


@pytest.fixture
def elsewhere(tmp_path, harness_home):
    """A folder with packages `tasks` and `models` of its own, which must not be taken for the harness's."""
    for name, module in (("tasks", "cra"), ("models", "sutlm")):
        (tmp_path / name).mkdir()
        for file in ("__init__", module):
            (tmp_path / name / f"{file}.py").write_text("raise RuntimeError('the wrong package')\n")
    return tmp_path


def python(*arguments, cwd, sites):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sites)), "HARNESS_CACHE": str(cwd / "cache")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )


def harness(*arguments, cwd, sites):
    return python("-m", "harness", *arguments, cwd=cwd, sites=sites)


def distribution(site, name, points, **modules):
    """Lays out an installed distribution by hand."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.tasks]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)
    return site


def test_its_names_are_listed_beside_ours(plugin, elsewhere):
    done = harness("list", "tasks", "--json", cwd=elsewhere, sites=[plugin / "site"])
    assert done.returncode == 0, done.stderr
    found = {row["name"]: row for row in json.loads(done.stdout)}
    assert found["half_order"]["from"] == "sutlm_plugin_example.half_order:TASK (package sutlm-plugin-example)"
    assert found["cra"]["from"] == "harness.tasks.cra"
    source = (plugin / "source" / "sutlm_plugin_example" / "half_order.py").read_text("utf-8")
    assert len(found["half_order"]["description"]) > 20
    assert source.startswith(f'"""{found["half_order"]["description"]}')


def readme_commands():
    lines = [line.removeprefix("$ ") for line in (PLUGIN / "README.md").read_text("utf-8").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("harness ")]


def marked(command):
    """An evaluation from a path takes as long as one by name, and does the same after the task is found."""
    by_path = any(word.endswith(".py:TASK") for word in command)
    return pytest.param(command, id=" ".join(command), marks=[pytest.mark.slow] if by_path else [])


@pytest.mark.parametrize("command", [marked(command) for command in readme_commands()])
def test_the_commands_of_its_readme_work(plugin, elsewhere, command):
    shutil.copytree(plugin / "source", elsewhere, dirs_exist_ok=True)
    quiet = ["--no-tracking"] if command[0] == "run" else []
    done = harness(*command, *quiet, cwd=elsewhere, sites=[plugin / "site"])
    assert done.returncode == 0, done.stderr
    assert "half_order" in done.stdout
    if command[0] == "run":
        result = json.loads((elsewhere / "out" / "results.json").read_text("utf-8"))
        assert result["model"]["name"] == "byte-bigram"
        task = result["tasks"]["half_order"]
        assert (task["n_expected"], task["n_failed"]) == (50, 0)
        assert list(task["metrics"]) == ["half_order.text.accuracy"]
        assert task["metrics"]["half_order.text.accuracy"]["chance"] == 0.5


@pytest.mark.slow
def test_it_keeps_the_contracts(plugin, elsewhere):
    # The same numbers in another process: tests/tasks holds that of our own.
    quick = ["-q", "-p", "no:cacheprovider", "-k", "not another_process"]
    done = python("-m", "pytest", *quick, plugin / "source", cwd=elsewhere, sites=[plugin / "site"])
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) > 20


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("cra", "harness.tasks.cra"),
        ("half_order", "sutlm_plugin_example.half_order:TASK (package sutlm-plugin-example)"),
    ],
)
def test_a_name_claimed_twice_is_refused_naming_both_places(plugin, elsewhere, name, first):
    thief = distribution(elsewhere / "site", "a-thief", {name: "thief:TASK"})
    done = harness("list", "tasks", cwd=elsewhere, sites=[plugin / "site", thief])
    assert done.returncode == 2
    assert f"Two places claim the task '{name}'" in done.stderr
    assert first in done.stderr
    assert "thief:TASK (package a-thief)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_one_is_named_where_it_is_used_and_only_there(plugin, elsewhere):
    site = distribution(elsewhere / "site", "half-done", {"unfinished": "half:TASK"}, half="import a_thing_not_there\n")
    sites = [plugin / "site", site]
    assert "unfinished" in harness("list", "tasks", cwd=elsewhere, sites=sites).stdout
    done = harness("show", "unfinished", cwd=elsewhere, sites=sites)
    assert done.returncode == 2
    assert "The plug-in task 'unfinished', half:TASK (package half-done), failed to import" in done.stderr
    assert "a_thing_not_there" in done.stderr
    assert "Traceback" not in done.stderr
