"""`harness run`: evaluates models on tasks."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.arguments import add_device_and_set, command, names_in, positive
from harness.cli.cache import limit_cache, row_store
from harness.cli.printing import ProgressBar, print_json, print_table, say

if TYPE_CHECKING:
    from harness.results import RunResult


def _run(a: argparse.Namespace) -> int:
    from harness.config import parse_settings
    from harness.engine.distributed import Processes
    from harness.evaluation.evaluate import RunConfig, evaluate, load_tasks, with_flag
    from harness.model import load_model, read_card
    from harness.report.tables import results_table
    from harness.results import summary, write_results

    processes = Processes.of_environment()
    names, settings = names_in(a.tasks), parse_settings(a.set)
    config = RunConfig(
        tasks=names,
        corpus=a.corpus,
        split=a.split,
        limit=a.limit,
        seed=a.seed,
        batch_tokens=a.batch_tokens,
        settings=with_flag(names, settings, "full_scores") if a.full_scores else settings,
    )
    tasks = load_tasks(config.tasks, config.settings)
    infos = {name: task.info for name, (task, _) in tasks.items()}
    models = _cards(names_in(a.model))
    # Every card is read and every checkpoint looked for before the first hour is spent.
    for card in [read_card(name) for name in models]:
        card.require_checkpoint()
    if a.devices > 1 and processes.world == 1:
        return _run_in_several(a)
    a.quiet = a.quiet or processes.rank > 0
    limit_cache(a)
    results: list[RunResult] = []
    with row_store() as store, processes.connected():
        for name in models:
            with ProgressBar(a) as progress:
                model = load_model(name, device=processes.device(a.device))
                result = evaluate(model, config, progress=progress.update, store=store, processes=processes)
            if processes.rank > 0:
                continue  # the first process writes and prints what all of them have
            folder = _output(a, result.run_id, result.model["name"], several=len(models) > 1)
            write_results(result, folder)
            say(a, f"results in {folder}")
            _track(a, result, infos, folder)
            results.append(result)
    if processes.rank > 0:
        return 0
    if a.json:
        print_json([summary(r) for r in results] if len(results) > 1 else summary(results[0]))
    else:
        for task, info in infos.items():
            print_table(results_table(task, results, info))
            for result in results:
                print(result.tasks[task].signature)
    return 0


def _run_in_several(a: argparse.Namespace) -> int:
    """The same command in `--devices` processes, each of which finds its place in the environment."""
    threads = str(max(1, (os.cpu_count() or 1) // a.devices))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(a.devices)]
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    return subprocess.run([*command, "-m", "harness", *a.argv], env=environment).returncode


def _cards(names: Sequence[str]) -> tuple[str, ...]:
    """Names of cards as they are; registered models are fetched and become paths to their cards."""
    if not any(name.startswith("models:/") for name in names):
        return tuple(names)
    from harness.tracking.config import load_tracking_config
    from harness.tracking.registry import fetch_model, is_registered

    return tuple(str(fetch_model(load_tracking_config(), n)) if is_registered(n) else n for n in names)


def _output(a: argparse.Namespace, run_id: str, model: str, *, several: bool) -> Path:
    if a.output is None:
        return Path("results") / run_id
    return Path(a.output) / model if several else Path(a.output)


def _track(a: argparse.Namespace, result: RunResult, infos: Any, folder: Path) -> None:
    if a.no_tracking:
        return
    from harness.tracking.config import load_tracking_config
    from harness.tracking.outbox import log_or_keep
    from harness.tracking.storage import TrackingError

    try:
        logged = log_or_keep(result, load_tracking_config(), infos=infos, folder=folder)
    except TrackingError as error:
        # Loud, but the results are on disk: a lost tracking server costs no evaluation.
        print(f"harness: warning: {error} Later, 'harness sync' sends them.", file=sys.stderr)
        return
    say(a, f"MLflow run {logged.run_id}{f' at {logged.url}' if logged.url else ''}; open it with: harness ui")


def add_run(commands: Any) -> None:
    """Adds the parser of `harness run`."""
    run = command(
        commands,
        "run",
        _run,
        "evaluate models on tasks",
        "harness run --model sutlm-tiny --tasks cra --limit 50 --output out/o1",
    )
    run.add_argument(
        "--model",
        required=True,
        metavar="A,B",
        help="cards by name, paths to YAML cards, folders (./out), or models:/NAME@ALIAS",
    )
    run.add_argument("--tasks", required=True, metavar="T,U", help="tasks by name, or path/to/file.py:TASK")
    run.add_argument("--corpus", help="corpus by name, or a manifest .jsonl (default: the card's)")
    run.add_argument("--split", help="split of the corpus (default: its test split)")
    run.add_argument("--limit", type=positive, help="items per task (default: the task's own number)")
    run.add_argument("--seed", type=int, default=0, help="seed of every draw (default: 0)")
    run.add_argument(
        "--batch-tokens", type=positive, default=8192, help="tokens per batch; moves no number (default: 8192)"
    )
    run.add_argument("--output", metavar="DIR", help="results folder (default: results/<run id>)")
    run.add_argument("--full-scores", action="store_true", help="score every candidate to its end and keep all scores")
    run.add_argument(
        "--devices", type=positive, default=1, metavar="K",
        help="share the work among K processes here, with --device cuda each on a GPU of its own (default: 1)",
    )  # fmt: skip
    run.add_argument("--no-cache", action="store_true", help="compute everything afresh and keep nothing")
    run.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    add_device_and_set(run, "option of a task, such as cra.n=200")
