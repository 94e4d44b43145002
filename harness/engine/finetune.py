"""Fine-tuning: a copy of a model gets task tokens, perhaps a classification head, and learns labeled sequences.

What is to be learned is said in token ids (`Lesson`), so that it works for every adapter whose `forward` and `logits`
go through a decoder of transformers in `module`. The trained weights are kept under
`$HARNESS_HOME/finetuned/<digest>/`, where the digest covers all that decides them: model, lessons, recipe, seed, code.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from pydantic.dataclasses import dataclass
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.config import STRICT, digest, home
from harness.errors import HarnessError, InputError
from harness.model import Hidden, Model
from harness.segments import Modality, Prompt, Segment

#: Tokens of one training pass, padding included; an optimizer step of more takes several passes.
_PASS_TOKENS = 8192
#: Training sequences are sorted by length within so many steps' worth: little padding, a new order each epoch.
_SORTED_STEPS = 16
_WEIGHTS, _RECORD = "model.safetensors", "record.json"


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """How weights are trained: AdamW, linear warm-up, then linear decay to 0.

    Attributes:
        method: `full` trains every weight; `lora` low-rank additions to every linear layer (Hu et al. 2022, arXiv
            2106.09685), the new tokens and the head.
        learning_rate: its peak.
        epochs: passes over the training sequences, at most.
        patience: epochs without a lower loss on the development set after which training stops.
        batch_size: sequences per optimizer step.
        warmup_share: of all steps.
        weight_decay: of matrices; embeddings, gains and biases have none.
        clip_norm: largest norm of the gradient.
        lora_rank: rank of the additions; they are scaled by 2, α = 2 · rank.
    """

    method: Literal["full", "lora"] = "full"
    learning_rate: float = 1e-3
    epochs: int = 4
    patience: int = 2
    batch_size: int = 16
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    lora_rank: int = 16

    def __post_init__(self) -> None:
        least = {"epochs": self.epochs, "patience": self.patience, "batch_size": self.batch_size}
        for name, value in {**least, "lora_rank": self.lora_rank}.items():
            if value < 1:
                raise InputError(f"{name} is at least 1; found {value}.")
        if not (self.learning_rate > 0 and self.clip_norm > 0 and self.weight_decay >= 0):
            raise InputError(
                "learning_rate and clip_norm are > 0 and weight_decay is ≥ 0; found "
                f"{self.learning_rate}, {self.clip_norm} and {self.weight_decay}."
            )
        if not 0 <= self.warmup_share < 1:
            raise InputError(f"warmup_share lies in [0, 1); found {self.warmup_share}.")


@plain_dataclass(frozen=True, slots=True)
class Lesson:
    """One sequence to learn: from the state at `places[i]`, `targets[i]` is to be told.

    Attributes:
        ids: of the whole sequence.
        places: positions in `ids`.
        targets: a class of the head for each place, or without a head the id of the next token.
        weight: of each of its targets in the loss.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]
    targets: tuple[int, ...]
    weight: float = 1.0


def continuation_lesson(context: Sequence[int], continuation: Sequence[int], *, weight: float = 1.0) -> Lesson:
    """Continue `context` with the tokens of `continuation`; the context itself is not learned."""
    ids = (*context, *continuation)
    return Lesson(ids[:-1], tuple(range(len(context) - 1, len(ids) - 1)), tuple(continuation), weight)


@plain_dataclass(frozen=True, slots=True)
class Job:
    """One training: what is learned, how, and from which seed.

    Attributes:
        tokens: names of the tokens to add; `task_tokens` says their ids.
        num_classes: outputs of the classification head; 0 means no head, the vocabulary is the output.
        recipe: of the training.
        seed: of new weights, order and dropout.
        train: lessons to learn.
        dev: lessons that decide when to stop; of the training condition, never of another.
    """

    tokens: tuple[str, ...]
    num_classes: int
    recipe: Recipe
    seed: int
    train: tuple[Lesson, ...]
    dev: tuple[Lesson, ...]

    def __post_init__(self) -> None:
        if not self.train or not self.dev:
            raise InputError(
                f"Fine-tuning needs sequences to learn and to validate on; found {len(self.train)} and {len(self.dev)}."
            )


