"""Completion: the script for a shell, and what the shell is answered."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.completion import VARIABLE, current_shell
from harness.cli.main import main

HARNESS = Path(sys.executable).with_name("harness")


@pytest.fixture
def answers(monkeypatch, capsys):
    """A function that gives what bash is answered for the last word of a line."""

    def found(line):
        environment = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), VARIABLE: "complete_bash"}
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit, match=r"^0$"):
                main([])
        return capsys.readouterr().out.split()

    return found


def test_a_shell_is_given_a_script_that_completes():
    script = f"""
        source <({HARNESS} --show-completion)
        COMP_WORDS=(harness run --mod) COMP_CWORD=2
        _harness_completion {HARNESS}
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("--model\n", "", 0)


def test_the_script_is_printed_without_a_shell_of_ones_own():
    done = subprocess.run(["bash", "-c", f"{HARNESS} --show-completion"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert VARIABLE in done.stdout


@pytest.mark.parametrize(
    ("found", "own", "expected"),
    [
        ("zsh", "/bin/bash", "zsh"),
        ("dash", "/usr/bin/fish", "fish"),
        ("", "/usr/bin/fish", "fish"),
        ("", "/bin/sh", "bash"),
        ("", None, "bash"),
    ],
)
def test_without_a_known_shell_above_it_is_the_users_own_or_bash(monkeypatch, capsys, found, own, expected):
    import shellingham

    def detect():
        if not found:
            raise shellingham.ShellDetectionFailure
        return found, f"/bin/{found}"

    monkeypatch.setattr(shellingham, "detect_shell", detect)
    monkeypatch.delenv("SHELL", raising=False)
    if own:
        monkeypatch.setenv("SHELL", own)
    assert current_shell() == expected
    assert main(["--show-completion"]) == 0
    assert VARIABLE in capsys.readouterr().out


def test_it_can_be_installed(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("harness.cli.completion.current_shell", lambda: "bash")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert main(["--install-completion"]) == 0
    script = tmp_path / ".bash_completions" / "harness.sh"
    assert f"completion for bash is in {script}" in capsys.readouterr().out
    assert VARIABLE in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("harness lea", ["leaderboard"]),
        ("harness run --mod", ["--model"]),
        ("harness run --tasks slue_s", ["slue_sa"]),
        ("harness run --tasks cra,slue_s", ["cra,slue_sa"]),
        ("harness run --model sutlm-tiny-cs", ["sutlm-tiny-cst"]),
        ("harness run --corpus dem", ["demo"]),
        ("harness show pel", ["pelm"]),
        ("harness nosuch --x", []),
    ],
)
def test_commands_options_and_names_are_completed(answers, line, expected):
    assert answers(line) == expected
