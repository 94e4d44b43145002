"""`harness cache`: the row store, and doing without it."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from typing import TYPE_CHECKING, Any

from harness.cli.arguments import command
from harness.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from harness.evaluation.store import RowStore


def row_store() -> RowStore:
    """The row store; what it says of damage goes to stderr."""
    from harness.evaluation.store import RowStore, StoreWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StoreWarning)
        store = RowStore()
    for warning in caught:
        print(f"harness: warning: {warning.message}", file=sys.stderr)
    return store


def limit_cache(a: argparse.Namespace) -> None:
    """With `--no-cache`, a cache that lasts as long as the command."""
    if a.no_cache:
        folder = tempfile.TemporaryDirectory(prefix="harness-cache-")
        os.environ["HARNESS_CACHE"] = folder.name
        a.keep_alive = folder


def _cache_list(a: argparse.Namespace) -> int:
    from harness.report.tables import Table

    with row_store() as store:
        entries = store.entries()
    if a.json:
        print_json(entries)
        return 0
    rows = tuple(
        (e.model, e.fingerprint[:8], e.task, e.corpus, f"{e.rows:,}", f"{e.bytes / 1e6:,.1f}", _moment(e.used))
        for e in entries
    )
    columns = ("model", "fingerprint", "task", "corpus", "rows", "MB", "last used")
    title = f"{sum(e.rows for e in entries):,} rows in {store.path}"
    print_table(Table(title, columns, rows, left=frozenset({0, 1, 2, 3})))
    return 0


def _cache_clear(a: argparse.Namespace) -> int:
    with row_store() as store:
        removed = store.clear(model=a.model, task=a.task)
    if a.json:
        print_json({"removed": removed})
    else:
        print(f"removed {removed:,} rows from {store.path}")
    return 0


def _moment(epoch_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(epoch_s))


def add_cache(commands: Any) -> None:
    """Adds the parser of `harness cache`."""
    actions = commands.add_parser("cache", help="list and clear kept answers").add_subparsers(
        metavar="ACTION", required=True
    )
    command(actions, "list", _cache_list, "list the answers that reruns need not compute", "harness cache list")
    clear = command(
        actions, "clear", _cache_clear, "remove kept answers, of all models and tasks by default",
        "harness cache clear --model sutlm-tiny --task cra",
    )  # fmt: skip
    clear.add_argument("--model", help="only those of this model, by name or fingerprint")
    clear.add_argument("--task", help="only those of this task")
