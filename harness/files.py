"""Writing files and folders whole or not at all, and locks between processes."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from harness.errors import UsageError


def part_path(path: Path) -> Path:
    """The name under which this process writes what will be `path`: two processes never write into one part."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


@contextmanager
def new_path(path: Path) -> Iterator[Path]:
    """A path to write a file to, which is renamed to `path` when the block ends and removed if it raises.

    Parent folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_text_file(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 stream whose content becomes `path` when the block ends; if it raises, `path` stays as it was."""
    with new_path(path) as part, part.open("w", encoding="utf-8") as stream:
        yield stream


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file whole or not at all."""
    with new_text_file(path) as stream:
        stream.write(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with new_path(path) as part:
        part.write_bytes(content)


def write_json(path: Path, value: Any, *, indent: int | None = 1, sort_keys: bool = False) -> None:
    """Writes plain JSON values whole or not at all.

    Raises:
        ValueError: for NaN or infinity, which JSON does not have.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False, sort_keys=sort_keys)
    write_text(path, text + "\n")


def check_folder(path: Path) -> None:
    """Makes sure that a folder can be written at `path`, before hours are spent on what will lie there.

    Raises:
        UsageError: if it, or what it is to lie in, is a file or may not be written to.
    """
    found = next(place for place in (path, *path.parents) if place.exists())
    if not found.is_dir():
        raise UsageError(f"Nothing can be written to the folder {path}: {found} is a file. Name another folder.")
    if not os.access(found, os.W_OK):
        raise UsageError(f"Nothing can be written to the folder {path}: {found} may not be written to.")


def check_file(path: Path) -> None:
    """Makes sure that a file can be written at `path`.

    Raises:
        UsageError: if a folder is there, or what it is to lie in is a file or may not be written to.
    """
    if path.is_dir():
        raise UsageError(f"The file {path} cannot be written: a folder has that name. Name a file.")
    check_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `path` when the block ends; if it raises, `path` stays as it was."""
    part = part_path(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        # A folder that holds files cannot be renamed over: the old one steps aside first, so that a kill between
        # the two renames loses neither.
        old = path.with_name(f"{path.name}.{os.getpid()}.old")
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.replace(old)
        part.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Cleans up after processes that were killed within `new_folder(path)`; to be called under the lock of `path`."""
    beside = [p for p in path.parent.glob(f"{glob.escape(path.name)}.*") if p.is_dir()]
    old = [p for p in beside if re.fullmatch(r"\.\d+\.old", p.name.removeprefix(path.name))]
    parts = [p for p in beside if re.fullmatch(r"\.\d+\.part", p.name.removeprefix(path.name))]
    if old and not path.exists():
        old.sort(key=lambda p: p.stat().st_mtime)
        old.pop().replace(path)
    for leftover in (*old, *parts):
        shutil.rmtree(leftover, ignore_errors=True)


def lock_of(path: Path) -> FileLock:
    """A lock, not yet taken, on what lies or will lie at `path`; the kernel drops it when its holder dies.

    It is the file `<path>.lock`; `with lock_of(path):` waits for it, `.acquire(timeout=0)` does not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f"{path.name}.lock"))
