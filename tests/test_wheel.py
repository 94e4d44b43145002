"""The wheel has all that the harness needs: built, installed into an empty environment, run from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: What the distribution is built from.
SOURCES = ("harness", "tasks", "models", "sweeps", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


def call(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that no build folder is left in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source, ignored = folder / "source", shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name, **({"ignore": ignored} if (ROOT / name).is_dir() else {}))
    alone = ["--no-deps", "--no-index", "--no-build-isolation"]
    call(sys.executable, "-m", "pip", "wheel", "--quiet", *alone, "--wheel-dir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel alone, which borrows the packages that it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A path in a .pth file is searched, but the .pth files there, such as that of an editable install, are not read.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sorted(borrowed)))
    alone = ["--no-deps", "--no-index", "--ignore-installed", "--no-warn-script-location"]
    call(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *alone, wheel)
    return folder / "bin"


@pytest.fixture
def harness(installed, tmp_path, harness_home):
    """Runs the installed command from an empty folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*arguments):
        return call(installed / "harness", *arguments, cwd=tmp_path, env=environment)

    return run


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_wheel_holds_every_tracked_file_of_the_package(wheel):
    listed = call("git", "ls-files", *(n for n in SOURCES if (ROOT / n).is_dir()), cwd=ROOT).splitlines()
    expected = {name if name.startswith("harness/") else f"harness/{name}" for name in listed}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("harness/")}
    assert held == expected


def test_it_runs_what_it_installed(installed, tmp_path):
    code = "import harness, harness.tasks.cra as cra; print(harness.__file__, cra.__file__, sep='\\n')"
    for line in call(installed / "python", "-c", code, cwd=tmp_path).split():
        assert Path(line).is_relative_to(installed.parent)


def test_tasks_and_cards_are_listed(harness):
    names = {kind: {row["name"] for row in json.loads(harness("list", kind, "--json"))} for kind in ("tasks", "models")}
    assert names["tasks"] == {path.stem for path in (ROOT / "tasks").glob("[!_]*.py")}
    assert names["models"] == {path.stem for path in (ROOT / "models").glob("*.yaml")}
    assert "sutlm-tiny" in harness("show", "sutlm-tiny")


def test_it_evaluates_and_reports(harness, tmp_path):
    harness("run", "--model", "sutlm-tiny", "--tasks", "cra", "--limit", "4", "--no-tracking", "--output", "out")
    result = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert (result["tasks"]["cra"]["n_scored"], result["tasks"]["cra"]["n_failed"]) == (16, 0)
    harness("report", "out", "--output", "report.html")
    assert "<svg" in (tmp_path / "report.html").read_text("utf-8")
