"""The code that computes a value, as part of the key that the value is stored under."""

from __future__ import annotations

import ast
import functools
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from pathlib import Path

from harness.config import digest
from harness.registry import source_of

#: The folder of the package.
PACKAGE = Path(__file__).parent
#: Packages of tasks and adapters, whose modules belong to whoever imports them.
_PLUGINS = ("harness.tasks", "harness.models")


def sources_digest(paths: Iterable[Path]) -> str:
    """Changes whenever the source of one of these modules does."""
    return digest([[path.stem, path.read_text("utf-8")] for path in paths])


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each package; `absent` where it is not installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def own_sources(kind: type, *, also: tuple[str, ...] = ()) -> list[str]:
    """The source of the modules that a class and what it inherits are from, and of what these import of their own.

    A module's own are those of its package (its siblings), and what is not installed: code that is being worked on.
    Other packages count by their versions, and the harness itself by what `also` names of it.

    Args:
        kind: an adapter's or a task's class.
        also: packages of the harness whose modules count too, such as `harness.metrics`.
    """
    inherited = dict.fromkeys(c.__module__ for c in kind.__mro__)
    found = {name: Path(str(sys.modules[name].__file__)) for name in inherited if not _is_standard(name)}
    todo = list(found)
    while todo:
        module = todo.pop()
        for name in _imports(found[module], module):
            if name not in found and _is_own(name, module, also) and (path := source_of(name)):
                found[name] = path
                todo.append(name)
    return [path.read_text("utf-8") for _, path in sorted(found.items())]


def _imports(path: Path, module: str) -> Iterator[str]:
    """Absolute names of all that a module imports, wherever the import stands: of modules, and of what is in them."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = resolve_name("." * node.level + base, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_own(name: str, importer: str, also: tuple[str, ...]) -> bool:
    if _is_standard(name):
        return False
    top = name.partition(".")[0]
    if top == "harness":
        return any(name.startswith(f"{package}.") for package in (*_PLUGINS, *also))
    return top == importer.partition(".")[0] or not (_is_installed(top) or _is_installed(name))


def _is_standard(name: str) -> bool:
    return name.partition(".")[0] in (*sys.stdlib_module_names, "__future__")


@functools.cache
def _is_installed(module: str) -> bool:
    path = source_of(module)
    places = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")]
    return path is not None and any(path.resolve().is_relative_to(place) for place in places)
