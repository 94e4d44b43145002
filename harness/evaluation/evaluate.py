"""The one loop: a model on tasks, from corpus to records."""

from __future__ import annotations

import difflib
import functools
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.code import versions_of
from harness.config import build, digest, plain
from harness.corpora.corpus import Corpus, open_corpus
from harness.engine.distributed import ALONE, Processes
from harness.engine.source import procedure_version, scoring_version
from harness.errors import ConfigError, OptionError, TaskError, UsageError
from harness.evaluation.resume import (
    StepProgress,
    answer_all,
    answers,
    keep_all,
    total_work,
)
from harness.evaluation.store import RowSet, RowStore
from harness.model import Model, load_model
from harness.progress import ProgressCallback
from harness.results import Item, RunResult, TaskResult, attachments_folder, signature
from harness.task import AnyTask, ExampleT, Identified, OptionsT, PlanT, Procedure, Task, task_registry
from harness.version import __version__

_PACKAGES = ("torch", "torchaudio", "transformers", "sentencepiece", "numpy", "scipy", "scikit-learn", "soundfile")
#: A task that fails on more of its items than this fails as a whole.
MAX_FAILED_SHARE = 0.05


@dataclass(frozen=True)
class RunConfig:
    """What `harness run` was asked for.

    Attributes:
        tasks: registered names, or `path.py:OBJECT`.
        corpus: a corpus name or manifest; None: the model card's.
        split: of the corpus; None: its default split.
        limit: items per task; None: each task's own number.
        seed: of every draw.
        batch_tokens: tokens per batch; has no effect on results.
        settings: options of tasks by task name, as `--set` gave them.

    Raises:
        OptionError: if there is no task, or a value is of the wrong type or out of range.
    """

    tasks: tuple[str, ...]
    corpus: str | None = None
    split: str | None = None
    limit: int | None = None
    seed: int = 0
    batch_tokens: int = 8192
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.tasks, tuple) or not self.tasks or not all(isinstance(t, str) for t in self.tasks):
            raise OptionError(f"'tasks' is a tuple of at least one name; found {self.tasks!r}.")
        for name, optional, least in (("limit", True, 1), ("seed", False, 0), ("batch_tokens", False, 1)):
            value = getattr(self, name)
            if not (optional and value is None) and (type(value) is not int or value < least):
                or_none = ", or None" if optional else ""
                raise OptionError(f"'{name}' is an integer of at least {least}{or_none}; found {value!r}.")
        for name in ("corpus", "split"):
            if not isinstance(getattr(self, name), str | None):
                raise OptionError(f"'{name}' is a name, or None; found {getattr(self, name)!r}.")
        if not isinstance(self.settings, Mapping):
            raise OptionError(f"'settings' gives options by task name; found {self.settings!r}.")


def load_tasks(names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, tuple[AnyTask, Any]]:
    """Tasks by their own names, each with its options.

    Raises:
        UnknownNameError: if a task is not registered.
        ConfigError: if settings name no task of the run or do not fit a task's options.
        UsageError: if a task is named twice.
    """
    registry = task_registry()
    loaded: dict[str, tuple[AnyTask, Any]] = {}
    for name in names:
        task = registry.load(name)
        if task.info.name in loaded:
            raise UsageError(f"The task '{task.info.name}' is named twice.")
        options: Any = build(task.Options, settings.get(task.info.name) or {}, where=f"--set {task.info.name}")
        loaded[task.info.name] = (task, options)
    if strangers := sorted(set(settings) - set(loaded)):
        (near,) = difflib.get_close_matches(strangers[0], loaded, n=1, cutoff=0.0)
        raise ConfigError(
            f"--set {strangers[0]}.…: no task of this run has that name. The nearest is '{near}'. "
            f"Known: {', '.join(loaded)}."
        )
    return loaded


