"""What commands print: tables, data and JSON on stdout, progress and remarks on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.tables import Table


class ProgressBar:
    """A progress bar on a terminal, a line every ten seconds elsewhere, nothing with `--quiet`; always on stderr."""

    def __init__(self, a: argparse.Namespace) -> None:
        self._quiet, self._last = a.quiet, time.monotonic()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> ProgressBar:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"), console=Console(stderr=True),
            )  # fmt: skip
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Says that `done` of `total` are finished."""
        if self._bar:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total, detail=detail)
            self._bar.update(self._tasks[what], completed=done, total=total, detail=detail)
        elif not self._quiet and (done == total or time.monotonic() - self._last >= 10):
            self._last = time.monotonic()
            print(f"{what} {done}/{total} {detail}".rstrip(), file=sys.stderr, flush=True)


def width() -> int:
    """Characters of a line of the terminal; into files and pipes lines may be as long as they like."""
    return os.get_terminal_size().columns if sys.stdout.isatty() else 10**6


def print_table(table: Table, *, left: bool = False) -> None:
    """Prints a table, drawn for a terminal and plain elsewhere."""
    if not sys.stdout.isatty():
        print(table.plain())
        return
    from rich.console import Console
    from rich.table import Table as RichTable

    out = RichTable(title=table.title, title_justify="left")
    for i, column in enumerate(table.columns):
        out.add_column(column, justify="left" if left or i in table.left else "right", overflow="fold")
    for row in table.rows:
        out.add_row(*row)
    Console().print(out)
    for note in table.notes:
        print(note)


def print_data(a: argparse.Namespace, data: Any) -> None:
    """Prints data as YAML, or as JSON with `--json`."""
    if a.json:
        print_json(data)
        return
    import yaml

    from harness.config import plain

    print(yaml.safe_dump(plain(data), sort_keys=False, allow_unicode=True, width=120).rstrip())


def print_json(data: Any) -> None:
    """Prints data as JSON."""
    from harness.config import plain

    print(json.dumps(plain(data), indent=2, ensure_ascii=False))


def say(a: argparse.Namespace, text: str) -> None:
    """A remark on stderr, unless `--quiet`."""
    if not a.quiet:
        print(text, file=sys.stderr)
