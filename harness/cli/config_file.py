"""`--config FILE.yaml`: options of a command from a file, beneath those of the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

#: Where the pairs that the file gives under `set` wait for those of the command line.
_PAIRS = "harness.cli.config_file.pairs"


def read_config(ctx: typer.Context, value: Path | None) -> Path | None:
    """Takes the options of a YAML file as the defaults of the command that is being parsed.

    Raises:
        ConfigError: if the file is absent, is not a mapping, or has a key or a value that does not fit the command.
    """
    if value is not None and not ctx.resilient_parsing:
        options = _options(value, ctx)
        ctx.meta[_PAIRS] = _pairs(options.pop("set", None) or {})
        ctx.default_map = options
    return value


def add_file_settings(ctx: typer.Context, value: list[str] | None) -> list[str]:
    """The pairs of `--set`, after those of the file: where two give the same key, the later wins."""
    return [*ctx.meta.get(_PAIRS, ()), *(value or ())]


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="options from a YAML file, by their names, and 'set'; the command line wins, and turns a switch off "
        "with its opposite, such as --no-quiet or --tracking",
        callback=read_config,
        is_eager=True,
        expose_value=False,
    ),
]


def _options(file: Path, ctx: typer.Context) -> dict[str, Any]:
    """The file's options by the names of the command's parameters; `set` stays a mapping."""
    from harness.config import build, read_yaml
    from harness.errors import ConfigError

    parameters, opposites = _parameters(ctx), _opposites(ctx)
    found: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for key, value in read_yaml(file).items():
        name = str(key).replace("-", "_")
        if name in opposites:
            name, value = opposites[name], (not value) if isinstance(value, bool) else value
        if name in found:
            raise ConfigError(f"{file}: '{name}' is given twice, as '{keys[name]}' and as '{key}'.")
        keys[name] = str(key)
        found[name] = _joined(value, parameters.get(name))
    record: Any = build(_schema(parameters, ctx), found, where=str(file))
    # A null leaves an option as it is.
    given = {name: value for name in found if (value := getattr(record, name)) is not None}
    return {name if name == "set" else parameters[name].name: value for name, value in given.items()}


def _joined(value: Any, parameter: Any) -> Any:
    """Names that the command line separates by commas may be a list in YAML."""
    is_names = parameter is not None and "," in (parameter.metavar or "")
    return ",".join(value) if is_names and isinstance(value, list) and all(isinstance(v, str) for v in value) else value


def _parameters(ctx: typer.Context) -> dict[str, Any]:
    """The command's parameters that a file may give, by the names of their options, with `_` for `-`."""
    named = {_name(p.opts[0]): p for p in ctx.command.params if p.opts[0].startswith("--")}
    return {name: parameter for name, parameter in named.items() if name != "config"}


def _opposites(ctx: typer.Context) -> dict[str, str]:
    """The names that turn a switch off, such as `tracking`, with those that turn it on, such as `no_tracking`."""
    switches = [p for p in ctx.command.params if p.secondary_opts]
    return {_name(p.secondary_opts[0]): _name(p.opts[0]) for p in switches}


def _name(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


def _schema(parameters: dict[str, Any], ctx: typer.Context) -> type:
    """A record with the command's options as its fields: none is required, and none is converted from another type."""
    import pydantic

    hints = get_type_hints(ctx.command.callback)
    fields = [
        (name, Annotated[_type(name, p, hints[p.name]) | None, pydantic.Strict()], None)
        for name, p in parameters.items()
    ]
    record: type = dataclasses.make_dataclass("Options", fields)
    checked: type = pydantic.dataclasses.dataclass(record, config=pydantic.ConfigDict(extra="forbid"))
    return checked


def _type(name: str, parameter: Any, hint: Any) -> Any:
    import pydantic

    if name == "set":
        return dict[str, Any]
    if parameter.min is not None:
        return Annotated[int, pydantic.Field(ge=parameter.min)]
    return hint


def _pairs(settings: dict[str, Any]) -> list[str]:
    """A nested mapping as `--set` has it: `["cra.n=200"]`."""
    import yaml

    from harness.config import flatten

    def text(value: Any) -> str:
        dumped: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
        return dumped.removesuffix("...\n").strip()

    return [f"{key}={text(value)}" for key, value in flatten(settings).items()]
