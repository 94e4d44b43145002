"""Completion: the script for a shell, and what the shell is answered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.completion import VARIABLE, current_shell
from harness.cli.main import main

HARNESS = Path(sys.executable).with_name("harness")


def answers(line, **more):
    """What bash is answered for the last word of a line."""
    words = line.split(" ")
    environment = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), VARIABLE: "complete_bash", **more}
    done = subprocess.run(
        [sys.executable, "-m", "harness"], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not HARNESS.exists(), reason="the console script is not installed")
def test_a_shell_is_given_its_script():
    done = subprocess.run(["bash", "-c", f"{HARNESS} --show-completion; exit $?"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "complete -o default -F _harness_completion harness" in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0


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
def test_commands_options_and_names_are_completed(line, expected):
    assert answers(line) == expected
