"""`harness list` and `harness show`: what is registered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from harness.cli.arguments import Json, Quiet, complete_shown
from harness.cli.printing import Printer, print_json, print_table
from harness.errors import UnknownNameError


def list_registered(
    what: Annotated[
        Literal["tasks", "models", "corpora"], typer.Argument(metavar="WHAT", help="tasks, models or corpora")
    ],
    *,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List what is registered.

    Example:
        harness list models
    """
    rows = {"tasks": _tasks, "models": _models, "corpora": _corpora}[what]()
    if json:
        print_json(rows)
        return
    from harness.report.tables import Table

    columns = tuple(rows[0]) if rows else ("name",)
    print_table(Table(f"{len(rows)} {what}", columns, tuple(tuple(r.values()) for r in rows)), left=True)


def _tasks() -> list[dict[str, str]]:
    from harness.task import task_registry

    return _registered(task_registry())


def _corpora() -> list[dict[str, str]]:
    from harness.corpora.corpus import corpus_registry

    return _registered(corpus_registry())


def _registered(registry: Any) -> list[dict[str, str]]:
    return [
        {"name": name, "description": registry.first_line(name), "from": source}
        for name, source in registry.sources().items()
    ]


def _models() -> list[dict[str, str]]:
    from harness.model import card_names, read_card

    cards = [read_card(name) for name in card_names()]
    return [
        {
            "name": c.name,
            "adapter": c.adapter,
            "weights": "here" if c.available else "absent",
            "description": c.description,
        }
        for c in cards
    ]


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="task, model, path to a card or its folder, or path/to/file.py:TASK",
            autocompletion=complete_shown,
        ),
    ],
    *,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a task's protocol or a model's card.

    Example:
        harness show cra
    """
    from harness.model import card_names, is_path
    from harness.task import task_registry

    tasks, cards = task_registry().sources(), card_names()
    if name in tasks or ".py:" in name:
        facts = _facts_of_task(name)
    elif name in cards or is_path(name):
        facts = _facts_of_model(name)
    else:
        raise UnknownNameError("task or model", name, [*tasks, *cards])
    Printer(json=json, quiet=quiet).data(facts)


def _facts_of_task(name: str) -> dict[str, Any]:
    from harness.config import plain
    from harness.task import task_registry

    task = task_registry().load(name)
    return {"task": plain(task.info), "options": plain(task.Options())}


def _facts_of_model(name: str) -> dict[str, Any]:
    from harness.config import plain
    from harness.model import read_card
    from harness.training.show import describe_checkpoint

    card = read_card(name)
    here = card.available and card.needs_checkpoint
    weights = {"weights": describe_checkpoint(card.checkpoint_path)} if here else {}
    return {**plain(card), "checkpoint_path": str(card.checkpoint_path), "available": card.available, **weights}
