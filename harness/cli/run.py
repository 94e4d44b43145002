"""`harness run`: evaluates models on tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.arguments import (
    Device,
    Json,
    NoCache,
    NoTracking,
    Quiet,
    Seed,
    complete_models,
    complete_tasks,
    corpus_option,
    folder_option,
    names_in,
    settings_of,
    split_option,
)
from harness.cli.cache import temporary_cache
from harness.cli.config_file import ConfigFile
from harness.cli.printing import Printer, print_json, print_table, warn
from harness.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from harness.results import RunResult
    from harness.task import TaskInfo
    from harness.tracking.sender import ResultSender


def run(
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="A,B",
            help="cards by name, paths to YAML cards, folders (./out), or models:/NAME@ALIAS",
            autocompletion=complete_models,
        ),
    ],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            metavar="T,U",
            help="tasks by name, or path/to/file.py:TASK",
            autocompletion=complete_tasks,
        ),
    ],
    corpus: Annotated[str | None, corpus_option("corpus by name, or a manifest .jsonl (default: the card's)")] = None,
    split: Annotated[str | None, split_option("split of the corpus (default: its test split)")] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="items per task (default: the task's own number)"),
    ] = None,
    seed: Seed = 0,
    batch_tokens: Annotated[
        int,
        typer.Option(
            "--batch-tokens",
            metavar="N",
            min=1,
            help="tokens per batch; has no effect on results (default: 8192)",
        ),
    ] = 8192,
    output: Annotated[str | None, folder_option("results folder (default: results/<run id>)")] = None,
    full_scores: Annotated[
        bool,
        typer.Option("--full-scores/--no-full-scores", help="score every candidate to its end and store all scores"),
    ] = False,
    devices: Annotated[
        int,
        typer.Option(
            "--devices",
            metavar="K",
            min=1,
            help="share the work among K processes here, with --device cuda each on a GPU of its own (default: 1)",
        ),
    ] = 1,
    no_cache: NoCache = False,
    no_tracking: NoTracking = False,
    device: Device = "cpu",
    settings: Annotated[list[str] | None, settings_of("option of a task, such as cra.n=200")] = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Evaluate models on tasks.

    Example:
        harness run --model sutlm-tiny --tasks cra --limit 50 --output out/o1
    """
    given = {name: value for name, value in locals().items() if name != "config"}
    from harness.engine.distributed import Processes

    processes = Processes.of_environment()
    several = devices > 1 and processes.world == 1
    with _result_sender(wanted=not no_tracking and not several and processes.rank == 0) as sender:
        from harness.by_name import evaluate, write_run
        from harness.config import parse_settings
        from harness.evaluation.evaluate import RunConfig, load_tasks
        from harness.files import check_folder
        from harness.model import read_card

        names, options = names_in(tasks), parse_settings(settings or ())
        run_config = RunConfig(
            tasks=names,
            corpus=corpus,
            split=split,
            limit=limit,
            seed=seed,
            batch_tokens=batch_tokens,
            settings=with_full_scores(names, options) if full_scores else options,
        )
        infos = {name: task.info for name, (task, _) in load_tasks(run_config.tasks, run_config.settings).items()}
        check_folder(Path(output or "results"))
        models = _fetched(names_in(model))
        # Every card is read and every checkpoint looked for before the first hour is spent.
        cards = [read_card(name) for name in models]
        for card in cards:
            card.require_checkpoint()
        check_distinct([card.name for card in cards])
        if several:
            return _run_in_several_processes(given, devices)
        printer = Printer(json=json, quiet=quiet or processes.rank > 0)
        results: list[RunResult] = []
        with temporary_cache(no_cache), processes.connected():
            for name in models:
                with printer.progress() as progress:
                    result = evaluate(
                        name, run_config, device=processes.device(device), progress=progress.update, processes=processes
                    )
                if processes.rank > 0:
                    continue  # the first process writes and prints what all of them have
                folder = _folder(output, result, several=len(models) > 1)
                write_run(result, run_config, folder)
                printer.say(f"results in {folder}")
                if sender:
                    _track(printer, sender, result, infos, folder)
                results.append(result)
        if processes.rank == 0:
            _print_results(printer, results, infos)
        return 0


