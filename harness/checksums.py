"""Checksums of stored files, and what is done with a file that no longer matches its checksum.

A cache that was damaged must not change a number: it is renamed, one warning says so, and its values are computed
anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from harness.config import file_digest
from harness.errors import DamageWarning
from harness.files import write_text

#: Beside the files of a folder; in the format of `sha256sum`, whose `--check` reads it too.
SUMS = "SHA256SUMS"
#: What SQLite writes beside a database.
_BESIDE = ("", "-wal", "-shm")


def write_sums(folder: Path) -> None:
    """Writes the SHA-256 of every file in a folder, and in folders below it, to `SHA256SUMS` in it."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
    write_text(folder / SUMS, "".join(f"{file_digest(folder / name)}  {name}\n" for name in names))


def damage(folder: Path, names: Iterable[str] | None = None) -> str:
    """What is wrong with the files of a folder by its `SHA256SUMS`; empty where they are as they were written.

    Args:
        folder: that `write_sums` was called for.
        names: of the files to look at, by their paths in the folder; None: all that the sums list.
    """
    if not (folder / SUMS).is_file():
        return f"it holds no {SUMS}"
    try:
        lines = [line.split("  ", 1) for line in (folder / SUMS).read_text("utf-8").splitlines()]
        sums = {name: value for value, name in lines}
    except ValueError:  # no UTF-8, or a line of another form
        return f"{SUMS} does not read back"
    for name in sums if names is None else names:
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_digest(folder / name) != sums.get(name):
            return f"{name} does not have its checksum"
    return ""


def set_aside(path: Path, *, what: str, reason: str, instead: str) -> Path:
    """Renames a damaged file, database or folder to `<path>.corrupt-<n>`, warns, and returns the new name.

    To be called under the lock of `path`, so that two processes do not both do it.

    Args:
        path: of what is damaged.
        what: it is, for the warning.
        reason: what is wrong with it.
        instead: what happens now.
    """
    number = 1
    while (aside := Path(f"{path}.corrupt-{number}")).exists():
        number += 1
    for suffix in _BESIDE:
        if (file := Path(f"{path}{suffix}")).exists():
            file.rename(f"{aside}{suffix}")
    message = f"The {what} {path} is damaged ({reason}); it was moved to {aside}, and {instead}."
    warnings.warn(DamageWarning(message), stacklevel=2)
    return aside
