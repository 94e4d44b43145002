"""`harness compare`, `why`, `report` and `leaderboard`: reads runs back."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.arguments import Json, Quiet, names_in
from harness.cli.printing import print_json, print_table, width
from harness.errors import ComparisonError, InputError, ResultsError

if TYPE_CHECKING:
    from harness.report.compare import Comparison
    from harness.results import RunResult

_RUN_HELP = "results folder, MLflow run id, or MODEL@latest"
Runs = Annotated[list[str], typer.Argument(metavar="RUN", help=_RUN_HELP)]
Force = Annotated[bool, typer.Option("--force", help="accept runs of different protocols, and mark them")]


def compare(
    runs: Runs,
    *,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="RUN", help="one of the runs, or its model (default: the first)"),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="KEY,KEY",
            help="metrics by key or pattern, such as 'cra.u2t.*' (default: the headlines)",
        ),
    ] = None,
    style: Annotated[
        Literal["table", "markdown", "latex", "csv", "json", "html"],
        typer.Option("--format", metavar="FORMAT", help="table, markdown, latex, csv, json or html (default: table)"),
    ] = "table",
    force: Force = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="seed of resamples (default: 0)")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs, with paired differences to a baseline.

    Example:
        harness compare out/c/* --baseline sutlm-tiny-nomix --format markdown
    """
    from harness.report.compare import compare as compared
    from harness.report.labels import find_baseline, labels_of, registered_tasks

    names, results = list(runs), [read_run(name) for name in runs]
    try:
        first = find_baseline(baseline, results, names)
    except InputError:
        if baseline is None or not _is_folder(baseline):
            raise
        names, results, first = [baseline, *names], [read_run(baseline), *results], 0
    found = compared(
        results, labels_of(results, names), tasks=registered_tasks(results), baseline=first,
        metrics=names_in(metrics) if metrics else (), force=force, seed=seed,
    )  # fmt: skip
    _print_comparison(found, "json" if json else style)


def _print_comparison(found: Comparison, style: str) -> None:
    from harness.report import comparison_tables, formats

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


def why(
    a: Annotated[str, typer.Argument(metavar="A", help=_RUN_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help="the other run")],
    *,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="items of each task (default: 10)")] = 10,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show in what two runs differ and which items changed most.

    Example:
        harness why out/c/sutlm-tiny out/c/sutlm-tiny-cst
    """
    from harness.report.labels import labels_of, registered_tasks
    from harness.report.why import why as differences
    from harness.report.why import why_tables

    one, other = results = [read_run(a), read_run(b)]
    first, second = labels_of(results, [a, b])
    found = differences(one, other, (first, second), tasks=registered_tasks(results), top=top)
    if json:
        print_json(found)
        return
    for table in why_tables(found):
        print_table(table, left=True)


def report(
    runs: Runs,
    *,
    output: Annotated[
        str, typer.Option("--output", metavar="FILE", help="the file (default: report.html)")
    ] = "report.html",
    audio: Annotated[
        Literal["link", "embed", "none"],
        typer.Option(
            "--audio",
            metavar="HOW",
            help="link audio files by relative path (link, the default), put them into the file (embed), or leave "
            "them out (none)",
        ),
    ] = "link",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write runs as one HTML file that needs no network.

    Example:
        harness report out/c/* --output out/report.html
    """
    from harness.files import check_file, write_text
    from harness.report.html import report_page
    from harness.report.labels import labels_of, registered_tasks

    path = Path(output)
    check_file(path)
    results = [read_run(name) for name in runs]
    page = report_page(
        results, labels_of(results, runs), tasks=registered_tasks(results), folders=[Path(n) for n in runs],
        output=path, audio=audio, force=force,
    )  # fmt: skip
    write_text(path, page)
    if json:
        print_json({"output": str(path), "bytes": path.stat().st_size})
    else:
        print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


def leaderboard(
    *,
    experiment: Annotated[
        str | None,
        typer.Option("--experiment", metavar="EXPERIMENT", help="MLflow experiment (default: the one in mlflow.yaml)"),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="KEY", help="metric to sort by (default: each task's first)")
    ] = None,
    style: Annotated[
        Literal["table", "markdown", "json", "html"],
        typer.Option("--format", metavar="FORMAT", help="table, markdown, json or html (default: table)"),
    ] = "table",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rank all models of an MLflow experiment, protocol by protocol.

    Example:
        harness leaderboard --format html > board.html
    """
    from harness.report.formats import board_markdown
    from harness.report.labels import registered_tasks
    from harness.report.leaderboard import board_blocks
    from harness.report.leaderboard import leaderboard as ranked
    from harness.results import read_results
    from harness.tracking.config import load_tracking_config
    from harness.tracking.reading import fetch_run, stored_runs

    config = load_tracking_config(overrides={"tracking": {"experiment": experiment}} if experiment else None)
    runs = []
    with tempfile.TemporaryDirectory(prefix="harness-runs-") as scratch:
        for run in stored_runs(config):
            folder = fetch_run(config, run.id, Path(scratch) / run.id, items=False)
            runs.append((read_results(folder, items=False), run.when))
    if not runs:
        raise ComparisonError(f"The experiment '{config.tracking.experiment}' holds no finished evaluation yet.")
    boards = ranked(runs, tasks=registered_tasks([r for r, _ in runs]), by=by)
    if json or style == "json":
        print_json(boards)
    elif style == "html":
        from harness.report.html import leaderboard_page

        print(leaderboard_page(boards, config.tracking.experiment))
    elif style == "markdown":
        print("\n\n".join(map(board_markdown, boards)))
    else:
        for board in boards:
            for block in board_blocks(board, width()):
                print_table(block)


def read_run(name: str) -> RunResult:
    """A run by its results folder, its MLflow id, or as `model@latest`.

    Raises:
        ResultsError: if it is none of these, or no run of the model is finished.
    """
    from harness.results import read_results

    if _is_folder(name):
        return read_results(Path(name))
    model, at, latest = name.rpartition("@")
    is_id = len(name) == 32 and all(c in "0123456789abcdef" for c in name)
    if not is_id and not (at and latest == "latest"):
        raise ResultsError(
            f"'{name}' is not a run: give a results folder (one with results.json), an MLflow run id, or MODEL@latest."
        )
    from harness.tracking.config import load_tracking_config
    from harness.tracking.reading import fetch_run, stored_runs

    config = load_tracking_config()
    if not is_id:
        found = stored_runs(config, model=model)
        if not found:
            raise ResultsError(
                f"The experiment '{config.tracking.experiment}' holds no finished run of model '{model}'."
            )
        name = found[0].id
    with tempfile.TemporaryDirectory(prefix="harness-run-") as scratch:
        return read_results(fetch_run(config, name, Path(scratch)))


def _is_folder(name: str) -> bool:
    return (Path(name) / "results.json").is_file()