def check_distinct(names: Sequence[str]) -> None:
    """Makes sure that no model's results would take the place of another's.

    Raises:
        UsageError: if two models have one name.
    """
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise UsageError(
            f"Two of the models are called '{twice[0]}': their results would lie in one folder. Name each model once, "
            "or give each card a 'name' of its own."
        )


def with_full_scores(names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with the option `full_scores` turned on for every task of the run that has it.

    Raises:
        ConfigError: if none has it.
    """
    from harness.config import merge
    from harness.task import task_registry

    tasks = [task_registry().load(name) for name in names]
    having = [task.info.name for task in tasks if "full_scores" in {f.name for f in fields(task.Options)}]
    if not having:
        own = ", ".join(task.info.name for task in tasks)
        raise ConfigError(f"--full-scores: no task of this run has an option 'full_scores'; tasks: {own}.")
    return merge(settings, {name: {"full_scores": True} for name in having})


def _print_results(printer: Printer, results: Sequence[RunResult], infos: Mapping[str, TaskInfo]) -> None:
    from harness.report.tables import results_table
    from harness.results import summary

    if printer.json:
        print_json([summary(r) for r in results] if len(results) > 1 else summary(results[0]))
        return
    for name, info in infos.items():
        print_table(results_table(name, results, info))
        for result in results:
            print(result.tasks[name].signature)


def _run_in_several_processes(given: Mapping[str, Any], number: int) -> int:
    """The same command in several processes, each of which finds its place in the environment."""
    threads = str(max(1, (os.cpu_count() or 1) // number))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    return subprocess.run([*torchrun, "-m", "harness", "run", *command_line(given)], env=environment).returncode


def command_line(given: Mapping[str, Any]) -> list[str]:
    """The arguments of `harness run` that stand for these arguments of `run`."""
    words: list[str] = []
    for name, value in given.items():
        option = "--set" if name == "settings" else "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else []
        else:
            several = value if isinstance(value, list) else [] if value is None else [value]
            words += [f"{option}={one}" for one in several]
    return words


def _fetched(names: Sequence[str]) -> tuple[str, ...]:
    """Names of cards as they are; registered models are fetched and become paths to their cards."""
    if not any(name.startswith("models:/") for name in names):
        return tuple(names)
    from harness.tracking.config import load_tracking_config
    from harness.tracking.registry import fetch_model, is_registered

    return tuple(str(fetch_model(load_tracking_config(), n)) if is_registered(n) else n for n in names)


def _folder(output: str | None, result: RunResult, *, several: bool) -> Path:
    if output is None:
        return Path("results") / result.run_id
    return Path(output) / result.model["name"] if several else Path(output)


@contextmanager
def _result_sender(*, wanted: bool) -> Iterator[ResultSender | None]:
    """Opens the tracking store in a process of its own, where wanted, while this one evaluates."""
    if not wanted:
        yield None
        return
    from harness.tracking.config import load_tracking_config
    from harness.tracking.sender import ResultSender

    with ResultSender(load_tracking_config()) as sender:
        yield sender


def _track(
    printer: Printer, sender: ResultSender, result: RunResult, infos: Mapping[str, TaskInfo], folder: Path
) -> None:
    from harness.tracking.storage import TrackingError

    try:
        logged = sender.send(result, infos=infos, folder=folder)
    except TrackingError as error:
        # Loud, but the results are on disk: a lost tracking server costs no evaluation.
        warn(f"{error} Later, 'harness sync' sends them.")
        return
    where = f" at {logged.url}" if logged.url else ""
    printer.say(f"MLflow run {logged.run_id}{where}; open it with: harness ui")