class Tuned:
    """A fine-tuned model, itself a `Model`: the evaluated one's tokenizers, a decoder of its own, and task tokens.

    Task tokens count as text, so that they may be generated; `decode` drops them.

    Attributes:
        tokens: ids of the task tokens by name.
        head: from states `(…, width)` to class logits `(…, num_classes)`; None where there is none.
    """

    def __init__(
        self, base: Model, decoder: PreTrainedModel, tokens: Mapping[str, int], head: nn.Linear | None, *, digest: str
    ) -> None:
        # Adapters reach their decoder through `module` alone, so that a copy with another one is a model of its own.
        self._inner = copy.copy(base)
        self._inner.module = decoder
        self.module: PreTrainedModel = decoder
        self.card, self.modalities, self.device = base.card, base.modalities, base.device
        self.max_length, self.end = base.max_length, base.end
        self.fingerprint = digest
        self.tokens, self.head = tokens, head

    def prepare(self, segments: Sequence[Segment]) -> None:
        """As the evaluated model."""
        self._inner.prepare(segments)

    def encode_prompt(self, prompt: Prompt, target: Modality) -> list[int]:
        """As the evaluated model."""
        return self._inner.encode_prompt(prompt, target)

    def encode_prior(self, source: Modality, target: Modality) -> list[int]:
        """As the evaluated model."""
        return self._inner.encode_prior(source, target)

    def encode_continuation(self, segment: Segment) -> list[int]:
        """As the evaluated model."""
        return self._inner.encode_continuation(segment)

    def tokens_of(self, modality: Modality) -> Sequence[int]:
        """As the evaluated model, and of text the task tokens."""
        added = sorted(self.tokens.values()) if modality == "text" else []
        return [*self._inner.tokens_of(modality), *added]

    def decode(self, ids: Sequence[int]) -> Prompt:
        """As the evaluated model; task tokens are dropped."""
        added = set(self.tokens.values())
        return self._inner.decode([i for i in ids if i not in added])

    def forward(self, ids: Tensor, *, lengths: Tensor | None = None, past: Any = None, keep: bool = False) -> Hidden:
        """As the evaluated model, by the fine-tuned decoder."""
        return self._inner.forward(ids, lengths=lengths, past=past, keep=keep)

    def logits(self, states: Tensor) -> Tensor:
        """Of the next token, task tokens included, whether there is a head or not."""
        return self._inner.logits(states)

    def outputs(self, states: Tensor) -> Tensor:
        """Class logits of the head; without one, those of the next token."""
        return self.logits(states) if self.head is None else self.head(states)


def task_tokens(model: Model, names: Sequence[str]) -> dict[str, int]:
    """The ids that new tokens will have: those after the vocabulary of the decoder.

    Raises:
        InputError: if the model has no decoder of transformers to fine-tune.
    """
    first = _decoder(model).get_input_embeddings().weight.shape[0]
    return {name: first + i for i, name in enumerate(names)}


def job_digest(model: Model, job: Job) -> str:
    """Changes whenever the trained weights could."""
    parts = [job.tokens, job.num_classes, job.recipe, job.seed, _repr_digest(job.train), _repr_digest(job.dev)]
    return digest([Path(__file__).read_text("utf-8"), model.fingerprint, parts])


def fine_tune(model: Model, job: Job) -> dict[str, Any]:
    """Trains, unless it was done before, and returns the record of it (JSON values).

    `dev_loss` (nats per target, ≥ 0, by epoch), `best_epoch` (from 1), `best_loss`, `steps`, `tokens` (read in
    training); where the loss stopped being finite, `diverged` is true and there is no best epoch.

    Raises:
        InputError: if the model cannot be fine-tuned.
    """
    folder = _folder(job_digest(model, job))
    with _alone(folder):
        if not (folder / _RECORD).is_file():
            _train_into(folder, model, job)
        record: dict[str, Any] = json.loads((folder / _RECORD).read_text("utf-8"))
    return record


