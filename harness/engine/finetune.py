"""Fine-tuning: a copy of a model gets task tokens, perhaps a classification head, and learns labeled sequences.

A `TrainingExample` consists of token ids, so that every adapter can be fine-tuned whose `forward` and `logits` go
through a decoder of transformers in `module`. The trained weights are stored under `$HARNESS_HOME/finetuned/<digest>/`,
where the digest covers all that decides them: model, examples, configuration, seed, code. Files have checksums: what
was damaged is set aside with a `DamageWarning` and trained again.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.checksums import damage, set_aside, write_sums
from harness.config import home
from harness.engine.example_losses import PASS_TOKENS, batches, evaluating, mean_loss, total_loss
from harness.engine.finetune_config import FineTuneConfig, FineTuning, TrainingExample, fine_tuning_digest
from harness.engine.finetuned_model import FineTunedModel, TrainedPart, build_fine_tuned, put_weights
from harness.engine.optimization import (
    EarlyStopping,
    Schedule,
    adamw,
    clip_gradients,
    optimized,
    set_learning_rate,
    update,
)
from harness.errors import TrainingError
from harness.files import lock_of, new_folder
from harness.model import Model

#: Training sequences are sorted by length within so many steps' worth: little padding, a new order each epoch.
_SORTED_STEPS = 16
_WEIGHTS, _RECORD = "model.safetensors", "record.json"


def fine_tune(model: Model, job: FineTuning) -> dict[str, Any]:
    """Trains, unless it was done before, and returns the record of it (JSON values).

    `dev_loss` (nats per target, ≥ 0, by epoch), `best_epoch` (from 1), `best_loss`, `steps`, `tokens` (read in
    training); where the loss stopped being finite, `diverged` is true and there is no best epoch.

    Raises:
        UsageError: if the model cannot be fine-tuned.
    """
    folder = _folder(fine_tuning_digest(model, job))
    with lock_of(folder):
        _set_aside_damaged(folder, _RECORD)
        if not (folder / _RECORD).is_file():
            _train_into(folder, model, job)
        record: dict[str, Any] = json.loads((folder / _RECORD).read_text("utf-8"))
    return record


def load_fine_tuned(model: Model, job: FineTuning) -> FineTunedModel:
    """The fine-tuned model, trained now if its weights are not there.

    Raises:
        TrainingError: if its training diverged.
    """
    record = fine_tune(model, job)
    if record["diverged"]:
        raise TrainingError(_diverged([job]))
    folder = _folder(fine_tuning_digest(model, job))
    with lock_of(folder):
        _set_aside_damaged(folder, _WEIGHTS)
        if not (folder / _WEIGHTS).is_file():
            _train_into(folder, model, job)
        weights = load_file(folder / _WEIGHTS)
    tuned, parts = build_fine_tuned(model, job)
    put_weights(parts, weights)
    return evaluating(tuned)


def drop_weights(model: Model, job: FineTuning) -> None:
    """Removes the weights of a training, for example of a learning rate that was not chosen; its record stays."""
    (_folder(fine_tuning_digest(model, job)) / _WEIGHTS).unlink(missing_ok=True)


def choose(jobs: Sequence[FineTuning], records: Sequence[Mapping[str, Any]]) -> int:
    """The training with the lowest loss on its development set, by its index; of equals the first.

    Raises:
        TrainingError: if every one diverged.
    """
    sound = [i for i, record in enumerate(records) if not record["diverged"]]
    if not sound:
        raise TrainingError(_diverged(jobs))
    return min(sound, key=lambda i: float(records[i]["best_loss"]))


# --- training ---------------------------------------------------------------------------------------------------------


def _train_into(folder: Path, model: Model, job: FineTuning) -> None:
    weights, record = _train(model, job)
    with new_folder(folder) as part:
        if weights is not None:
            save_file(weights, part / _WEIGHTS)
        (part / _RECORD).write_text(json.dumps(record), "utf-8")
        write_sums(part)


def _train(model: Model, job: FineTuning) -> tuple[dict[str, Tensor] | None, dict[str, Any]]:
    """The weights of the best epoch, None where the loss diverged, and the record."""
    tuned, parts = build_fine_tuned(model, job)
    config, stopping = job.config, EarlyStopping(job.config.patience)
    optimizer, schedule = _optimizer(tuned, parts, config), _schedule(job)
    best: dict[str, Tensor] | None = None
    step, tokens = 0, 0
    devices = [tuned.device] if torch.device(tuned.device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        for epoch in range(config.epochs):
            tuned.module.train()
            for batch in _epoch(job, epoch):
                torch.manual_seed(job.seed * 1_000_003 + step)  # dropout
                set_learning_rate(optimizer, schedule.rate(step))
                _step(tuned, [job.train[i] for i in batch], optimizer, clip_norm=config.clip_norm)
                tokens += sum(len(job.train[i].ids) for i in batch)
                step += 1
            if stopping.add(mean_loss(evaluating(tuned), job.dev)):
                best = {name: part.data.clone().cpu() for name, part in parts.items()}
            if stopping.stopped:
                break
    return (None if stopping.diverged else best), {**_outcome(stopping), "steps": step, "tokens": tokens}


def _outcome(stopping: EarlyStopping) -> dict[str, Any]:
    diverged, losses = stopping.diverged, stopping.losses
    return {
        "diverged": diverged,
        "dev_loss": [loss for loss in losses if math.isfinite(loss)],
        "best_epoch": None if diverged else stopping.best,
        "best_loss": None if diverged else losses[stopping.best - 1],
    }


def _schedule(job: FineTuning) -> Schedule:
    steps = job.config.epochs * math.ceil(len(job.train) / job.config.batch_size)
    return Schedule("linear", job.config.learning_rate, steps, warmup_steps=math.ceil(job.config.warmup_share * steps))


def _optimizer(tuned: FineTunedModel, parts: Mapping[str, TrainedPart], config: FineTuneConfig) -> torch.optim.AdamW:
    decoder = tuned.module
    return adamw(
        [part.parameter for part in parts.values()],
        without_decay=[e.weight for e in (decoder.get_input_embeddings(), decoder.get_output_embeddings())],
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )


def _step(
    tuned: FineTunedModel, examples: Sequence[TrainingExample], optimizer: torch.optim.Optimizer, *, clip_norm: float
) -> None:
    total = sum(example.weight * len(example.targets) for example in examples)
    for batch in batches([len(example.ids) for example in examples], PASS_TOKENS):
        (total_loss(tuned, [examples[i] for i in batch]) / total).backward()
    clip_gradients(optimized(optimizer), clip_norm)
    update(optimizer)


def _epoch(job: FineTuning, epoch: int) -> list[list[int]]:
    """Every example once, in steps of sequences of like length, the steps in random order."""
    draw = random.Random(f"{job.seed} {epoch}")
    order = list(range(len(job.train)))
    draw.shuffle(order)
    size = job.config.batch_size
    steps = []
    for start in range(0, len(order), _SORTED_STEPS * size):
        some = sorted(order[start : start + _SORTED_STEPS * size], key=lambda i: len(job.train[i].ids))
        steps += [some[i : i + size] for i in range(0, len(some), size)]
    draw.shuffle(steps)
    return steps


# --- on disk ----------------------------------------------------------------------------------------------------------


def _folder(job: str) -> Path:
    return home() / "finetuned" / job


def _set_aside_damaged(folder: Path, name: str) -> None:
    """Moves the folder of a training away if one of its files is no longer what was written."""
    if (folder / name).is_file() and (reason := damage(folder, [name])):
        set_aside(folder, what="fine-tuned model", reason=reason, instead="it is trained again")


def _diverged(jobs: Sequence[FineTuning]) -> str:
    rates = ", ".join(f"{job.config.learning_rate:g}" for job in jobs)
    return f"Fine-tuning diverged at every learning rate tried ({rates}); give lower ones."
