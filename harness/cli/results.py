"""`harness compare`, `why`, `report` and `leaderboard`: reads runs back."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.arguments import RUN_HELP, command, names_in, positive
from harness.cli.printing import print_json, print_table, width
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.results import RunResult


def _compare(a: argparse.Namespace) -> int:
    from harness.report import comparison_tables, formats
    from harness.report.compare import compare
    from harness.report.labels import find_baseline, labels_of, registered_tasks

    names = list(a.runs)
    results = [_read_run(name) for name in names]
    try:
        baseline = find_baseline(a.baseline, results, names)
    except InputError:
        if not (Path(a.baseline) / "results.json").is_file():
            raise
        names, results, baseline = [a.baseline, *names], [_read_run(a.baseline), *results], 0
    found = compare(
        results, labels_of(results, names), tasks=registered_tasks(results), baseline=baseline,
        metrics=names_in(a.metrics) if a.metrics else (), force=a.force, seed=a.seed,
    )  # fmt: skip
    style = "json" if a.json else a.format
    if style == "table":
        best = ("[bold]", "[/bold]") if sys.stdout.isatty() else ("", "^")
        for block in comparison_tables.comparison_blocks(found, width(), best=best):
            print_table(block)
    elif style == "json":
        print_json(comparison_tables.comparison_data(found))
    elif style == "html":
        from harness.report.html import comparison_page

        print(comparison_page(found))
    else:
        of_style = {
            "markdown": formats.comparison_markdown,
            "latex": formats.comparison_latex,
            "csv": formats.comparison_csv,
        }
        print(of_style[style](found))
    return 0


def _why(a: argparse.Namespace) -> int:
    from harness.report.labels import labels_of, registered_tasks
    from harness.report.why import why, why_tables

    one, other = results = [_read_run(a.a), _read_run(a.b)]
    first, second = labels_of(results, [a.a, a.b])
    found = why(one, other, (first, second), tasks=registered_tasks(results), top=a.top)
    if a.json:
        print_json(found)
        return 0
    for table in why_tables(found):
        print_table(table, left=True)
    return 0


def _report(a: argparse.Namespace) -> int:
    from harness.report.html import report_page
    from harness.report.labels import labels_of, registered_tasks

    results = [_read_run(name) for name in a.runs]
    output = Path(a.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    page = report_page(
        results, labels_of(results, a.runs), tasks=registered_tasks(results), folders=[Path(n) for n in a.runs],
        output=output, audio=a.audio, force=a.force,
    )  # fmt: skip
    part = output.with_name(output.name + ".part")
    part.write_text(page, "utf-8")
    os.replace(part, output)
    if a.json:
        print_json({"output": str(output), "bytes": output.stat().st_size})
    else:
        print(f"{output} ({output.stat().st_size / 1e6:.2f} MB)")
    return 0


def _leaderboard(a: argparse.Namespace) -> int:
    from harness.report.formats import board_markdown
    from harness.report.labels import registered_tasks
    from harness.report.leaderboard import board_blocks, leaderboard
    from harness.results import read_results
    from harness.tracking.config import load_tracking_config
    from harness.tracking.reading import fetch_run, stored_runs

    config = load_tracking_config(overrides={"tracking": {"experiment": a.experiment}} if a.experiment else None)
    runs = []
    with tempfile.TemporaryDirectory(prefix="harness-runs-") as scratch:
        for run in stored_runs(config):
            folder = fetch_run(config, run.id, Path(scratch) / run.id, items=False)
            runs.append((read_results(folder, items=False), run.when))
    if not runs:
        raise InputError(f"The experiment '{config.tracking.experiment}' holds no finished evaluation yet.")
    boards = leaderboard(runs, tasks=registered_tasks([r for r, _ in runs]), by=a.by)
    if a.json or a.format == "json":
        print_json(boards)
    elif a.format == "html":
        from harness.report.html import leaderboard_page

        print(leaderboard_page(boards, config.tracking.experiment))
    elif a.format == "markdown":
        print("\n\n".join(map(board_markdown, boards)))
    else:
        for board in boards:
            for block in board_blocks(board, width()):
                print_table(block)
    return 0


def _read_run(name: str) -> RunResult:
    """A run by its results folder, its MLflow id, or as `model@latest`."""
    from harness.results import read_results

    if (Path(name) / "results.json").is_file():
        return read_results(Path(name))
    model, at, latest = name.rpartition("@")
    is_id = len(name) == 32 and all(c in "0123456789abcdef" for c in name)
    if not is_id and not (at and latest == "latest"):
        raise InputError(
            f"'{name}' is no run: give a results folder (one with results.json), an MLflow run id, or MODEL@latest."
        )
    from harness.tracking.config import load_tracking_config
    from harness.tracking.reading import fetch_run, stored_runs

    config = load_tracking_config()
    if not is_id:
        found = stored_runs(config, model=model)
        if not found:
            raise InputError(f"The experiment '{config.tracking.experiment}' holds no finished run of model '{model}'.")
        name = found[0].id
    with tempfile.TemporaryDirectory(prefix="harness-run-") as scratch:
        return read_results(fetch_run(config, name, Path(scratch)))


def add_compare(commands: Any) -> None:
    """Adds the parser of `harness compare`."""
    compare = command(
        commands, "compare", _compare, "compare runs, with paired differences to a baseline",
        "harness compare out/c/* --baseline sutlm-tiny-nomix --format markdown",
    )  # fmt: skip
    compare.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    compare.add_argument("--baseline", metavar="RUN", help="one of the runs, or its model (default: the first)")
    compare.add_argument(
        "--metrics", metavar="KEY,KEY", help="metrics by key or pattern, such as 'cra.u2t.*' (default: the headlines)"
    )
    compare.add_argument(
        "--format", choices=("table", "markdown", "latex", "csv", "json", "html"), default="table", help="of the output"
    )
    compare.add_argument("--force", action="store_true", help="compare runs of different protocols, and mark them")
    compare.add_argument("--seed", type=int, default=0, help="seed of resamples (default: 0)")
    why = command(
        commands, "why", _why, "show in what two runs differ and which items changed most",
        "harness why out/c/sutlm-tiny out/c/sutlm-tiny-cst",
    )  # fmt: skip
    why.add_argument("a", metavar="A", help=RUN_HELP)
    why.add_argument("b", metavar="B", help="the other run")
    why.add_argument("--top", type=positive, default=10, metavar="K", help="items of each task (default: 10)")
    board = command(
        commands, "leaderboard", _leaderboard, "rank all models of an MLflow experiment, protocol by protocol",
        "harness leaderboard --format html > board.html",
    )  # fmt: skip
    board.add_argument("--experiment", help="MLflow experiment (default: the one in mlflow.yaml)")
    board.add_argument("--by", metavar="KEY", help="metric to sort by (default: each task's first)")
    board.add_argument("--format", choices=("table", "markdown", "json", "html"), default="table", help="of the output")


def add_report(commands: Any) -> None:
    """Adds the parser of `harness report`."""
    report = command(
        commands, "report", _report, "write runs as one HTML file that needs no network",
        "harness report out/c/* --output out/report.html",
    )  # fmt: skip
    report.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    report.add_argument("--output", default="report.html", metavar="FILE", help="the file (default: report.html)")
    report.add_argument(
        "--audio", choices=("link", "embed", "none"), default="link",
        help="link audio files by relative path, put them into the file, or leave them out (default: link)",
    )  # fmt: skip
    report.add_argument("--force", action="store_true", help="report runs of different protocols, and mark them")
