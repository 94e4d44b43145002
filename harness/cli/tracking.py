"""`harness sync`, `register` and `ui`: what goes to MLflow by hand."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.arguments import command
from harness.cli.printing import print_json, say

if TYPE_CHECKING:
    from harness.results import RunResult


def _sync(a: argparse.Namespace) -> int:
    from harness.report.labels import registered_tasks
    from harness.tracking.config import load_tracking_config
    from harness.tracking.outbox import sync, unsent

    def infos(result: RunResult) -> dict[str, Any]:
        return {name: task.info for name, task in registered_tasks([result]).items()}

    rows = []
    for sent in sync(load_tracking_config(), infos, [Path(f) for f in a.folders]):
        rows.append({"run_id": sent.run_id, "folder": str(sent.folder), "sent": sent.logged is not None})
        if sent.logged is None:
            print(f"harness: warning: {sent.run_id}: {sent.problem}", file=sys.stderr)
        else:
            rows[-1]["mlflow_run"] = sent.logged.run_id
            say(a, f"{sent.run_id} is MLflow run {sent.logged.run_id}")
    waiting = unsent()
    if a.json:
        print_json({"runs": rows, "waiting": [str(folder) for folder in waiting]})
    else:
        print(f"{sum(bool(r['sent']) for r in rows)} sent, {len(waiting)} waiting")
    return 1 if waiting else 0


def _register(a: argparse.Namespace) -> int:
    from harness.model import load_model, read_card
    from harness.tracking.config import load_tracking_config
    from harness.tracking.registry import register_model

    card = read_card(a.card)
    card.require_checkpoint()
    fingerprint = load_model(a.card).fingerprint  # what cannot be loaded is not registered
    aliases = tuple(a.alias)
    uri = register_model(
        load_tracking_config(), card, a.name or card.name, fingerprint=fingerprint, aliases=aliases
    )  # fmt: skip
    name = uri.rpartition("/")[0]
    if a.json:
        print_json({"uri": uri, "aliases": [f"{name}@{alias}" for alias in aliases], "fingerprint": fingerprint})
    else:
        print("\n".join([uri, *(f"{name}@{alias}" for alias in aliases)]))
    return 0


def ui(a: argparse.Namespace) -> int:
    """Starts MLflow's own server and waits for it."""
    from harness.tracking.config import load_tracking_config
    from harness.tracking.server import serve_ui

    server = serve_ui(load_tracking_config(), port=a.port, open_browser=a.open)
    print(f"MLflow at {server.url} (Ctrl-C stops it)", flush=True)
    server.wait()
    return 0


def add_sync_and_register(commands: Any) -> None:
    """Adds the parser of `harness sync and register`."""
    sync = command(commands, "sync", _sync, "send results that could not reach the tracking server", "harness sync")
    sync.add_argument("folders", nargs="*", metavar="FOLDER", help="send these results folders too")
    register = command(
        commands, "register", _register, "put a checkpoint into MLflow's model registry",
        "harness register sutlm-tiny --name sutlm --alias best   # then: harness run --model models:/sutlm@best …",
    )  # fmt: skip
    register.add_argument("card", metavar="CARD", help="card by name, or path to a YAML card")
    register.add_argument("--name", help="registered name (default: the card's)")
    register.add_argument("--alias", action="append", default=[], help="name of this version, such as best; repeatable")