def load_tuned(model: Model, job: Job) -> Tuned:
    """The fine-tuned model, trained now if its weights are not there.

    Raises:
        HarnessError: if its training diverged.
    """
    record = fine_tune(model, job)
    if record["diverged"]:
        raise HarnessError(_diverged([job]))
    folder = _folder(job_digest(model, job))
    with _alone(folder):
        if not (folder / _WEIGHTS).is_file():
            _train_into(folder, model, job)
        weights = load_file(folder / _WEIGHTS)
    tuned, parts = _build(model, job)
    _put(parts, weights)
    return _evaluating(tuned)


def drop_weights(model: Model, job: Job) -> None:
    """Removes the weights of a training, for example of a learning rate that was not chosen; its record stays."""
    (_folder(job_digest(model, job)) / _WEIGHTS).unlink(missing_ok=True)


def choose(jobs: Sequence[Job], records: Sequence[Mapping[str, Any]]) -> int:
    """The training with the lowest loss on its development set, by its place; of equals the first.

    Raises:
        HarnessError: if every one diverged.
    """
    sound = [i for i, record in enumerate(records) if not record["diverged"]]
    if not sound:
        raise HarnessError(_diverged(jobs))
    return min(sound, key=lambda i: float(records[i]["best_loss"]))


@torch.inference_mode()
def target_logprobs(tuned: Tuned, lessons: Sequence[Lesson], *, batch_tokens: int) -> Iterator[tuple[int, Tensor]]:
    """Log-probabilities `(places, outputs)` (nats, float32, on the CPU) at the places of each lesson, by its index.

    They come batch by batch, the longest lessons first.
    """
    for batch in batches([len(lesson.ids) for lesson in lessons], batch_tokens):
        chosen = [lessons[i] for i in batch]
        logprobs = _logits(tuned, chosen).float().log_softmax(-1).cpu()
        yield from zip(batch, logprobs.split([len(lesson.places) for lesson in chosen]), strict=True)


def loglikelihoods(tuned: Tuned, lessons: Sequence[Lesson], *, batch_tokens: int) -> list[float]:
    """Sum over the targets of each lesson (nats, ≤ 0)."""
    out = [0.0] * len(lessons)
    for i, logprobs in target_logprobs(tuned, lessons, batch_tokens=batch_tokens):
        out[i] = float(logprobs.gather(1, torch.tensor(lessons[i].targets)[:, None]).double().sum())
    return out


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of sequences, longest first, as many at a time as fit into `batch_tokens` when padded; at least one."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        size = max(1, batch_tokens // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]


# --- training ---------------------------------------------------------------------------------------------------------


@plain_dataclass(frozen=True, slots=True)
class _Part:
    """A trained tensor: all of a parameter, or its rows from `first` on (of an embedding whose others stay)."""

    parameter: Tensor
    first: int = 0

    @property
    def data(self) -> Tensor:
        return self.parameter.detach()[self.first :]


