"""Names to objects, lazily: built-ins by file name, plug-ins by entry point, work in progress by path."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Generic, TypeVar, cast

from harness.errors import PluginError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """One kind of named objects; nothing is imported until it is asked for.

    Args:
        kind: the word for messages, such as "task".
        package: the package whose module names are the built-in names; names with a leading `_` are private.
        attribute: what such a module exports.
        group: the entry point group of third-party plug-ins.
        not_members: modules of the package that are not members.
        hyphens: names have `-` where module names have `_`.
    """

    def __init__(
        self,
        *,
        kind: str,
        package: str,
        attribute: str,
        group: str,
        not_members: tuple[str, ...] = (),
        hyphens: bool = False,
        members: tuple[str, ...] = (),
    ) -> None:
        self.kind, self.package, self.attribute, self.group = kind, package, attribute, group
        self._not_members, self._hyphens, self._members = not_members, hyphens, members

    def sources(self) -> dict[str, str]:
        """Every known name with the place it comes from.

        Raises:
            PluginError: if two places claim one name; both are named.
        """
        found = {name: self._module(name) for name in self._builtin_names()}
        for point in entry_points(group=self.group):
            if point.name in found:
                raise PluginError(
                    f"Two places claim the {self.kind} '{point.name}': {found[point.name]} and {_place(point)}. "
                    "Rename or uninstall one of them."
                )
            found[point.name] = _place(point)
        return dict(sorted(found.items()))

    def load(self, name: str) -> T:
        """The object called `name`, or the one `name` points at when written `path/to/file.py:OBJECT`.

        Raises:
            UnknownNameError: if nothing is called so; with the nearest name and the list.
            PluginError: if a plug-in's import fails, with its name and the cause; if a file is absent or lacks the
                object; if two places claim the name; if the object is not of this kind.
        """
        found = self._load(name)
        if lacking := [member for member in self._members if not hasattr(found, member)]:
            raise PluginError(f"'{name}' is not a {self.kind}: {type(found).__name__} has no '{lacking[0]}'.")
        return found

    def _load(self, name: str) -> T:
        if ".py:" in name:
            return self._from_file(name)
        if name not in self.sources():
            raise UnknownNameError(self.kind, name, self.sources())
        for point in entry_points(group=self.group):
            if point.name == name:
                return cast(T, _load_plugin(point, self.kind))
        module = importlib.import_module(self._module(name))
        return cast(T, getattr(module, self.attribute))

    def first_line(self, name: str) -> str:
        """The first line of the docstring of the module that has `name`, read without importing it; empty for none."""
        points = [point for point in entry_points(group=self.group) if point.name == name]
        path = source_of(points[0].module if points else self._module(name))
        if path is None:
            return ""
        try:
            doc = ast.get_docstring(ast.parse(path.read_bytes()))
        except (OSError, SyntaxError, ValueError):
            return ""  # a broken plug-in is listed; loading it says why it does not work
        return (doc or "").partition("\n")[0]

    def _builtin_names(self) -> list[str]:
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise PluginError(f"The package {self.package} is missing; reinstall sutlm-harness.")
        names = (m.name for m in pkgutil.iter_modules(spec.submodule_search_locations) if not m.ispkg)
        members = [n for n in names if not n.startswith("_") and n not in self._not_members]
        return [n.replace("_", "-") for n in members] if self._hyphens else members

    def _module(self, name: str) -> str:
        return f"{self.package}.{name.replace('-', '_') if self._hyphens else name}"

    def _from_file(self, name: str) -> T:
        file, _, attribute = name.rpartition(":")
        path = Path(file)
        if not path.is_file():
            raise PluginError(f"There is no file {path} (asked for {self.kind} '{name}').")
        module_name = f"_harness_file_{path.stem}_{abs(hash(path.resolve()))}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise PluginError(f"{path} cannot be imported as Python.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise PluginError(f"{path}, asked for as {self.kind} '{name}', failed to import: {error!r}") from error
        if not hasattr(module, attribute):
            raise PluginError(f"{path} defines no '{attribute}'.")
        return cast(T, getattr(module, attribute))


def source_of(module: str) -> Path | None:
    """The Python file of a module, found without importing it or any package above it; None where there is none."""
    name, places, spec = "", None, None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = next((s for finder in sys.meta_path if (s := finder.find_spec(name, places))), None)
        if spec is None:
            return None
        # A module has no places of its own, and so nothing in it is found.
        places = list(spec.submodule_search_locations or ())
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _place(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "?"
    return f"{point.value} (package {package})"


def _load_plugin(point: EntryPoint, kind: str) -> object:
    try:
        return point.load()
    except Exception as error:
        raise PluginError(f"The plug-in {kind} '{point.name}', {_place(point)}, failed to import: {error!r}") from error
