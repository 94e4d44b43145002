"""The one loop: a model on tasks, from corpus to records."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import __version__
from harness.config import build, digest, plain
from harness.corpora.corpus import Corpus, open_corpus
from harness.distributed import ALONE, Processes
from harness.errors import ConfigError, InputError, TaskError
from harness.model import Model
from harness.results import Item, RunResult, TaskResult, signature
from harness.resume import answer_all, scoring_version, total_work
from harness.scoring import Scorer
from harness.store import RowSet, RowStore
from harness.task import Task, task_registry

#: Called with what is being done, items done, items in all.
Progress = Callable[[str, int, int], None]

_PACKAGES = ("torch", "torchaudio", "transformers", "sentencepiece", "numpy", "scipy", "scikit-learn", "soundfile")
#: A task that fails on more of its items than this fails as a whole.
MAX_FAILED_SHARE = 0.05


@dataclass(frozen=True)
class RunConfig:
    """What `harness run` was asked for.

    Attributes:
        tasks: registered names, or `path.py:OBJECT`.
        corpus: a corpus name or manifest; unset takes the model card's.
        split: of the corpus.
        limit: items per task; unset takes each task's own number.
        seed: of every draw.
        batch_tokens: tokens per batch; changes speed only.
        settings: options of tasks by task name, as `--set` gave them.
    """

    tasks: tuple[str, ...]
    corpus: str | None = None
    split: str = "test"
    limit: int | None = None
    seed: int = 0
    batch_tokens: int = 8192
    settings: Mapping[str, Any] = field(default_factory=dict)


def load_tasks(names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, tuple[Task, Any]]:
    """Tasks by their own names, each with its options.

    Raises:
        UnknownNameError: if a task is not registered.
        ConfigError: if settings name no task of the run or do not fit a task's options.
        InputError: if a task is named twice.
    """
    registry = task_registry()
    loaded: dict[str, tuple[Task, Any]] = {}
    for name in names:
        task = registry.load(name)
        if task.info.name in loaded:
            raise InputError(f"The task '{task.info.name}' is asked for twice.")
        options: Any = build(task.Options, settings.get(task.info.name) or {}, where=f"--set {task.info.name}")
        loaded[task.info.name] = (task, options)
    if strangers := sorted(set(settings) - set(loaded)):
        raise ConfigError(f"--set {strangers[0]}.…: no task of this run has that name; tasks: {', '.join(loaded)}.")
    return loaded


def evaluate(
    model: Model,
    config: RunConfig,
    *,
    progress: Progress | None = None,
    store: RowStore | None = None,
    processes: Processes = ALONE,
) -> RunResult:
    """Runs every task of `config` on `model`.

    Args:
        model: what is evaluated.
        config: what is asked for.
        progress: told of what is done.
        store: where answers are looked up, and kept as they are found; unset computes all and keeps nothing.
        processes: those that share the work, connected; each of them gets the whole result.

    Raises:
        TaskError: if a task could not score enough of its items.
        InputError: for anything the caller can mend.
    """
    tasks = load_tasks(config.tasks, config.settings)
    corpus = open_corpus(config.corpus or model.card.corpus, config.split)
    results = {
        name: _run_task(model, task, options, corpus, config, progress, store, processes)
        for name, (task, options) in tasks.items()
    }
    identity = {"model": model.fingerprint, "tasks": {n: r.protocol for n, r in results.items()}}
    return RunResult(
        run_id=f"{model.card.name}-{digest(identity)[:12]}",
        model={"name": model.card.name, "fingerprint": model.fingerprint, "adapter": model.card.adapter},
        corpus={
            "name": corpus.name,
            "split": corpus.split,
            "digest": corpus.digest,
            "utterances": len(corpus.utterances),
        },
        tasks=results,
        protocol={
            "run": plain(config),
            "model": {"card": plain(model.card), "fingerprint": model.fingerprint, "device": str(model.device)},
            "corpus": {"name": corpus.name, "split": corpus.split, "digest": corpus.digest, "root": str(corpus.root)},
            "tasks": {name: result.protocol for name, result in results.items()},
            "versions": versions(),
            "git": git_revision(),
        },
    )


def _run_task(
    model: Model,
    task: Task,
    options: Any,
    corpus: Corpus,
    config: RunConfig,
    progress: Progress | None,
    store: RowStore | None,
    processes: Processes,
) -> TaskResult:
    examples = task.examples(corpus, options, limit=config.limit, seed=config.seed)
    requests = task.requests(examples, options, modalities=model.modalities)
    protocol = {
        "task": task.info.name,
        "version": task.info.version,
        "options": plain(options),
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        "split": corpus.split,
        "n": len(examples),
        "examples": digest([e.id for e in examples]),
        "seed": config.seed,
    }
    rows = answer_all(
        Scorer(model, batch_tokens=config.batch_tokens),
        requests,
        key=_row_set(model, task, corpus, protocol),
        store=store,
        processes=processes,
        report=functools.partial(progress, task.info.name) if progress else None,
    )
    items = task.score(examples, options, {item: row.answer for item, row in rows.items()})
    scored = [item for item in items if "failed" not in item]
    _check_failures(task.info.name, items, scored)
    parts = {
        "task": task.info.name,
        "version": task.info.version,
        "corpus": f"{corpus.name}@{corpus.digest[:4]}",
        "split": corpus.split,
        "n": len(examples),
        **{k: v for k, v in plain(options).items() if k != "n"},
        "model": f"{model.card.name}@{model.fingerprint[:4]}",
        "seed": config.seed,
        "harness": __version__,
    }
    return TaskResult(
        task=task.info.name,
        signature=signature(parts),
        metrics=task.summarize(scored, options, seed=config.seed),
        n_expected=len(items),
        n_scored=len(scored),
        n_failed=len(items) - len(scored),
        protocol=protocol,
        items=items,
        notes=total_work(rows.values()),
    )


def _row_set(model: Model, task: Task, corpus: Corpus, protocol: Mapping[str, Any]) -> RowSet:
    return RowSet(
        fingerprint=model.fingerprint,
        protocol=digest(protocol),
        corpus_digest=corpus.digest,
        scoring=scoring_version(model),
        model=model.card.name,
        task=task.info.name,
        corpus=f"{corpus.name}:{corpus.split}",
    )


def _check_failures(name: str, items: Sequence[Item], scored: Sequence[Item]) -> None:
    failed = len(items) - len(scored)
    if items and failed <= MAX_FAILED_SHARE * len(items) and scored:
        return
    reason = next((str(i["failed"]) for i in items if "failed" in i), "no item was made")
    raise TaskError(
        f"Task '{name}' scored {len(scored)} of {len(items)} items; at most {MAX_FAILED_SHARE:.0%} may fail. "
        f"First reason: {reason}."
    )


def versions() -> dict[str, str]:
    """Versions of Python, the harness and the packages that can move a number."""
    found = {"python": platform.python_version(), "harness": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def git_revision() -> str | None:
    """Commit of the harness's own checkout, with `+dirty` where it was changed; None outside a checkout."""
    root = Path(__file__).parent.parent
    try:
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        top = subprocess.run(
            ["git", "-C", root, "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True
        )
        if Path(top.stdout.strip()).resolve() != root.resolve():
            return None  # installed somewhere inside another project's checkout
        dirty = subprocess.run(
            ["git", "-C", root, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+dirty" if dirty.stdout.strip() else "")
