"""The command line: one function per subcommand; parse, call, print."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, InputError
from harness.version import __version__

if TYPE_CHECKING:
    from harness.evaluation.store import RowStore
    from harness.report.tables import Table
    from harness.results import RunResult

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


# --- run --------------------------------------------------------------------------------------------------------------


def _run(a: argparse.Namespace) -> int:
    from harness.config import parse_settings
    from harness.engine.distributed import Processes
    from harness.evaluation.evaluate import RunConfig, evaluate, load_tasks, with_flag
    from harness.model import load_model, read_card
    from harness.report.tables import results_table
    from harness.results import summary, write_results

    processes = Processes.of_environment()
    names, settings = _names(a.tasks), parse_settings(a.set)
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
    models = _cards(_names(a.model))
    # Every card is read and every checkpoint looked for before the first hour is spent.
    for card in [read_card(name) for name in models]:
        card.require_checkpoint()
    if a.devices > 1 and processes.world == 1:
        return _run_in_several(a)
    a.quiet = a.quiet or processes.rank > 0
    _limit_cache(a)
    results: list[RunResult] = []
    with _row_store() as store, processes.connected():
        for name in models:
            with _Progress(a) as progress:
                model = load_model(name, device=processes.device(a.device))
                result = evaluate(model, config, progress=progress.update, store=store, processes=processes)
            if processes.rank > 0:
                continue  # the first process writes and prints what all of them have
            folder = _output(a, result.run_id, result.model["name"], several=len(models) > 1)
            write_results(result, folder)
            _say(a, f"results in {folder}")
            _track(a, result, infos, folder)
            results.append(result)
    if processes.rank > 0:
        return 0
    if a.json:
        _print_json([summary(r) for r in results] if len(results) > 1 else summary(results[0]))
    else:
        for task, info in infos.items():
            _print_table(results_table(task, results, info))
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
    from harness.tracking.runs import fetch_model, is_registered, load_tracking_config

    return tuple(str(fetch_model(load_tracking_config(), n)) if is_registered(n) else n for n in names)


def _row_store() -> RowStore:
    from harness.evaluation.store import RowStore, StoreWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StoreWarning)
        store = RowStore()
    for warning in caught:
        print(f"harness: warning: {warning.message}", file=sys.stderr)
    return store


def _output(a: argparse.Namespace, run_id: str, model: str, *, several: bool) -> Path:
    if a.output is None:
        return Path("results") / run_id
    return Path(a.output) / model if several else Path(a.output)


def _track(a: argparse.Namespace, result: RunResult, infos: Any, folder: Path) -> None:
    if a.no_tracking:
        return
    from harness.tracking.runs import TrackingError, load_tracking_config, log_or_keep

    try:
        logged = log_or_keep(result, load_tracking_config(), infos=infos, folder=folder)
    except TrackingError as error:
        # Loud, but the results are on disk: a lost tracking server costs no evaluation.
        print(f"harness: warning: {error} Later, 'harness sync' sends them.", file=sys.stderr)
        return
    _say(a, f"MLflow run {logged.run_id}{f' at {logged.url}' if logged.url else ''}; open it with: harness ui")


def _limit_cache(a: argparse.Namespace) -> None:
    if a.no_cache:
        folder = tempfile.TemporaryDirectory(prefix="harness-cache-")
        os.environ["HARNESS_CACHE"] = folder.name
        a.keep_alive = folder


# --- list, show -------------------------------------------------------------------------------------------------------


def _list(a: argparse.Namespace) -> int:
    rows = {"tasks": _list_tasks, "models": _list_models, "corpora": _list_corpora}[a.what]()
    if a.json:
        _print_json(rows)
        return 0
    from harness.report.tables import Table

    columns = tuple(rows[0]) if rows else ("name",)
    _print_table(Table(f"{len(rows)} {a.what}", columns, tuple(tuple(r.values()) for r in rows)), left=True)
    return 0


def _list_tasks() -> list[dict[str, str]]:
    from harness.task import task_registry

    return _registered(task_registry())


def _list_corpora() -> list[dict[str, str]]:
    from harness.corpora.corpus import corpus_registry

    return _registered(corpus_registry())


def _registered(registry: Any) -> list[dict[str, str]]:
    return [
        {"name": name, "description": registry.first_line(name), "from": source}
        for name, source in registry.sources().items()
    ]


def _list_models() -> list[dict[str, str]]:
    from harness.model import card_names, read_card

    cards = [read_card(name) for name in card_names()]
    return [
        {
            "name": c.name,
            "adapter": c.adapter,
            "weights": "here" if c.available else "absent",
            "description": c.description,
        }
        for c in cards
    ]


def _show(a: argparse.Namespace) -> int:
    from harness.config import plain
    from harness.model import card_names, is_path, read_card
    from harness.task import task_registry

    if a.name in task_registry().sources() or ".py:" in a.name:
        task = task_registry().load(a.name)
        _print_data(a, {"task": plain(task.info), "options": plain(task.Options())})
    elif a.name in card_names() or is_path(a.name):
        from harness.training.show import describe_checkpoint

        card = read_card(a.name)
        here = card.available and card.needs_checkpoint
        weights = {"weights": describe_checkpoint(card.checkpoint_path)} if here else {}
        facts = {"checkpoint_path": str(card.checkpoint_path), "available": card.available, **weights}
        _print_data(a, {**plain(card), **facts})
    else:
        from harness.errors import UnknownNameError

        raise UnknownNameError("task or model", a.name, [*task_registry().sources(), *card_names()])
    return 0


# --- data, tokenizer --------------------------------------------------------------------------------------------------


def _data_prepare(a: argparse.Namespace) -> int:
    from harness.corpora.corpus import prepare_corpus, prepared_splits

    folder = prepare_corpus(a.name, Path(a.root) if a.root else None, _names(a.splits) if a.splits else ())
    splits = prepared_splits(folder.name)
    report = {
        name: {"manifest": str(s.manifest), "audio": str(s.root), "notes": list(s.notes)} for name, s in splits.items()
    }
    _print_data(a, report)
    return 0


def _data_show(a: argparse.Namespace) -> int:
    from harness.corpora.show import describe_corpus

    _print_data(a, describe_corpus(a.name, a.split))
    return 0


def _data_check(a: argparse.Namespace) -> int:
    from harness.corpora.show import check_manifest

    _print_data(a, check_manifest(Path(a.manifest), Path(a.root) if a.root else None))
    return 0


def _tokenizer_train(a: argparse.Namespace) -> int:
    from harness.config import build, parse_settings
    from harness.speech.tokenizer import TokenizerConfig, train_tokenizer

    config = build(TokenizerConfig, parse_settings(a.set), where="--set")
    with _Progress(a) as progress:
        summary = train_tokenizer(
            a.corpus, a.split, config, Path(a.output), seed=a.seed, limit=a.limit, device=a.device,
            progress=lambda done, total: progress.update("units", done, total),
        )  # fmt: skip
    _print_data(a, summary)
    return 0


def _tokenizer_encode(a: argparse.Namespace) -> int:
    from harness.segments import AudioSpan
    from harness.speech.tokenizer import EncodeStats, SpeechTokenizer

    tokenizer = SpeechTokenizer.load(Path(a.tokenizer))
    _limit_cache(a)
    stats: list[EncodeStats] = []
    spans = tokenizer.encode([AudioSpan(Path(f)) for f in a.audio], device=a.device, report=stats.append)
    for file, span in zip(a.audio, spans, strict=True):
        row = {
            "audio": file,
            "system": span.system,
            "rate_hz": span.rate_hz,
            "units": span.units,
            "durations": span.durations,
        }
        print(json.dumps({**row, "subwords": tokenizer.subwords(span)}))
    _say(
        a,
        f"{stats[0].num_files} files, {stats[0].num_cached} from the cache, {stats[0].times_real_time:.0f} x real time",
    )
    return 0


def _tokenizer_show(a: argparse.Namespace) -> int:
    from harness.speech.tokenizer import describe

    _print_data(a, describe(Path(a.tokenizer)))
    return 0


# --- train ------------------------------------------------------------------------------------------------------------


def _train(a: argparse.Namespace) -> int:
    from harness.config import merge, parse_settings, plain
    from harness.model import read_card
    from harness.training.train import runnable_as, train_model, training_card

    asked = {"steps": a.steps, "batch_tokens": a.batch_tokens, "seed": a.seed}
    settings = merge(parse_settings(a.set), {"training": {k: v for k, v in asked.items() if v is not None}})
    card = training_card(read_card(a.model), corpus=a.corpus, settings=settings)
    logger = _training_logger(a, card)
    with _Progress(a) as progress:

        def on_step(step: Any) -> None:
            dev = "".join(f" {k} {v:.3f}" for k, v in step.dev.items())
            progress.update(
                "training", step.step, step.steps, f"loss {step.loss:.3f}{dev} {step.tokens_per_s:,.0f} tokens/s"
            )
            if logger:
                logger.log(
                    step.step,
                    {
                        "loss": step.loss,
                        "learning_rate": step.learning_rate,
                        "grad_norm": step.grad_norm,
                        "tokens": step.tokens,
                        "tokens_per_s": step.tokens_per_s,
                        **step.dev,
                    },
                )

        try:
            trained = train_model(
                card,
                output=Path(a.output) if a.output else None,
                device=a.device,
                on_step=on_step,
                progress=progress.update,
            )
        except BaseException:
            if logger:
                _close(logger, "FAILED")
            raise
    if logger:
        _register_trained(a, logger, card, trained)
        _close(logger)
    _print_data(a, plain(trained))
    if trained.num_without_word_times:
        _say(a, f"{trained.num_without_word_times:,} utterances have no word times: AST left them out")
    if trained.num_cut:
        _say(a, f"{trained.num_cut:,} documents were longer than a row and lost their end")
    here = read_card(a.model)
    if here.sha256 not in (None, trained.sha256) and here.checkpoint_path.resolve() == trained.checkpoint.resolve():
        _say(a, f"the card '{here.name}' looks here for other weights; give it sha256: {trained.sha256}")
    _say(a, f"evaluate it with: harness run --model {runnable_as(a.model, trained)} --tasks cra")
    return 0


def _register_trained(a: argparse.Namespace, logger: Any, card: Any, trained: Any) -> None:
    """With `logging.registry`, the checkpoint becomes a version of its card's name."""
    from harness.tracking.runs import TrackingError, load_tracking_config

    if not load_tracking_config().logging.registry:
        return
    from harness.model import adapter_registry

    card = replace(card, checkpoint=str(trained.checkpoint.absolute()), sha256=trained.sha256)
    fingerprint = adapter_registry().load(card.adapter)(card, device="cpu").fingerprint
    try:
        _say(a, f"registered as {logger.register(card, fingerprint=fingerprint)}")
    except TrackingError as error:
        print(f"harness: warning: {error}", file=sys.stderr)


