"""Gold and predictions of the same items: read from JSON Lines, joined by id."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from harness.errors import InputError


def same_ids(gold: Collection[str], predicted: Collection[str]) -> list[str]:
    """The ids of both, in gold's order.

    Raises:
        InputError: if either has an id that the other lacks, or both have none.
    """
    known = set(gold), set(predicted)
    absent, strange = sorted(known[0] - known[1]), sorted(known[1] - known[0])
    if absent or strange:
        told = [
            f"{len(ids)} of {what} ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"
            for ids, what in ((absent, "gold have no prediction"), (strange, "the predictions are not in gold"))
            if ids
        ]
        raise InputError(
            f"Gold and predictions must be of the same items, but {' and '.join(told)}. "
            "An item without an answer needs an empty one."
        )
    if not gold:
        raise InputError("There are no items to score.")
    return list(gold)


def read_items(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place (`file:line`), id and object of every line of a JSON Lines file; blank lines are skipped.

    An id is a string or a whole number, which is its digits.

    Raises:
        InputError: naming file and line, if a line is no object, has no id or one that stood before, or if the file
            is absent or has no lines.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    seen: dict[str, str] = {}
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            where = f"{path}:{number}"
            if not raw.strip():
                continue
            item = _object(raw, where)
            name = item.get("id")
            if not isinstance(name, (str, int)) or isinstance(name, bool):
                raise InputError(f"{where}: an item has an 'id', a string; found {name!r}.")
            if str(name) in seen:
                raise InputError(f"{where}: id '{name}' stands already on {seen[str(name)]}; ids are unique.")
            seen[str(name)] = where
            yield where, str(name), item
    if not seen:
        raise InputError(f"{path} holds no items.")


def _object(raw: bytes, where: str) -> dict[str, Any]:
    try:
        item = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not a line of JSON in UTF-8 ({error}).") from None
    if not isinstance(item, dict):
        raise InputError(f"{where}: expected an object, found {type(item).__name__}.")
    return item
