"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from harness.errors import InputError


def command(
    commands: Any, name: str, call: Callable[[argparse.Namespace], int], help_: str, example: str
) -> argparse.ArgumentParser:
    """Adds a command's parser, with the options that every command has."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(call=call)
    return parser


def add_device_and_set(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds `--device` and `--set`."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, … (default: cpu)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"{what}; may be repeated")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; found '{text}'")
    return int(text)


def names_in(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise InputError(f"'{text}' names nothing; give names separated by commas.")
    return names


RUN_HELP = "results folder, MLflow run id, or MODEL@latest"