def _close(logger: Any, status: str = "FINISHED") -> None:
    from harness.tracking.runs import TrackingError

    try:
        logger.close(status)
    except TrackingError as error:
        print(f"harness: warning: {error}", file=sys.stderr)


def _training_logger(a: argparse.Namespace, card: Any) -> Any:
    if a.no_tracking:
        return None
    from harness.config import digest
    from harness.tracking.runs import TrackingError, load_tracking_config, training_logger

    try:
        return training_logger(
            load_tracking_config(),
            f"train {card.name}",
            {"architecture": card.architecture, "training": card.training, "tokenizers": card.tokenizers},
            {"kind": "training", "model": card.name, "key": digest([card.name, card.training, card.architecture])[:16]},
        )
    except TrackingError as error:
        print(f"harness: warning: {error}", file=sys.stderr)
        return None


# --- sweep ------------------------------------------------------------------------------------------------------------


def _sweep_run(a: argparse.Namespace) -> int:
    from harness.config import merge, parse_settings
    from harness.sweep.spec import read_spec
    from harness.sweep.study import Launch, run_sweep, status
    from harness.tracking.runs import load_tracking_config

    asked = {} if a.trials is None else {"trials": a.trials}
    spec = read_spec(a.spec, merge(parse_settings(a.set), asked))
    folder = Path(a.output) if a.output else Path("results") / "sweeps" / spec.name
    launch = Launch(
        workers=a.workers,
        launcher=a.launcher,
        slurm=tuple(a.slurm),
        device=a.device,
        track=not a.no_tracking,
        nproc=a.nproc,
    )
    with _Progress(a) as progress:
        sweep = run_sweep(
            spec, folder, load_tracking_config(), launch, progress=progress.update, say=lambda line: _say(a, line)
        )
    _say(a, f"sweep in {folder}; read it with: harness sweep report {folder}")
    _print_status(a, status(sweep))
    return 0


