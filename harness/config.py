"""Frozen configuration records: YAML at the edges, strict in between."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from platformdirs import user_cache_path
from pydantic import ConfigDict, TypeAdapter, ValidationError
from yaml.constructor import ConstructorError

from harness.errors import ConfigError

T = TypeVar("T")

#: The tag of `<<`, which takes over the keys of another mapping and may stand for several.
_MERGE = "tag:yaml.org,2002:merge"
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Pass to `pydantic.dataclasses.dataclass(frozen=True, config=STRICT)`: unknown keys are errors.
STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def home() -> Path:
    """The folder for generated and prepared state: `$HARNESS_HOME`, else the user's cache folder."""
    return Path(os.environ["HARNESS_HOME"]) if os.environ.get("HARNESS_HOME") else user_cache_path("sutlm-harness")


def cache_folder() -> Path:
    """Where caches lie: `$HARNESS_CACHE`, else `cache` under `home()`."""
    return Path(os.environ["HARNESS_CACHE"]) if os.environ.get("HARNESS_CACHE") else home() / "cache"


class _UniqueKeyLoader(_SafeLoader):  # type: ignore[misc]
    """Refuses a mapping that gives a key twice, of which YAML readers keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        found: set[Any] = set()
        keys = [key for key, _ in node.value if key.tag != _MERGE] if isinstance(node, yaml.MappingNode) else []
        for key_node in keys:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in found:
                raise ConstructorError(problem=f"the key '{key}' is given twice", problem_mark=key_node.start_mark)
            found |= {key} if isinstance(key, Hashable) else set()
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: if it is not YAML, or a mapping gives a key twice.
    """
    return yaml.load(text, Loader=_UniqueKeyLoader)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping.

    Raises:
        ConfigError: if the file is absent, is not YAML in UTF-8, gives a key twice, or is not a mapping.
    """
    try:
        data = load_yaml(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a YAML file in UTF-8: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values; found {type(data).__name__}.")
    return data


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def build(kind: type[T], data: Mapping[str, Any], *, where: str) -> T:
    """`data` as a record of type `kind`.

    Raises:
        ConfigError: naming `where`, the key, what was found, and for an unknown key the nearest known one.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected keys with values, found {data!r}.")
    try:
        record: T = _adapter(kind).validate_python(dict(data))  # type: ignore[arg-type]
        return record
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(e, where, kind) for e in error.errors())) from None


def _explain(error: Any, where: str, kind: Any) -> str:
    # A check of the whole record, such as one field against another, has no place in it.
    *above, last = (str(part) for part in error["loc"] or ("",))
    if not last:
        return f"{where}: {error['msg']}."
    key = ".".join([*above, last])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _keys(kind, above)
        near = difflib.get_close_matches(last, known, n=1)
        hint = f" Did you mean '{'.'.join([*above, near[0]])}'?" if near else f" Known: {', '.join(sorted(known))}."
        return f"{where}: unknown key '{key}'.{hint}"
    if error["type"] in ("missing", "missing_argument"):
        return f"{where}: '{key}' is missing."
    return f"{where}: '{key}': {error['msg']} (found {error.get('input')!r})."


def _keys(kind: Any, path: Sequence[str]) -> list[str]:
    """The keys of the record that `path` leads to from a record of type `kind`."""
    for part in path:
        kind = get_type_hints(kind).get(part) if dataclasses.is_dataclass(kind) else None
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1", "c=x"]` as nested mappings; values are read as YAML.

    Raises:
        ConfigError: if a pair has no `=`, an empty key, a value that is not YAML, or contradicts an earlier pair.
    """
    tree: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not all(key.split(".")):
            raise ConfigError(f"--set {pair}: write it as key.subkey=value.")
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {pair}: '{part}' was already set to a plain value.")
        if isinstance(node.get(last), dict):
            raise ConfigError(f"--set {pair}: '{last}' was already given keys of its own.")
        try:
            node[last] = load_yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {pair}: the value is not valid YAML ({error}).") from None
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `over` put in its place, deep."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def plain(value: Any) -> Any:
    """Records, paths and tuples as JSON-ready dictionaries, strings and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    return str(value) if isinstance(value, Path) else value


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots; lists stay whole."""
    if not isinstance(value, Mapping) or (not value and prefix):
        return {prefix: value}
    nested = (flatten(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in value.items())
    return {key: inner for part in nested for key, inner in part.items()}


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