def evaluate(
    model: Model,
    config: RunConfig,
    *,
    progress: ProgressCallback | None = None,
    store: RowStore | None = None,
    processes: Processes = ALONE,
) -> RunResult:
    """Runs every task of `config` on `model`.

    Args:
        model: what is evaluated.
        config: what is asked for.
        progress: called with what is being done, the items done, and the items in all.
        store: where answers are looked up and stored as they are found; None: everything is computed.
        processes: those that share the work, connected; each of them gets the whole result.

    Raises:
        TaskError: if a task could not score enough of its items.
        InputError: for anything the caller can change: names, options, files.
    """
    tasks = load_tasks(config.tasks, config.settings)
    corpus = open_corpus(config.corpus or model.card.corpus, config.split)
    corpus.read_audio(progress)  # under a name of its own: of many hours it takes minutes once
    results = {
        name: _run_task(_Session(name, model, corpus, config, progress, store, processes), task, options)
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


@dataclass
class _Session:
    """`harness.task.Session` of one task in one run: what it is run on and with."""

    name: str
    model: Model
    corpus: Corpus
    config: RunConfig
    progress: ProgressCallback | None
    store: RowStore | None
    processes: Processes
    #: What records are stored under; a procedure's is known once it has planned.
    key: RowSet | None = None
    #: Files beside the items, by path relative to the results folder.
    files: dict[str, bytes] = field(default_factory=dict)
    _models: dict[str, Model] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limit, self.seed = self.config.limit, self.config.seed
        self.batch_tokens = self.config.batch_tokens

    def split(self, name: str) -> Corpus:
        """Another split of the same corpus."""
        return open_corpus(self.config.corpus or self.model.card.corpus, name)

    def load_model(self, name: str) -> Model:
        """Another model on the same device."""
        if name not in self._models:
            self._models[name] = load_model(name, device=str(self.model.device))
        return self._models[name]

    def models(self) -> list[Model]:
        """The model under evaluation, and those that were loaded beside it."""
        return [self.model, *(self._models[name] for name in sorted(self._models))]

    def records(
        self,
        requests: Mapping[str, str],
        compute: Callable[[Sequence[str]], Iterable[tuple[str, Mapping[str, Any]]]],
        *,
        what: str,
    ) -> dict[str, Mapping[str, Any]]:
        """Known and newly computed records of all items."""
        if self.key is None:
            raise TypeError(f"{self.name} asks for records before its plan is made.")
        report = self.report(f"{self.name}: {what}")
        return keep_all(requests, compute, key=self.key, store=self.store, processes=self.processes, report=report)

    def attach(self, name: str, content: bytes) -> str:
        """Adds a file to the results."""
        path = f"{attachments_folder(self.name)}/{name}"
        self.files[path] = content
        return path

    def report(self, what: str) -> StepProgress | None:
        """A progress callback under a name; None where there is none."""
        return functools.partial(self.progress, what) if self.progress else None


def _run_task(session: _Session, task: AnyTask, options: Any) -> TaskResult:
    if isinstance(task, Procedure):
        done = _run_procedure(session, task, options)
    else:
        done = _run_likelihoods(session, task, options)
    model, corpus, items = session.model, session.corpus, done.items
    scored = [item for item in items if item.failed is None]
    _check_failures(task.info.name, items, scored)
    parts = {
        "task": task.info.name,
        "version": task.info.version,
        "corpus": f"{corpus.name}@{corpus.digest[:4]}",
        "split": corpus.split,
        "n": done.protocol["n"],
        **{k: v for k, v in _choices(options).items() if k != "n"},
        **done.signature,
        "model": f"{model.card.name}@{model.fingerprint[:4]}",
        "seed": session.seed,
        "harness": __version__,
    }
    return TaskResult(
        task=task.info.name,
        signature=signature(parts),
        metrics=task.summarize(scored, options, seed=session.seed),
        n_expected=len(items),
        n_scored=len(scored),
        n_failed=len(items) - len(scored),
        protocol=done.protocol,
        items=items,
        notes=done.notes,
        files=session.files,
    )


@dataclass(frozen=True)
class _Done:
    items: list[Item]
    protocol: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)
    signature: Mapping[str, Any] = field(default_factory=dict)


def _run_likelihoods(session: _Session, task: Task[OptionsT, ExampleT], options: OptionsT) -> _Done:
    model = session.model
    examples = task.examples(session.corpus, options, limit=session.limit, seed=session.seed)
    requests = task.requests(examples, options, modalities=model.modalities)
    protocol = _protocol(session, task, options, examples)
    rows = answer_all(
        model,
        requests,
        key=_row_set(session, protocol, scoring_version(model)),
        batch_tokens=session.batch_tokens,
        store=session.store,
        processes=session.processes,
        report=session.report(task.info.name),
    )
    items = task.score(examples, options, answers(rows))
    return _Done(items, protocol, total_work(rows.values()))


def _run_procedure(session: _Session, task: Procedure[OptionsT, PlanT], options: OptionsT) -> _Done:
    plan = task.plan(session, options)
    protocol = {**_protocol(session, task, options, plan.examples), **plain(plan.protocol)}
    session.key = _row_set(session, protocol, procedure_version(task, session.models()))
    return _Done(task.run(session, plan, options), protocol, {}, plan.signature)


def _protocol(session: _Session, task: AnyTask, options: object, examples: Sequence[Identified]) -> dict[str, Any]:
    return {
        "task": task.info.name,
        "version": task.info.version,
        "options": _choices(options),
        "corpus": session.corpus.name,
        "corpus_digest": session.corpus.digest,
        "split": session.corpus.split,
        "n": len(examples),
        "examples": digest([e.id for e in examples]),
        "seed": session.seed,
    }


def _choices(options: Any) -> dict[str, Any]:
    """The options that can change a number: all but fields whose `metadata` say `{"changes_numbers": False}`."""
    silent = {f.name for f in fields(options) if not f.metadata.get("changes_numbers", True)}
    return {name: value for name, value in plain(options).items() if name not in silent}


def _row_set(session: _Session, protocol: Mapping[str, Any], code: str) -> RowSet:
    return RowSet(
        fingerprint=session.model.fingerprint,
        protocol=digest(protocol),
        corpus_digest=session.corpus.digest,
        scoring=code,
        model=session.model.card.name,
        task=session.name,
        corpus=f"{session.corpus.name}:{session.corpus.split}",
    )


def _check_failures(name: str, items: Sequence[Item], scored: Sequence[Item]) -> None:
    failed = len(items) - len(scored)
    if items and failed <= MAX_FAILED_SHARE * len(items) and scored:
        return
    reason = next((i.failed for i in items if i.failed is not None), "no item was made")
    raise TaskError(
        f"Task '{name}' scored {len(scored)} of {len(items)} items; at most {MAX_FAILED_SHARE:.0%} may fail. "
        f"First reason: {reason}."
    )


def versions() -> dict[str, str]:
    """Versions of Python, the harness and the packages that can change a number."""
    return {"python": platform.python_version(), "harness": __version__, **versions_of(_PACKAGES)}


def git_revision() -> str | None:
    """Commit of the harness's own checkout, with `+dirty` where it was changed; None outside a checkout."""
    root = Path(__file__).parents[2]
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
