"""Command lines are parsed, and their commands not run."""

import pytest

from harness.cli.commands import Command
from harness.cli.main import main


@pytest.fixture
def parse(monkeypatch, capsys):
    """A function that gives the arguments of a command line's function, or raises what is wrong with it."""
    found = []

    def arguments(*argv):
        with monkeypatch.context() as patch:
            patch.setattr(Command, "invoke", lambda _, ctx: found.append((ctx.command_path, dict(ctx.params))))
            status = main([*map(str, argv)])
        assert status == 0, capsys.readouterr().err
        return found.pop()[1]

    return arguments