def _sweep_worker(a: argparse.Namespace) -> int:
    from harness.sweep.study import TerminatedError, Worker, open_sweep
    from harness.tracking.runs import load_tracking_config

    sweep = open_sweep(Path(a.folder), load_tracking_config())
    worker = Worker(sweep, device=a.device, track=not a.no_tracking, nproc=a.nproc, say=lambda line: _say(a, line))
    try:
        number = worker.run()
    except TerminatedError:
        _say(a, "stopped on request; the trial in hand waits for another worker")
        return 0
    _say(a, f"{number} trials done by this worker")
    return 0


def _sweep_status(a: argparse.Namespace) -> int:
    from harness.sweep.study import open_sweep, status
    from harness.tracking.runs import load_tracking_config

    _print_status(a, status(open_sweep(Path(a.folder), load_tracking_config())))
    return 0


def _print_status(a: argparse.Namespace, state: dict[str, Any]) -> None:
    if a.json:
        _print_json(state)
        return
    from harness.sweep.simplex import describe

    states = ", ".join(f"{number} {name.lower()}" for name, number in state["states"].items())
    print(f"{state['sweep']}: {state['done']} of {state['asked']} trials done ({states or 'none begun'})")
    for key, best in state["best"].items():
        mixture = describe(list(best["mixture"].values()), list(best["mixture"]))
        print(f"best {key} {best['value']:.4g} in trial {best['trial']}: {mixture}")


def _sweep_report(a: argparse.Namespace) -> int:
    from harness.sweep.study import open_sweep, report_sweep
    from harness.tracking.runs import load_tracking_config

    sweep = open_sweep(Path(a.folder), load_tracking_config())
    written = report_sweep(sweep, Path(a.output) if a.output else None, track=not a.no_tracking)
    if a.json:
        _print_json(written.summary)
    else:
        print(written.text)
    _say(a, f"report in {written.folder}")
    return 0


def _sweep_export(a: argparse.Namespace) -> int:
    from harness.sweep.report import export
    from harness.sweep.study import open_sweep, outcomes
    from harness.tracking.runs import load_tracking_config

    sweep = open_sweep(Path(a.folder), load_tracking_config())
    for path in export(sweep.plan, outcomes(sweep), Path(a.output or a.folder)):
        print(path)
    return 0


