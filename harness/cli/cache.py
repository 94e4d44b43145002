"""`harness cache`: the row store, and computing without it."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.arguments import Json, Quiet
from harness.cli.printing import print_json, print_table, warn
from harness.errors import DamageWarning, StaleWarning

if TYPE_CHECKING:
    from harness.evaluation.store import RowStore

_SHORT = (DamageWarning, StaleWarning)


@contextmanager
def short_warnings() -> Iterator[None]:
    """Within it, what is to be said of damaged caches and stale states is one line on stderr."""
    with warnings.catch_warnings():
        for kind in _SHORT:
            warnings.simplefilter("always", kind)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, _SHORT):
                warn(message)
            else:
                others(message, category, *where, **more)

        warnings.showwarning = show
        yield


def open_row_store() -> RowStore:
    """The row store; the import is lazy, for `harness --help`."""
    from harness.evaluation.store import RowStore

    return RowStore()


@contextmanager
def temporary_cache(wanted: bool) -> Iterator[None]:
    """Where wanted, an empty folder for all caches, which is removed at the end; else nothing."""
    if not wanted:
        yield
        return
    before = os.environ.get("HARNESS_CACHE")
    with tempfile.TemporaryDirectory(prefix="harness-cache-") as folder:
        os.environ["HARNESS_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("HARNESS_CACHE")
            if before is not None:
                os.environ["HARNESS_CACHE"] = before


def list_stored(*, json: Json = False, quiet: Quiet = False) -> None:
    """List the answers that reruns need not compute.

    Example:
        harness cache list
    """
    with open_row_store() as store:
        entries = store.entries()
    if json:
        print_json(entries)
        return
    from harness.report.tables import Table

    rows = tuple(
        (e.model, e.fingerprint[:8], e.task, e.corpus, f"{e.rows:,}", f"{e.bytes / 1e6:,.1f}", _moment(e.used))
        for e in entries
    )
    columns = ("model", "fingerprint", "task", "corpus", "rows", "MB", "last used")
    title = f"{sum(e.rows for e in entries):,} rows in {store.path}"
    print_table(Table(title, columns, rows, left=frozenset({0, 1, 2, 3})))


def clear_stored(
    *,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="only those of this model, by name or fingerprint")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="only those of this task")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove stored answers, of all models and tasks by default.

    Example:
        harness cache clear --model sutlm-tiny --task cra
    """
    with open_row_store() as store:
        removed = store.clear(model=model, task=task)
    if json:
        print_json({"removed": removed})
    else:
        print(f"removed {removed:,} rows from {store.path}")


def _moment(epoch_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(epoch_s))
