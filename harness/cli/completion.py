"""Completion of commands, options and names in the user's shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
#: Set by the shell when it asks for completions.
VARIABLE = "_HARNESS_COMPLETE"


def current_shell() -> str:
    """The shell that this process was started from, else the user's own, else bash."""
    import shellingham

    try:
        found, _ = shellingham.detect_shell()
    except shellingham.ShellDetectionFailure:
        found = ""
    own = Path(os.environ.get("SHELL", "")).name
    return next((shell for shell in (found, own) if shell in SHELLS), "bash")


def _show(wanted: bool) -> None:
    if wanted:
        from typer.completion import get_completion_script

        print(get_completion_script(prog_name="harness", complete_var=VARIABLE, shell=current_shell()))
        raise typer.Exit


def _install(wanted: bool) -> None:
    if wanted:
        from typer.completion import install

        shell, path = install(shell=current_shell(), prog_name="harness", complete_var=VARIABLE)
        print(f"completion for {shell} is in {path}; it works in shells that are started from now on")
        raise typer.Exit


ShowCompletion = Annotated[
    bool,
    typer.Option(
        "--show-completion", help="print what completes commands in this shell", callback=_show, is_eager=True
    ),
]
InstallCompletion = Annotated[
    bool,
    typer.Option("--install-completion", help="install it for this shell", callback=_install, is_eager=True),
]