def _train_into(folder: Path, model: Model, job: Job) -> None:
    weights, record = _train(model, job)
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if weights is not None:
        save_file(weights, part / _WEIGHTS)
    (part / _RECORD).write_text(json.dumps(record), "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def _train(model: Model, job: Job) -> tuple[dict[str, Tensor] | None, dict[str, Any]]:
    tuned, parts = _build(model, job)
    optimizer = _optimizer(tuned, parts, job.recipe)
    steps = job.recipe.epochs * math.ceil(len(job.train) / job.recipe.batch_size)
    best: dict[str, Tensor] | None = None
    losses: list[float] = []
    step, best_epoch, tokens = 0, 0, 0
    devices = [tuned.device] if torch.device(tuned.device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        for epoch in range(job.recipe.epochs):
            tuned.module.train()
            for batch in _epoch(job, epoch):
                torch.manual_seed(job.seed * 1_000_003 + step)  # dropout
                _step(tuned, [job.train[i] for i in batch], optimizer, job.recipe, step, steps)
                tokens += sum(len(job.train[i].ids) for i in batch)
                step += 1
            losses.append(_mean_loss(_evaluating(tuned), job.dev))
            if not math.isfinite(losses[-1]):
                break
            if losses[-1] < min(losses[:-1], default=math.inf):
                best, best_epoch = {name: p.data.clone().cpu() for name, p in parts.items()}, epoch + 1
            elif epoch + 1 - best_epoch >= job.recipe.patience:
                break
    diverged = not math.isfinite(losses[-1])
    return (None if diverged else best), {
        "diverged": diverged,
        "dev_loss": [loss for loss in losses if math.isfinite(loss)],
        "best_epoch": None if diverged else best_epoch,
        "best_loss": None if diverged else losses[best_epoch - 1],
        "steps": step,
        "tokens": tokens,
    }


def _step(
    tuned: Tuned, lessons: Sequence[Lesson], optimizer: torch.optim.Optimizer, recipe: Recipe, step: int, steps: int
) -> None:
    warmup = math.ceil(recipe.warmup_share * steps)
    share = (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * share
    total = sum(lesson.weight * len(lesson.targets) for lesson in lessons)
    for batch in batches([len(lesson.ids) for lesson in lessons], _PASS_TOKENS):
        (_loss(tuned, [lessons[i] for i in batch]) / total).backward()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, recipe.clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _epoch(job: Job, epoch: int) -> list[list[int]]:
    """Every lesson once, in steps of sequences of like length, the steps in random order."""
    draw = random.Random(f"{job.seed} {epoch}")
    order = list(range(len(job.train)))
    draw.shuffle(order)
    size = job.recipe.batch_size
    steps = []
    for start in range(0, len(order), _SORTED_STEPS * size):
        some = sorted(order[start : start + _SORTED_STEPS * size], key=lambda i: len(job.train[i].ids))
        steps += [some[i : i + size] for i in range(0, len(some), size)]
    draw.shuffle(steps)
    return steps


def _loss(tuned: Tuned, lessons: Sequence[Lesson]) -> Tensor:
    """Weighted sum of the cross-entropies of all targets."""
    device = tuned.device
    targets = torch.tensor([t for lesson in lessons for t in lesson.targets], device=device)
    weights = torch.tensor([lesson.weight for lesson in lessons for _ in lesson.targets], device=device)
    each = nn.functional.cross_entropy(_logits(tuned, lessons).float(), targets, reduction="none")
    return (each * weights).sum()


def _logits(tuned: Tuned, lessons: Sequence[Lesson]) -> Tensor:
    """`(targets of all lessons, outputs)`."""
    longest = max(len(lesson.ids) for lesson in lessons)
    rows = [[*lesson.ids, *[0] * (longest - len(lesson.ids))] for lesson in lessons]
    # Padding on the right reaches no earlier state of a causal decoder: no mask is needed, and none is faster.
    states = tuned.forward(torch.tensor(rows, device=tuned.device)).states
    flat = [row * longest + place for row, lesson in enumerate(lessons) for place in lesson.places]
    return tuned.outputs(states.flatten(0, 1)[torch.tensor(flat, device=states.device)])


@torch.inference_mode()
def _mean_loss(tuned: Tuned, lessons: Sequence[Lesson]) -> float:
    total = sum(lesson.weight * len(lesson.targets) for lesson in lessons)
    parts = batches([len(lesson.ids) for lesson in lessons], _PASS_TOKENS)
    return sum(float(_loss(tuned, [lessons[i] for i in part])) for part in parts) / total


def _evaluating(tuned: Tuned) -> Tuned:
    tuned.module.eval()
    return tuned


# --- weights ----------------------------------------------------------------------------------------------------------


def _decoder(model: Model) -> PreTrainedModel:
    if not isinstance(model.module, PreTrainedModel):
        raise InputError(
            f"'{model.card.name}' cannot be fine-tuned: its adapter '{model.card.adapter}' offers no decoder of "
            "transformers as 'module'."
        )
    return model.module


def _build(model: Model, job: Job) -> tuple[Tuned, dict[str, _Part]]:
    """The model as it is before training, and what of it is trained, by name."""
    decoder = copy.deepcopy(_decoder(model)).float()
    tokens = task_tokens(model, job.tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        first = decoder.get_input_embeddings().weight.shape[0]
        _add_tokens(decoder, len(tokens))
        head = _head(decoder, job.num_classes) if job.num_classes else None
        if job.recipe.method == "lora":
            _add_lora(decoder, job.recipe.lora_rank)
        else:
            decoder.requires_grad_(True)
        decoder.to(model.device)
        if head is not None:
            head.to(model.device)
    parts = _parts(decoder, head, first if job.recipe.method == "lora" else 0)
    return Tuned(model, decoder, tokens, head, digest=job_digest(model, job)), parts


def _add_tokens(decoder: PreTrainedModel, number: int) -> None:
    """New rows at the mean of the old ones, with a little noise, so that they differ from each other."""
    if not number:
        return
    before = decoder.get_input_embeddings().weight.shape[0]
    decoder.resize_token_embeddings(before + number, mean_resizing=False)
    for layer in (decoder.get_input_embeddings(), decoder.get_output_embeddings()):
        weight = layer.weight.data
        old = weight[:before]
        noise = torch.randn(number, weight.shape[1]).to(weight) * old.std(0)
        weight[before:] = old.mean(0) + 0.1 * noise


def _head(decoder: PreTrainedModel, num_classes: int) -> nn.Linear:
    head = nn.Linear(decoder.get_output_embeddings().weight.shape[1], num_classes)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def _add_lora(decoder: PreTrainedModel, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # imported where it is needed: it takes seconds

    decoder.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"), decoder)
    for layer in (decoder.get_input_embeddings(), decoder.get_output_embeddings()):
        layer.weight.requires_grad_(True)


def _parts(decoder: PreTrainedModel, head: nn.Linear | None, first_row: int) -> dict[str, _Part]:
    """What is trained: of embeddings the rows from `first_row` on. Tied weights are named once."""
    embeddings = {id(e.weight) for e in (decoder.get_input_embeddings(), decoder.get_output_embeddings())}
    parts = {}
    for name, parameter in decoder.named_parameters():  # each parameter once
        if parameter.requires_grad:
            first = first_row if id(parameter) in embeddings else 0
            if first:
                parameter.register_hook(_keep_rows(first))
            parts[name] = _Part(parameter, first)
    if head is not None:
        parts |= {f"head.{name}": _Part(parameter) for name, parameter in head.named_parameters()}
    return parts


def _keep_rows(first: int) -> Callable[[Tensor], Tensor]:
    """A gradient that is 0 in the rows before `first`, which AdamW without weight decay then leaves as they are."""

    def masked(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[:first] = 0
        return gradient

    return masked


def _put(parts: Mapping[str, _Part], weights: Mapping[str, Tensor]) -> None:
    if parts.keys() != weights.keys():
        raise HarnessError(
            f"Fine-tuned weights do not fit the model: they lack {sorted(parts.keys() - weights.keys())[:3]} and add "
            f"{sorted(weights.keys() - parts.keys())[:3]}. Remove {home() / 'finetuned'} and run again."
        )
    for name, part in parts.items():
        part.data.copy_(weights[name])


def _optimizer(tuned: Tuned, parts: Mapping[str, _Part], recipe: Recipe) -> torch.optim.AdamW:
    decoder = tuned.module
    plain = {id(e.weight) for e in (decoder.get_input_embeddings(), decoder.get_output_embeddings())}
    decay: list[Tensor] = []
    rest: list[Tensor] = []
    for part in parts.values():
        # As in the training of the models: embeddings, gains and biases do not decay.
        (decay if part.parameter.ndim > 1 and id(part.parameter) not in plain else rest).append(part.parameter)
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate, fused=True)


# --- on disk ----------------------------------------------------------------------------------------------------------


def _folder(job: str) -> Path:
    return home() / "finetuned" / job


def _alone(folder: Path) -> FileLock:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(folder.name + ".lock"))


def _repr_digest(lessons: Sequence[Lesson]) -> str:
    return hashlib.sha256(repr(lessons).encode()).hexdigest()


def _diverged(jobs: Sequence[Job]) -> str:
    rates = ", ".join(f"{job.recipe.learning_rate:g}" for job in jobs)
    return f"Fine-tuning diverged at every learning rate tried ({rates}); give lower ones."
