"""How a function becomes a command: its signature, its docstring, its mistakes."""

from typing import Annotated, Literal

import pytest
import typer
from typer.main import get_command

from harness.cli.commands import add_command, add_group, application, usage_error
from harness.errors import UnknownNameError


def greet(
    whom: Annotated[list[str], typer.Argument(metavar="WHOM", help="who is greeted")],
    *,
    how: Annotated[Literal["kindly", "coldly"], typer.Option("--how", help="kindly or coldly")] = "kindly",
) -> int:
    """Greet somebody.

    More about greeting.

    Example:
        app greet ann
        app greet ann bob --how coldly

    Raises:
        ValueError: never.
    """
    return len(whom) if how == "kindly" else 0


@pytest.fixture
def root():
    app = application("Say things.", "app greet ann")
    add_command(app, "greet", greet)
    add_group(app, "more", "Say more.", part=greet)
    return get_command(app)


def call(root, *argv):
    with root.make_context("app", list(argv)) as ctx:
        return root.invoke(ctx)


def test_a_signature_is_the_options(root):
    assert call(root, "greet", "ann", "bob") == 2
    assert call(root, "greet", "ann", "--how", "coldly") == 0
    assert call(root, "more", "part", "ann") == 1


def test_a_docstring_is_the_help(root, capsys):
    with pytest.raises(typer.Exit):
        call(root, "greet", "--help")
    assert capsys.readouterr().out.splitlines() == [
        "Usage: app greet [OPTIONS] WHOM ...",
        "",
        "  Greet somebody.",
        "",
        "  More about greeting.",
        "",
        "Arguments:",
        "  WHOM  who is greeted",
        "",
        "Options:",
        "  --how <kindly|coldly>  kindly or coldly",
        "  -h, --help             Show this message and exit.",
        "",
        "  examples:",
        "    app greet ann",
        "    app greet ann bob --how coldly",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["greet", "ann", "--hwo", "x"], "There is no option called '--hwo'. The nearest is '--how'."),
        (["greet", "ann", "--how", "x"], "Invalid value for --how: 'x' is not one of 'kindly', 'coldly'."),
        (["greet"], "Missing argument WHOM. See: app greet --help"),
    ],
)  # fmt: skip
def test_a_mistake_is_explained_in_one_line(root, argv, message):
    with pytest.raises(typer.TyperException) as caught:
        call(root, *argv)
    assert str(usage_error(caught.value)).startswith(message)


def test_an_unknown_command_of_a_group_is_named_with_its_group(root):
    with pytest.raises(UnknownNameError, match=r"There is no 'app more' command called 'prat'\. The nearest is 'part'"):
        call(root, "more", "prat")
