"""Options that several commands have, and lists of names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from harness.cli.config_file import add_file_settings
from harness.errors import UsageError

Json = Annotated[bool, typer.Option("--json/--no-json", help="print JSON")]
Quiet = Annotated[bool, typer.Option("--quiet/--no-quiet", help="no progress")]
NoTracking = Annotated[bool, typer.Option("--no-tracking/--tracking", help="do not log to MLflow")]
NoCache = Annotated[bool, typer.Option("--no-cache/--cache", help="compute everything anew and store nothing")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="seed of every draw (default: 0)")]


def complete_tasks(incomplete: str) -> list[str]:
    """Names of tasks, for the last name of a list."""
    from harness.task import task_registry

    return _complete(incomplete, task_registry().sources())


def complete_models(incomplete: str) -> list[str]:
    """Names of cards, for the last name of a list."""
    from harness.model import card_names

    return _complete(incomplete, card_names())


def complete_corpora(incomplete: str) -> list[str]:
    """Names of corpora."""
    from harness.corpora.corpus import corpus_registry

    return _complete(incomplete, corpus_registry().sources())


def complete_shown(incomplete: str) -> list[str]:
    """Names of tasks and cards."""
    return [*complete_tasks(incomplete), *complete_models(incomplete)]


def _complete(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, … (default: cpu)")]
Card = Annotated[
    str,
    typer.Option(
        "--model", metavar="CARD", help="card by name, or path to a YAML card", autocompletion=complete_models
    ),
]


def settings_of(what: str) -> typer.models.OptionInfo:
    """The option `--set`, which may be repeated.

    Args:
        what: what its keys are, with an example.
    """
    option: typer.models.OptionInfo = typer.Option(
        "--set", metavar="KEY=VALUE", help=f"{what}; may be repeated", callback=add_file_settings
    )
    return option


def corpus_option(help_text: str) -> typer.models.OptionInfo:
    """The option `--corpus`, completed with the names of corpora."""
    option: typer.models.OptionInfo = typer.Option(
        "--corpus", metavar="CORPUS", help=help_text, autocompletion=complete_corpora
    )
    return option


def folder_option(what: str, name: str = "--output") -> typer.models.OptionInfo:
    """An option that names a folder.

    Args:
        what: what lies there or is written there, and its default.
        name: of the option.
    """
    option: typer.models.OptionInfo = typer.Option(name, metavar="DIR", help=what)
    return option


def split_option(what: str) -> typer.models.OptionInfo:
    """The option `--split`."""
    option: typer.models.OptionInfo = typer.Option("--split", metavar="SPLIT", help=what)
    return option


def card_argument(what: str) -> typer.models.ArgumentInfo:
    """An argument that names a card, completed with the names of cards."""
    argument: typer.models.ArgumentInfo = typer.Argument(metavar="CARD", help=what, autocompletion=complete_models)
    return argument


def corpus_argument(what: str) -> typer.models.ArgumentInfo:
    """An argument that names a corpus, completed with the names of corpora."""
    argument: typer.models.ArgumentInfo = typer.Argument(metavar="NAME", help=what, autocompletion=complete_corpora)
    return argument


def names_in(text: str) -> tuple[str, ...]:
    """Names separated by commas.

    Raises:
        UsageError: if there is none.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise UsageError(f"'{text}' names nothing; give names separated by commas.")
    return names
