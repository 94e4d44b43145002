"""Evaluation in one call, by names: what a notebook needs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.evaluation.evaluate import RunConfig
from harness.evaluation.evaluate import evaluate as evaluate_model
from harness.evaluation.store import RowStore
from harness.model import Model, load_model
from harness.progress import ProgressCallback
from harness.results import RunResult, write_results


def evaluate(
    model: str | Path | Model,
    tasks: Sequence[str],
    *,
    corpus: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    batch_tokens: int = 8192,
    cache: bool = True,
    output: str | Path | None = None,
    progress: ProgressCallback | None = None,
) -> RunResult:
    """Evaluates a model on tasks, as `harness run` does without tracking.

    Example:
        >>> result = harness.evaluate("sutlm-tiny", tasks=["cra"], corpus="demo", limit=50)
        >>> result.to_frame()

    Args:
        model: a card by name, the path of a YAML card or of a checkpoint folder, or a model that is loaded already.
        tasks: registered names, or `path/to/file.py:OBJECT`.
        corpus: a corpus name or manifest; None: the model card's.
        split: of the corpus; None: its default split.
        limit: items per task; None: each task's own number.
        seed: of every draw.
        settings: options by task name, such as `{"cra": {"n": 200}}`.
        device: where the model computes; has no effect on a model that is loaded already.
        batch_tokens: tokens per batch; has no effect on results.
        cache: whether answers are looked up in the cache folder, and stored there.
        output: a folder that the results are written to; None: they are not written.
        progress: called with what is being done, the items done, and the items in all.

    Raises:
        InputError: for anything the caller can change: names, options, files.
        TaskError: if a task could not score enough of its items.
    """
    config = RunConfig(
        tasks=(tasks,) if isinstance(tasks, str) else tuple(tasks),
        corpus=corpus,
        split=split,
        limit=limit,
        seed=seed,
        batch_tokens=batch_tokens,
        settings=settings or {},
    )
    loaded = load_model(model, device=device) if isinstance(model, (str, Path)) else model
    with RowStore() if cache else contextlib.nullcontext() as store:
        result = evaluate_model(loaded, config, progress=progress, store=store)
    if output is not None:
        write_results(result, Path(output))
    return result