# --- cache ------------------------------------------------------------------------------------------------------------


def _cache_list(a: argparse.Namespace) -> int:
    from harness.report.tables import Table

    with _row_store() as store:
        entries = store.entries()
    if a.json:
        _print_json(entries)
        return 0
    rows = tuple(
        (e.model, e.fingerprint[:8], e.task, e.corpus, f"{e.rows:,}", f"{e.bytes / 1e6:,.1f}", _moment(e.used))
        for e in entries
    )
    columns = ("model", "fingerprint", "task", "corpus", "rows", "MB", "last used")
    title = f"{sum(e.rows for e in entries):,} rows in {store.path}"
    _print_table(Table(title, columns, rows, left=frozenset({0, 1, 2, 3})))
    return 0


def _cache_clear(a: argparse.Namespace) -> int:
    with _row_store() as store:
        removed = store.clear(model=a.model, task=a.task)
    if a.json:
        _print_json({"removed": removed})
    else:
        print(f"removed {removed:,} rows from {store.path}")
    return 0


def _moment(epoch_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(epoch_s))


# --- score ------------------------------------------------------------------------------------------------------------


def _score_ner(a: argparse.Namespace) -> int:
    from harness.metrics.ner import score_files

    scores = score_files(Path(a.gold), Path(a.pred), tags=None if a.tags == "auto" else a.tags)
    if a.json:
        _print_json(scores.to_json())
        return 0
    from harness.report.tables import Table

    f1, label_f1 = scores.f1, scores.label_f1
    counts = {label: (str(c.gold), str(c.predicted)) for label, c in f1.label_counts.items()}
    sums = tuple(str(sum(getattr(c, k) for c in f1.counts.values())) for k in ("gold", "predicted"))
    named = [("micro", f1.micro, label_f1.micro, sums), ("macro", f1.macro, label_f1.macro, ("", ""))]
    named += [(label, prf, label_f1.per_label[label], counts[label]) for label, prf in f1.per_label.items()]
    rows = tuple(
        (name, *(f"{x:.4f}" for prf in both for x in (prf.precision, prf.recall, prf.f1)), *count)
        for name, *both, count in named
    )
    columns = ("", "precision", "recall", "F1", "label precision", "label recall", "label-F1", "gold", "predicted")
    title = f"slue_ner, {len(f1.counts)} utterances; the label columns compare labels whatever the phrase"
    _print_table(Table(title, columns, rows, left=frozenset({0})))
    return 0


def _score_sa(a: argparse.Namespace) -> int:
    from harness.metrics.classification import score_files

    scores = score_files(Path(a.gold), Path(a.pred))
    if a.json:
        _print_json(scores.to_json())
        return 0
    from harness.report.tables import Table

    macro = ("macro", scores.macro_precision, scores.macro_recall, scores.macro_f1, len(scores.cells))
    classes = [(name, c.precision, c.recall, c.f1, c.support) for name, c in scores.per_class.items()]
    rows = tuple((name, *(f"{x:.2f}" for x in prf), str(n)) for name, *prf, n in [macro, *classes])
    title = f"slue_sa, in per cent: accuracy {scores.accuracy:.2f}, unparsable {scores.unparsable:.2f}"
    _print_table(Table(title, ("", "precision", "recall", "F1", "items"), rows, left=frozenset({0})))
    return 0


def _score_repetition(a: argparse.Namespace) -> int:
    from harness.metrics.repetition import command

    scores = command(Path(a.outputs))
    if a.json:
        _print_json(scores)
        return 0
    from harness.report.tables import Table

    rows = tuple((name, f"{value:.4f}") for name, value in scores.items())
    _print_table(Table("repetition", ("metric", "value"), rows, left=frozenset({0})))
    return 0


# --- compare, why, report, leaderboard --------------------------------------------------------------------------------


def _compare(a: argparse.Namespace) -> int:
    from harness.report import tables as report
    from harness.report.compare import compare, find_baseline, labels_of, registered_tasks

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
        metrics=_names(a.metrics) if a.metrics else (), force=a.force, seed=a.seed,
    )  # fmt: skip
    style = "json" if a.json else a.format
    if style == "table":
        best = ("[bold]", "[/bold]") if sys.stdout.isatty() else ("", "^")
        for block in report.comparison_blocks(found, _width(), best=best):
            _print_table(block)
    elif style == "json":
        _print_json(report.comparison_data(found))
    elif style == "html":
        from harness.report.html import comparison_page

        print(comparison_page(found))
    else:
        print({"markdown": report.comparison_markdown, "latex": report.comparison_latex, "csv": report.comparison_csv}[
            style
        ](found))  # fmt: skip
    return 0


def _why(a: argparse.Namespace) -> int:
    from harness.report.compare import labels_of, registered_tasks, why
    from harness.report.tables import why_tables

    one, other = results = [_read_run(a.a), _read_run(a.b)]
    first, second = labels_of(results, [a.a, a.b])
    found = why(one, other, (first, second), tasks=registered_tasks(results), top=a.top)
    if a.json:
        _print_json(found)
        return 0
    for table in why_tables(found):
        _print_table(table, left=True)
    return 0


