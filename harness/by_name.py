"""Evaluation and training in one call, by names: what a notebook asks for, and the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import merge
from harness.engine.distributed import ALONE, Processes
from harness.errors import OptionError, UsageError
from harness.evaluation.evaluate import RunConfig, load_tasks
from harness.evaluation.evaluate import evaluate as evaluate_model
from harness.evaluation.store import RowStore
from harness.files import check_folder
from harness.model import Model, ModelCard, load_model, read_card
from harness.progress import ProgressCallback
from harness.report.figures import write_figures
from harness.results import RunResult, write_results

if TYPE_CHECKING:
    from harness.training.loop import TrainingStep
    from harness.training.train import Trained


def evaluate(
    model: str | Path | Model,
    tasks: str | Sequence[str] | RunConfig,
    *,
    corpus: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    batch_tokens: int = 8192,
    cache: bool = True,
    output: str | Path | None = None,
    progress: ProgressCallback | None = None,
    processes: Processes = ALONE,
) -> RunResult:
    """Evaluates a model on tasks, as `harness run` does without tracking.

    Example:
        >>> result = harness.evaluate("sutlm-tiny", tasks=["cra"], corpus="demo", limit=50)
        >>> result.to_frame()

    Args:
        model: a card by name, the path of a YAML card or of a checkpoint folder, or a model that is loaded already.
        tasks: registered names, or `path/to/file.py:OBJECT`; or a `RunConfig`, which says all from `corpus` to
            `settings` and `batch_tokens` itself.
        corpus: a corpus name or manifest; None: the model card's.
        split: of the corpus; None: its default split.
        limit: items per task; None: each task's own number.
        seed: of every draw.
        settings: options by task name, such as `{"cra": {"n": 200}}`.
        device: where the model computes; has no effect on a model that is loaded already.
        batch_tokens: tokens per batch; has no effect on results.
        cache: whether answers are looked up in the cache folder, and stored there.
        output: a folder that the results and their figures are written to; None: they are not written.
        progress: called with what is being done, the items done, and the items in all.
        processes: those that share the work, connected; each of them gets the whole result, and the first writes it.

    Raises:
        OptionError: if an argument is of the wrong type or out of range.
        InputError: for anything else the caller can change: names, options, files.
        TaskError: if a task could not score enough of its items.
    """
    if not isinstance(model, str | Path) and not hasattr(model, "fingerprint"):
        raise OptionError(f"A model is named by a card or a path, or is loaded already; found {model!r}.")
    asked = {"corpus": None if corpus is None else str(corpus), "split": split, "limit": limit, "seed": seed}
    config = _run_config(tasks, {**asked, "batch_tokens": batch_tokens, "settings": settings or {}})
    if output is not None:
        check_folder(Path(output))
    load_tasks(config.tasks, config.settings)  # mistakes in names and options are found before the model is loaded
    loaded = load_model(model, device=device) if isinstance(model, (str, Path)) else model
    with RowStore() if cache else contextlib.nullcontext() as store:
        result = evaluate_model(loaded, config, progress=progress, store=store, processes=processes)
    if output is not None and processes.rank == 0:
        write_run(result, config, Path(output))
    return result


def _run_config(tasks: str | Sequence[str] | RunConfig, asked: Mapping[str, Any]) -> RunConfig:
    if not isinstance(tasks, RunConfig):
        names = (tasks,) if isinstance(tasks, str) else tuple(tasks) if isinstance(tasks, Iterable) else tasks
        return RunConfig(names, **asked)
    usual = RunConfig(tasks.tasks)
    if beside := [name for name, value in asked.items() if value != getattr(usual, name)]:
        raise UsageError(f"The RunConfig says all of the run; give no {', '.join(beside)} beside it.")
    return tasks


def write_run(result: RunResult, config: RunConfig, folder: Path) -> None:
    """Writes a results folder: the results, and the figures that the tasks give."""
    write_results(result, folder)
    write_figures(result, {name: task for name, (task, _) in load_tasks(config.tasks, config.settings).items()}, folder)


def train(
    card: str | Path | ModelCard,
    *,
    corpus: str | None = None,
    steps: int | None = None,
    batch_tokens: int | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    device: str = "cpu",
    on_start: Callable[[ModelCard], None] | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
    progress: ProgressCallback | None = None,
) -> Trained:
    """Trains the model of a card and writes its checkpoint, as `harness train` does without tracking.

    The same call after an interruption continues from the last saved step and ends with the same weights.

    Args:
        card: by name, by the path of its YAML file, or read already.
        corpus: trains on its splits `train` and `dev` instead of the card's; None: the card's.
        steps: optimizer steps; None: the card's.
        batch_tokens: tokens per step; None: the card's.
        seed: of weights and data order; None: the card's.
        settings: changes to the card, such as `{"training": {"learning_rate": 1e-3}}`.
        output: checkpoint folder; None: `$HARNESS_HOME/checkpoints/<name>`.
        device: where to train.
        on_start: called with the card as it will be trained, before anything is prepared.
        on_step: called after every step.
        progress: called with what is being prepared, how much of it is done, and how much there is in all.

    Raises:
        InputError: for anything the caller can change: names, options, files.
        TrainingError: if training cannot go on.
    """
    from harness.training.train import train_model, training_card  # torch: an evaluation may do without

    wanted = card if isinstance(card, ModelCard) else read_card(str(card))
    asked = {"steps": steps, "batch_tokens": batch_tokens, "seed": seed}
    changes = merge(settings or {}, {"training": {name: value for name, value in asked.items() if value is not None}})
    made = training_card(wanted, corpus=corpus, settings=changes)
    if on_start:
        on_start(made)
    folder = None if output is None else Path(output)
    return train_model(made, output=folder, device=device, on_step=on_step, progress=progress)
