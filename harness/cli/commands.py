"""How commands become a command line: help as plain text, the nearest name for an unknown one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from harness.errors import InputError, UnknownNameError, UsageError

#: Lines of help are at most this long, on wider terminals too.
HELP_WIDTH = 100
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH}


class Command(TyperCommand):
    """A command whose help lists arguments and options with what they are for, without types and defaults of Python."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line after the command."""
        arguments = [p for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return ["[OPTIONS]", *map(_placeholder, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the sections of arguments and options."""
        _write_parameters(self.get_params(ctx), ctx, formatter)


class Group(TyperGroup):
    """A group of commands; an unknown one is an error that names the nearest."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the group's own options; without any words, its help is printed on stderr."""
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help(), file=sys.stderr)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the sections of commands and options."""
        self.format_commands(ctx, formatter)
        _write_parameters(self.get_params(ctx), ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first of `args` names.

        Raises:
            UnknownNameError: if there is none of that name.
        """
        if args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            kind = "command" if ctx.parent is None else f"'{ctx.command_path}' command"
            raise UnknownNameError(kind, args[0], self.commands)
        return super().resolve_command(ctx, args)


def _placeholder(argument: Any) -> str:
    name = _argument_name(argument) + (" ..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _write_parameters(parameters: Any, ctx: Any, formatter: Any) -> None:
    rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        required = " (required)" if parameter.required and parameter.opts[0].startswith("-") else ""
        is_argument = parameter.param_type_name == "argument"
        # A switch is named once: what turns it off again serves with --config alone, whose help says so.
        name = _argument_name(parameter) if is_argument else record[0].partition(" / ")[0]
        rows["Arguments" if is_argument else "Options"].append((name, (parameter.help or "") + required))
    for title, some in rows.items():
        if some:
            with formatter.section(title):
                formatter.write_dl(some)


def application(help_: str, *examples: str) -> typer.Typer:
    """A group without commands yet.

    Args:
        help_: what its commands are for.
        examples: command lines.
    """
    return typer.Typer(
        cls=Group,
        help=help_,
        epilog=_epilog(examples),
        add_completion=False,
        context_settings=SETTINGS,
        rich_markup_mode=None,
    )


def add_group(app: typer.Typer, name: str, help_: str, **commands: Callable[..., Any]) -> None:
    """Adds a group of commands to `app`, each by its name."""
    group = application(help_)
    for command, function in commands.items():
        add_command(group, command, function)
    app.add_typer(group, name=name)


def add_command(app: typer.Typer, name: str, function: Callable[..., Any]) -> None:
    """Adds a command to `app`: the signature of `function` is its options, its docstring the help.

    The docstring is a summary in one line, more text where needed, and `Example:` with command lines.
    """
    text, _, rest = (inspect.getdoc(function) or "").partition("\n\nExample:\n")
    examples = [line.strip() for line in rest.partition("\n\n")[0].splitlines()]
    app.command(
        name,
        cls=Command,
        help=text,
        short_help=text.partition("\n")[0],
        epilog=_epilog(examples),
        context_settings=SETTINGS,
    )(function)


def _epilog(examples: Any) -> str | None:
    # A line with this character alone asks for the lines that follow to stay as they are.
    title = "example:" if len(examples) == 1 else "examples:"
    return "\n".join(["\b", title, *(f"  {line}" for line in examples)]) if examples else None


def usage_error(error: typer.TyperException) -> InputError:
    """What was wrong with a command line, in one line."""
    ctx = getattr(error, "ctx", None)
    if hasattr(error, "possibilities") and ctx is not None:  # an option that does not exist
        known = [
            name
            for parameter in ctx.command.get_params(ctx)
            for name in (*parameter.opts, *parameter.secondary_opts)
            if name[:2] == "--"
        ]
        return UnknownNameError("option", str(getattr(error, "option_name", "")), known)
    if isinstance(error, typer.BadParameter) and error.param is not None:
        names = getattr(error.param, "opts", [])
        error.param_hint = names[0] if names and names[0].startswith("-") else _argument_name(error.param)
    text = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    return UsageError(f"{text}. See: {ctx.command_path} --help" if ctx is not None else f"{text}.")


def _argument_name(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())