def _report(a: argparse.Namespace) -> int:
    from harness.report.compare import labels_of, registered_tasks
    from harness.report.html import report_page

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
        _print_json({"output": str(output), "bytes": output.stat().st_size})
    else:
        print(f"{output} ({output.stat().st_size / 1e6:.2f} MB)")
    return 0


def _leaderboard(a: argparse.Namespace) -> int:
    from harness.report.compare import leaderboard, registered_tasks
    from harness.report.tables import board_blocks, board_markdown
    from harness.results import read_results
    from harness.tracking.runs import fetch_run, load_tracking_config, stored_runs

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
        _print_json(boards)
    elif a.format == "html":
        from harness.report.html import leaderboard_page

        print(leaderboard_page(boards, config.tracking.experiment))
    elif a.format == "markdown":
        print("\n\n".join(map(board_markdown, boards)))
    else:
        for board in boards:
            for block in board_blocks(board, _width()):
                _print_table(block)
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
    from harness.tracking.runs import fetch_run, load_tracking_config, stored_runs

    config = load_tracking_config()
    if not is_id:
        found = stored_runs(config, model=model)
        if not found:
            raise InputError(f"The experiment '{config.tracking.experiment}' holds no finished run of model '{model}'.")
        name = found[0].id
    with tempfile.TemporaryDirectory(prefix="harness-run-") as scratch:
        return read_results(fetch_run(config, name, Path(scratch)))


# --- sync, register ---------------------------------------------------------------------------------------------------


def _sync(a: argparse.Namespace) -> int:
    from harness.report.compare import registered_tasks
    from harness.tracking.runs import load_tracking_config, sync, unsent

    def infos(result: RunResult) -> dict[str, Any]:
        return {name: task.info for name, task in registered_tasks([result]).items()}

    rows = []
    for sent in sync(load_tracking_config(), infos, [Path(f) for f in a.folders]):
        rows.append({"run_id": sent.run_id, "folder": str(sent.folder), "sent": sent.logged is not None})
        if sent.logged is None:
            print(f"harness: warning: {sent.run_id}: {sent.problem}", file=sys.stderr)
        else:
            rows[-1]["mlflow_run"] = sent.logged.run_id
            _say(a, f"{sent.run_id} is MLflow run {sent.logged.run_id}")
    waiting = unsent()
    if a.json:
        _print_json({"runs": rows, "waiting": [str(folder) for folder in waiting]})
    else:
        print(f"{sum(bool(r['sent']) for r in rows)} sent, {len(waiting)} waiting")
    return 1 if waiting else 0


def _register(a: argparse.Namespace) -> int:
    from harness.model import load_model, read_card
    from harness.tracking.runs import load_tracking_config, register_model

    card = read_card(a.card)
    card.require_checkpoint()
    fingerprint = load_model(a.card).fingerprint  # what cannot be loaded is not registered
    aliases = tuple(a.alias)
    uri = register_model(
        load_tracking_config(), card, a.name or card.name, fingerprint=fingerprint, aliases=aliases
    )  # fmt: skip
    name = uri.rpartition("/")[0]
    if a.json:
        _print_json({"uri": uri, "aliases": [f"{name}@{alias}" for alias in aliases], "fingerprint": fingerprint})
    else:
        print("\n".join([uri, *(f"{name}@{alias}" for alias in aliases)]))
    return 0


# --- ui, doctor -------------------------------------------------------------------------------------------------------


def _ui(a: argparse.Namespace) -> int:
    from harness.tracking.runs import load_tracking_config, serve_ui

    server = serve_ui(load_tracking_config(), port=a.port, open_browser=a.open)
    print(f"MLflow at {server.url} (Ctrl-C stops it)", flush=True)
    server.wait()
    return 0


