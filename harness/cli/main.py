"""The command line's entry point: parse, call, print what went wrong."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from harness.cli.arguments import command, positive
from harness.cli.cache import add_cache
from harness.cli.catalog import add_list_and_show
from harness.cli.data import add_data, add_tokenizer
from harness.cli.doctor import doctor
from harness.cli.results import add_compare, add_report
from harness.cli.run import add_run
from harness.cli.score import add_score
from harness.cli.sweep import add_sweep
from harness.cli.tracking import add_sync_and_register, ui
from harness.cli.train import add_train
from harness.errors import HarnessError
from harness.version import __version__

_EXAMPLES = """examples:
  harness list models
  harness run --model sutlm-tiny --tasks cra
  harness run --model sutlm-tiny --tasks cra --set cra.negatives=same_speaker --output out/same
  harness compare out/a out/b
  harness train --model sutlm-350m --corpus librispeech
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 fine, 2 usage or bad input, 1 failure."""
    arguments = _parser().parse_args(argv)
    arguments.argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return int(arguments.call(arguments))
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough; without this Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Evaluate joint speech-unit + text language models.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sutlm-harness {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_run(commands)
    add_list_and_show(commands)
    add_data(commands)
    add_tokenizer(commands)
    add_train(commands)
    add_sweep(commands)
    add_cache(commands)
    add_score(commands)
    add_compare(commands)
    add_report(commands)
    add_sync_and_register(commands)
    ui_parser = command(commands, "ui", ui, "start MLflow on this machine with the results", "harness ui --port 5001")
    ui_parser.add_argument(
        "--port", type=positive, help="port on 127.0.0.1 (default: the one in mlflow.yaml, or a free one)"
    )
    ui_parser.add_argument("--open", action="store_true", help="open the page in a browser")
    command(commands, "doctor", doctor, "check this installation", "harness doctor")
    return parser


if __name__ == "__main__":
    sys.exit(main())
