"""The table of commands: help, names that do not exist, exit codes, and calls from Python."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.main import get_command

from harness.cli.catalog import list_registered
from harness.cli.main import build_application, main
from harness.errors import TaskError
from harness.version import __version__


def commands(group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every command and group by the words that name it, and whether it is a group."""
    for name, command in group.commands.items():
        is_group = hasattr(command, "commands")
        yield (*path, name), is_group
        if is_group:
            yield from commands(command, (*path, name))


ALL = list(commands(get_command(build_application())))


@pytest.mark.parametrize(("path", "is_group"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_help_says_what_a_command_is_for_and_gives_an_example(path, is_group, capsys):
    assert main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: harness {' '.join(path)} [OPTIONS]")
    text = shown.splitlines()[2].strip()
    assert text[0].isupper()
    assert text.endswith((".", ";"))
    if not is_group:
        example = shown.partition("\n  example:\n")[2].strip()
        assert example.startswith(f"harness {' '.join(path)}")
        assert "--json" in shown
        assert "--quiet" in shown


@pytest.mark.parametrize("path", [path for path, is_group in ALL if not is_group], ids=" ".join)
def test_every_option_is_explained(path, capsys):
    main([*path, "-h"])
    rows = capsys.readouterr().out.partition("Options:\n")[2].partition("\n\n")[0].splitlines()
    lone = [row for row in rows if row.startswith("  -") and "  " not in row.strip()]
    # An option alone on its line is too long for the column; its text is in the next.
    assert all(rows[rows.index(row) + 1].startswith("   ") for row in lone)


def test_the_example_of_a_command_can_be_parsed(parse, capsys):
    for path, is_group in ALL:
        if not is_group:
            main([*path, "--help"])
            example = capsys.readouterr().out.partition("\n  example:\n")[2].strip()
            parse(*example.partition(" > ")[0].split()[1:])


def test_lines_of_help_end_before_the_terminal_does(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    main(["run", "--help"])
    text = capsys.readouterr().out.partition("\n  example:")[0]
    assert max(map(len, text.splitlines())) <= 60


def test_nothing_asked_for_is_answered_with_help(capsys):
    for argv in ([], ["data"]):
        assert main(argv) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Commands:" in captured.err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sutlm-harness {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rnu"], "There is no command called 'rnu'. The nearest is 'run'."),
        (["data", "shwo"], "There is no 'harness data' command called 'shwo'. The nearest is 'show'."),
        (["run", "--mdoel", "x"], "There is no option called '--mdoel'. The nearest is '--model'."),
        (["run", "--mdoel=x"], "There is no option called '--mdoel'. The nearest is '--model'."),
        (["train", "--no_tracking"], "There is no option called '--no_tracking'. The nearest is '--no-tracking'."),
        (["list", "tasks", "--jsno"], "There is no option called '--jsno'. The nearest is '--json'."),
        (["show", "craa"], "There is no task or model called 'craa'. The nearest is 'cra'."),
        (["run", "--model", "sutlm-tiny", "--tasks", "craa"], "There is no task called 'craa'. The nearest is 'cra'."),
        (["run", "--tasks", "cra"], "Missing option --model. See: harness run --help"),
        (["run", "--limit"], "Option '--limit' requires an argument."),
        (["run", "--limit", "0"], "Invalid value for --limit: Input should be greater than or equal to 1."),
        (["run", "--limit", "few"], "Invalid value for --limit: Input should be a valid integer"),
        (["list", "cars"], "Invalid value for WHAT: 'cars' is not one of 'tasks', 'models', 'corpora'."),
        (["list", "tasks", "models"], "Got unexpected extra argument(s) (models)."),
        (["compare"], "Missing argument RUN. See: harness compare --help"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_on_stderr(argv, message, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"harness: {message}")
    assert captured.err.count("\n") == 1


def test_a_failure_is_another_exit_code_than_a_mistake(monkeypatch, capsys):
    def fail():
        raise TaskError("too few items")

    monkeypatch.setattr("harness.doctor.checks", fail)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "harness: too few items\n"


def test_an_interrupted_command_ends_with_130(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.doctor.checks", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "harness: interrupted\n"


def test_a_closed_pipe_is_no_failure():
    """`harness list tasks | head -0`: the reader is gone before the first line is written."""
    code = "import sys, os\nfrom harness.cli.main import main\nsys.stdin.read()\nsys.exit(main(['list', 'tasks']))"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment,
    ) as process:  # fmt: skip
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_command_is_a_function(capsys):
    list_registered("tasks", json=True)
    from_python = capsys.readouterr().out
    assert main(["list", "tasks", "--json"]) == 0
    assert capsys.readouterr().out == from_python


def test_an_error_of_ours_has_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "compare", "nowhere"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("harness: 'nowhere' is not a run: give a results folder")
