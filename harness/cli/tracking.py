"""`harness sync`, `register` and `ui`: what goes to MLflow by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.arguments import Json, Quiet, card_argument
from harness.cli.printing import Printer, print_json, warn

if TYPE_CHECKING:
    from harness.results import RunResult


def sync(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="FOLDER", help="send these results folders too")
    ] = None,
    *,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Send results that could not reach the tracking server.

    Example:
        harness sync
    """
    from harness.report.labels import registered_tasks
    from harness.tracking.config import load_tracking_config
    from harness.tracking.outbox import sync as send
    from harness.tracking.outbox import unsent

    def infos(result: RunResult) -> dict[str, Any]:
        return {name: task.info for name, task in registered_tasks([result]).items()}

    rows = []
    for sent in send(load_tracking_config(), infos, [Path(f) for f in folders or ()]):
        rows.append({"run_id": sent.run_id, "folder": str(sent.folder), "sent": sent.logged is not None})
        if sent.logged is None:
            warn(f"{sent.run_id}: {sent.problem}")
        else:
            rows[-1]["mlflow_run"] = sent.logged.run_id
            Printer(quiet=quiet).say(f"{sent.run_id} is MLflow run {sent.logged.run_id}")
    waiting = unsent()
    if json:
        print_json({"runs": rows, "waiting": [str(folder) for folder in waiting]})
    else:
        print(f"{sum(bool(r['sent']) for r in rows)} sent, {len(waiting)} waiting")
    return 1 if waiting else 0


def register(
    card: Annotated[str, card_argument("card by name, or path to a YAML card")],
    *,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="registered name (default: the card's)")
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option("--alias", metavar="ALIAS", help="name of this version, such as best; may be repeated"),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put a checkpoint into MLflow's model registry.

    `harness run --model models:/NAME@ALIAS` evaluates it from there.

    Example:
        harness register sutlm-tiny --name sutlm --alias best
    """
    from harness.model import load_model, read_card
    from harness.tracking.config import load_tracking_config
    from harness.tracking.registry import register_model

    found = read_card(card)
    found.require_checkpoint()
    fingerprint = load_model(card).fingerprint  # what cannot be loaded is not registered
    aliases = tuple(alias or ())
    uri = register_model(load_tracking_config(), found, name or found.name, fingerprint=fingerprint, aliases=aliases)
    named = [f"{uri.rpartition('/')[0]}@{alias}" for alias in aliases]
    if json:
        print_json({"uri": uri, "aliases": named, "fingerprint": fingerprint})
    else:
        print("\n".join([uri, *named]))


def ui(
    *,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
            min=1,
            help="port on 127.0.0.1 (default: the one in mlflow.yaml, or a free one)",
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="open the page in a browser")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Start MLflow on this machine with the results.

    Example:
        harness ui --port 5001
    """
    from harness.tracking.config import load_tracking_config
    from harness.tracking.server import serve_ui

    server = serve_ui(load_tracking_config(), port=port, open_browser=open_page)
    print(f"MLflow at {server.url} (Ctrl-C stops it)", flush=True)
    server.wait()
