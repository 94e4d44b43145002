"""The package's own data agree with each other: package list, versions, lock."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import harness

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
EXTRAS = PROJECT["optional-dependencies"]
DEPENDENCIES = [Requirement(line) for line in [*PROJECT["dependencies"], *EXTRAS["dev"]]]
OPTIONAL = [Requirement(line) for name in EXTRAS if name != "dev" for line in EXTRAS[name]]
LOCKED = {
    canonicalize_name(name): pin
    for name, _, pin in (
        line.partition("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )
}


def test_every_package_is_listed():
    inside = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "harness").rglob("__init__.py")}
    mapped = {"harness.tasks", "harness.models", "harness.sweeps"}
    assert set(SETUPTOOLS["packages"]) == inside | mapped
    assert {SETUPTOOLS["package-dir"][name] for name in mapped} == {"tasks", "models", "sweeps"}


def test_the_version_is_one():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"]
    assert harness.__version__ == version("sutlm-harness") == cited


@pytest.mark.parametrize("requirement", [*DEPENDENCIES, *OPTIONAL], ids=lambda r: r.name)
def test_the_lock_fits_what_is_asked_for(requirement):
    assert requirement.specifier.contains(LOCKED[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("requirement", DEPENDENCIES, ids=lambda r: r.name)
def test_what_is_installed_is_locked(requirement):
    assert version(requirement.name).split("+")[0] == LOCKED[canonicalize_name(requirement.name)]


def test_the_lock_names_versions_alone():
    assert [f"{name}=={pin}" for name, pin in LOCKED.items() if not re.fullmatch(r"[0-9][0-9A-Za-z.]*", pin)] == []


def test_every_import_of_another_package_is_a_declared_dependency():
    needed = [Requirement(line) for line in PROJECT["dependencies"]] + OPTIONAL
    declared = {canonicalize_name(requirement.name) for requirement in needed} | {"sutlm-harness"}
    owners = packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ("harness", "tasks", "models")
        for path in (ROOT / folder).rglob("*.py")
        for name in top_level_imports(path.read_text("utf-8"))
        if not {canonicalize_name(owner) for owner in owners.get(name, [name])} & declared
    }
    assert undeclared == set()


def top_level_imports(source: str) -> set[str]:
    """First parts of what a file imports absolutely, without the standard library's."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found - sys.stdlib_module_names
