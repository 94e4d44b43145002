"""`harness list` and `harness show`: what is registered."""

from __future__ import annotations

import argparse
from typing import Any

from harness.cli.arguments import command
from harness.cli.printing import print_data, print_json, print_table


def list_command(a: argparse.Namespace) -> int:
    """Prints what is registered."""
    rows = {"tasks": _list_tasks, "models": _list_models, "corpora": _list_corpora}[a.what]()
    if a.json:
        print_json(rows)
        return 0
    from harness.report.tables import Table

    columns = tuple(rows[0]) if rows else ("name",)
    print_table(Table(f"{len(rows)} {a.what}", columns, tuple(tuple(r.values()) for r in rows)), left=True)
    return 0


def _list_tasks() -> list[dict[str, str]]:
    from harness.task import task_registry

    return _registered(task_registry())


def _list_corpora() -> list[dict[str, str]]:
    from harness.corpora.corpus import corpus_registry

    return _registered(corpus_registry())


def _registered(registry: Any) -> list[dict[str, str]]:
    return [
        {"name": name, "description": registry.first_line(name), "from": source}
        for name, source in registry.sources().items()
    ]


def _list_models() -> list[dict[str, str]]:
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


def _show(a: argparse.Namespace) -> int:
    from harness.config import plain
    from harness.model import card_names, is_path, read_card
    from harness.task import task_registry

    if a.name in task_registry().sources() or ".py:" in a.name:
        task = task_registry().load(a.name)
        print_data(a, {"task": plain(task.info), "options": plain(task.Options())})
    elif a.name in card_names() or is_path(a.name):
        from harness.training.show import describe_checkpoint

        card = read_card(a.name)
        here = card.available and card.needs_checkpoint
        weights = {"weights": describe_checkpoint(card.checkpoint_path)} if here else {}
        facts = {"checkpoint_path": str(card.checkpoint_path), "available": card.available, **weights}
        print_data(a, {**plain(card), **facts})
    else:
        from harness.errors import UnknownNameError

        raise UnknownNameError("task or model", a.name, [*task_registry().sources(), *card_names()])
    return 0


def add_list_and_show(commands: Any) -> None:
    """Adds the parser of `harness list and show`."""
    list_ = command(commands, "list", list_command, "list what is registered", "harness list models")
    list_.add_argument("what", choices=("tasks", "models", "corpora"))
    show = command(commands, "show", _show, "show a task's protocol or a model's card", "harness show cra")
    show.add_argument("name", help="task, model, path to a card or its folder, or path/to/file.py:TASK")
