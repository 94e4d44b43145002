"""What commands print: tables, data and JSON on stdout, progress and remarks on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.tables import Table


@dataclass(frozen=True)
class Printer:
    """How a command was asked to print.

    Attributes:
        json: data are printed as JSON rather than for reading.
        quiet: neither progress nor remarks.
    """

    json: bool = False
    quiet: bool = False

    def say(self, text: str) -> None:
        """Prints a remark on stderr."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def data(self, data: Any) -> None:
        """Prints records as YAML or JSON."""
        if self.json:
            print_json(data)
            return
        import yaml

        from harness.config import plain

        print(yaml.safe_dump(plain(data), sort_keys=False, allow_unicode=True, width=120).rstrip())

    def progress(self) -> ProgressBar:
        """A progress bar, shown while it is entered."""
        return ProgressBar(quiet=self.quiet)


class ProgressBar:
    """A progress bar on a terminal, a line every ten seconds elsewhere, nothing where quiet; always on stderr."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._last = quiet, time.monotonic()
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


def warn(problem: object) -> None:
    """Prints a warning on stderr, with `--quiet` too."""
    print(f"harness: warning: {problem}", file=sys.stderr)


def width() -> int:
    """Characters of a line of the terminal; into files and pipes lines may be as long as they like."""
    return os.get_terminal_size().columns if sys.stdout.isatty() else 10**6


def print_table(table: Table, *, left: bool = False) -> None:
    """Prints a table, drawn for a terminal and plain elsewhere.

    Args:
        table: what is printed.
        left: all columns are aligned to the left.
    """
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


def print_json(data: Any, *, indent: int | None = 2) -> None:
    """Prints records as JSON."""
    from harness.config import plain

    print(json.dumps(plain(data), indent=indent, ensure_ascii=False))
