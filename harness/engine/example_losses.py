"""Losses and log-probabilities of examples under a fine-tuned model, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from harness.engine.finetune_config import Lesson
from harness.engine.finetuned_model import Tuned

#: Tokens of one training pass, padding included; an optimizer step of more takes several passes.
PASS_TOKENS = 8192


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


def total_loss(tuned: Tuned, lessons: Sequence[Lesson]) -> Tensor:
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
def mean_loss(tuned: Tuned, lessons: Sequence[Lesson]) -> float:
    """Weighted mean of the cross-entropies of all targets (nats, ≥ 0)."""
    total = sum(lesson.weight * len(lesson.targets) for lesson in lessons)
    parts = batches([len(lesson.ids) for lesson in lessons], PASS_TOKENS)
    return sum(float(total_loss(tuned, [lessons[i] for i in part])) for part in parts) / total


def evaluating(tuned: Tuned) -> Tuned:
    """The same model in evaluation mode."""
    tuned.module.eval()
    return tuned