def _doctor(a: argparse.Namespace) -> int:
    from harness.doctor import checks

    found = checks()
    if a.json:
        _print_json([{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in found])
    else:
        for c in found:
            print(f"{'ok  ' if c.ok else 'FAIL'}  {c.name}: {c.detail}" + ("" if c.ok else f"\n      {c.remedy}"))
    return 0 if all(c.ok for c in found) else 1


# --- printing ---------------------------------------------------------------------------------------------------------


class _Progress:
    """A progress bar on a terminal, a line every ten seconds elsewhere, nothing with `--quiet`; always on stderr."""

    def __init__(self, a: argparse.Namespace) -> None:
        self._quiet, self._last = a.quiet, time.monotonic()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Progress:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"), console=Console(stderr=True),
            )  # fmt: skip
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Says that `done` of `total` are finished."""
        if self._bar:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total, detail=detail)
            self._bar.update(self._tasks[what], completed=done, total=total, detail=detail)
        elif not self._quiet and (done == total or time.monotonic() - self._last >= 10):
            self._last = time.monotonic()
            print(f"{what} {done}/{total} {detail}".rstrip(), file=sys.stderr, flush=True)


def _width() -> int:
    """Characters of a line of the terminal; into files and pipes lines may be as long as they like."""
    return os.get_terminal_size().columns if sys.stdout.isatty() else 10**6


def _print_table(table: Table, *, left: bool = False) -> None:
    if not sys.stdout.isatty():
        print(table.plain())
        return
    from rich.console import Console
    from rich.table import Table as RichTable

    out = RichTable(title=table.title, title_justify="left")
    for i, column in enumerate(table.columns):
        out.add_column(column, justify="left" if left or i in table.left else "right", overflow="fold")
    for row in table.rows:
        out.add_row(*row)
    Console().print(out)
    for note in table.notes:
        print(note)


def _print_data(a: argparse.Namespace, data: Any) -> None:
    if a.json:
        _print_json(data)
        return
    import yaml

    from harness.config import plain

    print(yaml.safe_dump(plain(data), sort_keys=False, allow_unicode=True, width=120).rstrip())


def _print_json(data: Any) -> None:
    from harness.config import plain

    print(json.dumps(plain(data), indent=2, ensure_ascii=False))


def _say(a: argparse.Namespace, text: str) -> None:
    if not a.quiet:
        print(text, file=sys.stderr)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise InputError(f"'{text}' names nothing; give names separated by commas.")
    return names


# --- parsing ----------------------------------------------------------------------------------------------------------


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; found '{text}'")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Evaluate joint speech-unit + text language models.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sutlm-harness {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_list_and_show(commands)
    _add_data(commands)
    _add_tokenizer(commands)
    _add_train(commands)
    _add_sweep(commands)
    _add_cache(commands)
    _add_score(commands)
    _add_compare(commands)
    _add_report(commands)
    _add_sync_and_register(commands)
    ui = _command(commands, "ui", _ui, "start MLflow on this machine with the results", "harness ui --port 5001")
    ui.add_argument("--port", type=_positive, help="port on 127.0.0.1 (default: the one in mlflow.yaml, or a free one)")
    ui.add_argument("--open", action="store_true", help="open the page in a browser")
    _command(commands, "doctor", _doctor, "check this installation", "harness doctor")
    return parser


def _command(
    commands: Any, name: str, call: Callable[[argparse.Namespace], int], help_: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(call=call)
    return parser


def _add_run(commands: Any) -> None:
    run = _command(
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
    run.add_argument("--limit", type=_positive, help="items per task (default: the task's own number)")
    run.add_argument("--seed", type=int, default=0, help="seed of every draw (default: 0)")
    run.add_argument(
        "--batch-tokens", type=_positive, default=8192, help="tokens per batch; moves no number (default: 8192)"
    )
    run.add_argument("--output", metavar="DIR", help="results folder (default: results/<run id>)")
    run.add_argument("--full-scores", action="store_true", help="score every candidate to its end and keep all scores")
    run.add_argument(
        "--devices", type=_positive, default=1, metavar="K",
        help="share the work among K processes here, with --device cuda each on a GPU of its own (default: 1)",
    )  # fmt: skip
    run.add_argument("--no-cache", action="store_true", help="compute everything afresh and keep nothing")
    run.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    _add_device_and_set(run, "option of a task, such as cra.n=200")


def _add_sweep(commands: Any) -> None:
    actions = commands.add_parser("sweep", help="find the best mixture of training formats").add_subparsers(
        metavar="ACTION", required=True
    )
    run = _command(
        actions, "run", _sweep_run, "train and evaluate a proxy on many mixtures; the same command resumes",
        "harness sweep run mixing-demo --workers 2 --output out/sweep",
    )  # fmt: skip
    run.add_argument("spec", help="sweep by name, or path to its YAML")
    run.add_argument("--workers", type=_positive, default=1, metavar="K", help="processes or jobs (default: 1)")
    run.add_argument("--trials", type=_positive, metavar="N", help="designed and adaptive ones (default: the sweep's)")
    run.add_argument("--output", metavar="DIR", help="folder of the sweep (default: results/sweeps/<name>)")
    run.add_argument("--launcher", choices=("local", "slurm"), default="local", help="of workers (default: local)")
    run.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE",
        help="parameter of submitit, such as slurm_partition=gpu; may be repeated",
    )  # fmt: skip
    run.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    _add_device_and_set(run, "part of the sweep, such as tokens=1000000")
    worker = _command(
        actions, "worker", _sweep_worker, "join a sweep that is running, from this or another machine",
        "harness sweep worker out/sweep",
    )  # fmt: skip
    worker.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, … (default: cpu)")
    status = _command(
        actions, "status", _sweep_status, "say where a sweep stands", "harness sweep status out/sweep --json"
    )
    report = _command(
        actions, "report", _sweep_report, "write response surfaces, best mixtures and comparisons",
        "harness sweep report out/sweep",
    )  # fmt: skip
    report.add_argument("--output", metavar="DIR", help="folder of the report (default: DIR/report of the sweep)")
    export = _command(
        actions, "export", _sweep_export, "write ratios.csv and metrics.csv", "harness sweep export out/sweep"
    )
    export.add_argument("--output", metavar="DIR", help="folder of the tables (default: the sweep's)")
    for parser in (run, worker):
        parser.add_argument(
            "--nproc", type=_positive, default=1, metavar="K",
            help="processes of a trial, which is then a torchrun job on one machine (default: 1)",
        )  # fmt: skip
    for parser in (worker, report):
        parser.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    for parser in (worker, status, report, export):
        parser.add_argument("folder", help="folder of the sweep")


_RUN_HELP = "results folder, MLflow run id, or MODEL@latest"


def _add_compare(commands: Any) -> None:
    compare = _command(
        commands, "compare", _compare, "compare runs, with paired differences to a baseline",
        "harness compare out/c/* --baseline sutlm-tiny-nomix --format markdown",
    )  # fmt: skip
    compare.add_argument("runs", nargs="+", metavar="RUN", help=_RUN_HELP)
    compare.add_argument("--baseline", metavar="RUN", help="one of the runs, or its model (default: the first)")
    compare.add_argument(
        "--metrics", metavar="KEY,KEY", help="metrics by key or pattern, such as 'cra.u2t.*' (default: the headlines)"
    )
    compare.add_argument(
        "--format", choices=("table", "markdown", "latex", "csv", "json", "html"), default="table", help="of the output"
    )
    compare.add_argument("--force", action="store_true", help="compare runs of different protocols, and mark them")
    compare.add_argument("--seed", type=int, default=0, help="seed of resamples (default: 0)")
    why = _command(
        commands, "why", _why, "show in what two runs differ and which items changed most",
        "harness why out/c/sutlm-tiny out/c/sutlm-tiny-cst",
    )  # fmt: skip
    why.add_argument("a", metavar="A", help=_RUN_HELP)
    why.add_argument("b", metavar="B", help="the other run")
    why.add_argument("--top", type=_positive, default=10, metavar="K", help="items of each task (default: 10)")
    board = _command(
        commands, "leaderboard", _leaderboard, "rank all models of an MLflow experiment, protocol by protocol",
        "harness leaderboard --format html > board.html",
    )  # fmt: skip
    board.add_argument("--experiment", help="MLflow experiment (default: the one in mlflow.yaml)")
    board.add_argument("--by", metavar="KEY", help="metric to sort by (default: each task's first)")
    board.add_argument("--format", choices=("table", "markdown", "json", "html"), default="table", help="of the output")


def _add_report(commands: Any) -> None:
    report = _command(
        commands, "report", _report, "write runs as one HTML file that needs no network",
        "harness report out/c/* --output out/report.html",
    )  # fmt: skip
    report.add_argument("runs", nargs="+", metavar="RUN", help=_RUN_HELP)
    report.add_argument("--output", default="report.html", metavar="FILE", help="the file (default: report.html)")
    report.add_argument(
        "--audio", choices=("link", "embed", "none"), default="link",
        help="link audio files by relative path, put them into the file, or leave them out (default: link)",
    )  # fmt: skip
    report.add_argument("--force", action="store_true", help="report runs of different protocols, and mark them")


def _add_sync_and_register(commands: Any) -> None:
    sync = _command(commands, "sync", _sync, "send results that could not reach the tracking server", "harness sync")
    sync.add_argument("folders", nargs="*", metavar="FOLDER", help="send these results folders too")
    register = _command(
        commands, "register", _register, "put a checkpoint into MLflow's model registry",
        "harness register sutlm-tiny --name sutlm --alias best   # then: harness run --model models:/sutlm@best …",
    )  # fmt: skip
    register.add_argument("card", metavar="CARD", help="card by name, or path to a YAML card")
    register.add_argument("--name", help="registered name (default: the card's)")
    register.add_argument("--alias", action="append", default=[], help="name of this version, such as best; repeatable")


def _add_cache(commands: Any) -> None:
    actions = commands.add_parser("cache", help="list and clear kept answers").add_subparsers(
        metavar="ACTION", required=True
    )
    _command(actions, "list", _cache_list, "list the answers that reruns need not compute", "harness cache list")
    clear = _command(
        actions, "clear", _cache_clear, "remove kept answers, of all models and tasks by default",
        "harness cache clear --model sutlm-tiny --task cra",
    )  # fmt: skip
    clear.add_argument("--model", help="only those of this model, by name or fingerprint")
    clear.add_argument("--task", help="only those of this task")


def _add_score(commands: Any) -> None:
    tasks = commands.add_parser("score", help="score files of answers made elsewhere").add_subparsers(
        metavar="TASK", required=True
    )
    ner = _command(
        tasks, "slue_ner", _score_ner, "score named entities as slue-toolkit does",
        "harness score slue_ner --gold gold.jsonl --pred pred.jsonl --json",
    )  # fmt: skip
    lines = '{"id", "entities": [[label, phrase], …]} or {"id", "text": "tagged text"} a line'
    ner.add_argument("--gold", required=True, metavar="FILE", help=f"the right entities: {lines}")
    ner.add_argument("--pred", required=True, metavar="FILE", help="the answers, in the same format")
    ner.add_argument(
        "--tags", choices=("auto", "inline", "raw", "combined"), default="auto",
        help="tags of texts: <PLACE> … </> (inline), or slue-toolkit's characters for raw or combined labels, "
        "%% … ] (default: what each file shows)",
    )  # fmt: skip
    sa = _command(
        tasks, "slue_sa", _score_sa, "score sentiment as slue-toolkit does",
        "harness score slue_sa --gold gold.jsonl --pred pred.jsonl --json",
    )  # fmt: skip
    sa.add_argument("--gold", required=True, metavar="FILE", help='the right labels: {"id", "label"} a line')
    sa.add_argument("--pred", required=True, metavar="FILE", help="the answers, in the same format")
    repetition = _command(
        tasks, "repetition", _score_repetition, "measure how much texts repeat themselves and each other",
        "harness score repetition --outputs outputs.jsonl --json",
    )  # fmt: skip
    repetition.add_argument("--outputs", required=True, metavar="FILE", help='the texts: {"id", "text"} a line')


def _add_device_and_set(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, … (default: cpu)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"{what}; may be repeated")


def _add_list_and_show(commands: Any) -> None:
    list_ = _command(commands, "list", _list, "list what is registered", "harness list models")
    list_.add_argument("what", choices=("tasks", "models", "corpora"))
    show = _command(commands, "show", _show, "show a task's protocol or a model's card", "harness show cra")
    show.add_argument("name", help="task, model, path to a card or its folder, or path/to/file.py:TASK")


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="prepare, show and check corpora").add_subparsers(
        metavar="ACTION", required=True
    )
    prepare = _command(
        data, "prepare", _data_prepare, "write manifests of a corpus from its distribution",
        "harness data prepare librispeech --root /data/LibriSpeech",
    )  # fmt: skip
    prepare.add_argument("name", help="corpus; see 'harness list corpora'")
    prepare.add_argument("--root", metavar="DIR", help="your local copy of the official distribution")
    prepare.add_argument("--splits", metavar="A,B", help="only these splits (default: all that are there)")
    show = _command(data, "show", _data_show, "sizes, digests and license of a corpus", "harness data show demo")
    show.add_argument("name", help="corpus, or a manifest .jsonl")
    show.add_argument("--split", help="only this split")
    check = _command(
        data, "check", _data_check, "validate a manifest and its audio", "harness data check my/test.jsonl"
    )
    check.add_argument("manifest", help="a manifest .jsonl")
    check.add_argument("--root", metavar="DIR", help="folder that audio paths start from (default: the manifest's)")


def _add_tokenizer(commands: Any) -> None:
    group = commands.add_parser("tokenizer", help="train, apply and show speech tokenizers")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    train = _command(
        actions, "train", _tokenizer_train, "train a speech tokenizer on a corpus split",
        "harness tokenizer train --corpus demo --split train --output tok --set n_clusters=50 --set vocab_size=1000",
    )  # fmt: skip
    train.add_argument("--corpus", default="demo", help="corpus or manifest (default: demo)")
    train.add_argument("--split", default="train", help="split (default: train)")
    train.add_argument("--output", required=True, metavar="DIR", help="folder of the tokenizer")
    train.add_argument("--limit", type=_positive, help="utterances to learn from (default: all)")
    train.add_argument("--seed", type=int, default=0, help="seed of every draw (default: 0)")
    _add_device_and_set(train, "part of the recipe, such as features.kind=hubert-base")
    encode = _command(
        actions, "encode", _tokenizer_encode, "print units and subwords of audio files, a JSON line each",
        "harness tokenizer encode tok speech.wav",
    )  # fmt: skip
    encode.add_argument("tokenizer", help="folder of the tokenizer, such as models/sutlm-tiny/speech")
    encode.add_argument("audio", nargs="+", help="audio files: any rate and format that libsndfile reads")
    encode.add_argument("--device", default="cpu", help="where a self-supervised extractor runs (default: cpu)")
    encode.add_argument("--no-cache", action="store_true", help="compute everything afresh and keep nothing")
    show = _command(
        actions, "show", _tokenizer_show, "parameters and digests of a tokenizer", "harness tokenizer show tok"
    )
    show.add_argument("tokenizer", help="folder of the tokenizer")


def _add_train(commands: Any) -> None:
    train = _command(
        commands, "train", _train, "train the model of a card; the same command resumes",
        "harness train --model sutlm-tiny --output out/tiny --set training.mixture.ast=2",
    )  # fmt: skip
    train.add_argument("--model", required=True, help="card by name, or path to a YAML card")
    train.add_argument(
        "--corpus", help="train on this corpus instead of the card's: another model, called <name>-<corpus>"
    )
    train.add_argument("--output", metavar="DIR", help="checkpoint folder (default: $HARNESS_HOME/checkpoints/<name>)")
    train.add_argument("--steps", type=_positive, help="optimizer steps (default: the card's)")
    train.add_argument("--batch-tokens", type=_positive, help="tokens per step (default: the card's)")
    train.add_argument("--seed", type=int, help="seed of weights and data order (default: the card's)")
    train.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    _add_device_and_set(train, "part of the card, such as training.learning_rate=1e-3")


if __name__ == "__main__":
    sys.exit(main())
