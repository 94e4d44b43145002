"""The command line: the table of commands, and what a run of one ends with."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.completion import completion_init
from typer.main import get_command

from harness.cli import cache, catalog, completion, data, doctor, results, run, score, sweep, tracking, train
from harness.cli.commands import add_command, add_group, application, usage_error
from harness.errors import HarnessError
from harness.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: its words, without the name of the program; None: those that Python was started with.

    Returns:
        The exit code: 0 fine, 1 failure, 2 usage or bad input, 130 interrupted.
    """
    try:
        with cache.short_warnings():
            return _run(list(sys.argv[1:] if argv is None else argv))
    except typer.TyperException as error:
        return _fail(usage_error(error))
    except HarnessError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough; without this Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: list[str]) -> int:
    root = _root_command()
    if completion.VARIABLE in os.environ:
        completion_init()
        root.main(argv, prog_name="harness")
    try:
        with root.make_context("harness", argv) as ctx:
            return int(root.invoke(ctx) or 0)
    except typer.Exit as end:
        return end.exit_code


@functools.cache
def _root_command() -> Any:
    return get_command(build_application())


def _fail(error: HarnessError) -> int:
    print(f"harness: {error}", file=sys.stderr)
    return error.exit_code


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"sutlm-harness {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="show the version", callback=_show_version, is_eager=True)
    ] = False,
    show_completion: completion.ShowCompletion = False,
    install_completion: completion.InstallCompletion = False,
) -> None:
    """Options of the program itself."""


def build_application() -> typer.Typer:
    """All commands, by name."""
    app = application(
        "Evaluate joint speech-unit + text language models.",
        "harness list models",
        "harness run --model sutlm-tiny --tasks cra",
        "harness run --model sutlm-tiny --tasks cra --set cra.negatives=same_speaker --output out/same",
        "harness compare out/a out/b",
        "harness train --model sutlm-350m --corpus librispeech",
    )
    app.callback()(_root)
    add_command(app, "run", run.run)
    add_command(app, "list", catalog.list_registered)
    add_command(app, "show", catalog.show)
    add_group(
        app, "data", "Prepare, show and check corpora.", prepare=data.prepare, show=data.show_corpus, check=data.check
    )
    add_group(
        app, "tokenizer", "Train, apply and show speech tokenizers.",
        train=data.train_speech_tokenizer, encode=data.encode, show=data.show_tokenizer,
    )  # fmt: skip
    add_command(app, "train", train.train)
    add_group(
        app, "sweep", "Find the best mixture of training formats.",
        run=sweep.run_trials, worker=sweep.work, status=sweep.show_status, report=sweep.write_report,
        export=sweep.export,
    )  # fmt: skip
    add_group(app, "cache", "List and clear stored answers.", list=cache.list_stored, clear=cache.clear_stored)
    add_group(
        app, "score", "Score files of answers made elsewhere.",
        slue_ner=score.slue_ner, slue_sa=score.slue_sa, repetition=score.repetition,
    )  # fmt: skip
    add_command(app, "compare", results.compare)
    add_command(app, "why", results.why)
    add_command(app, "leaderboard", results.leaderboard)
    add_command(app, "report", results.report)
    add_command(app, "sync", tracking.sync)
    add_command(app, "register", tracking.register)
    add_command(app, "ui", tracking.ui)
    add_command(app, "doctor", doctor.doctor)
    return app


if __name__ == "__main__":
    sys.exit(main())
