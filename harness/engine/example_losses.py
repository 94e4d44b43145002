"""Losses and log-probabilities of examples under a fine-tuned model, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from harness.engine.finetune_config import TrainingExample
from harness.engine.finetuned_model import FineTunedModel

#: Tokens of one training pass, padding included; an optimizer step of more takes several passes.
PASS_TOKENS = 8192


@torch.inference_mode()
def target_logprobs(
    tuned: FineTunedModel, examples: Sequence[TrainingExample], *, batch_tokens: int
) -> Iterator[tuple[int, Tensor]]:
    """Log-probabilities `(positions, outputs)` (nats, float32, on the CPU) at the positions of each example, by index.

    They come batch by batch, the longest examples first.
    """
    for batch in batches([len(example.ids) for example in examples], batch_tokens):
        chosen = [examples[i] for i in batch]
        logprobs = _logits(tuned, chosen).float().log_softmax(-1).cpu()
        yield from zip(batch, logprobs.split([len(example.positions) for example in chosen]), strict=True)


def loglikelihoods(tuned: FineTunedModel, examples: Sequence[TrainingExample], *, batch_tokens: int) -> list[float]:
    """Sum over the targets of each example (nats, ≤ 0)."""
    out = [0.0] * len(examples)
    for i, logprobs in target_logprobs(tuned, examples, batch_tokens=batch_tokens):
        out[i] = float(logprobs.gather(1, torch.tensor(examples[i].targets)[:, None]).double().sum())
    return out


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of sequences, longest first, as many at a time as fit into `batch_tokens` when padded; at least one."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        size = max(1, batch_tokens // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def total_loss(tuned: FineTunedModel, examples: Sequence[TrainingExample]) -> Tensor:
    """Weighted sum of the cross-entropies of all targets."""
    device = tuned.device
    targets = torch.tensor([t for example in examples for t in example.targets], device=device)
    weights = torch.tensor([example.weight for example in examples for _ in example.targets], device=device)
    each = nn.functional.cross_entropy(_logits(tuned, examples).float(), targets, reduction="none")
    return (each * weights).sum()


def _logits(tuned: FineTunedModel, examples: Sequence[TrainingExample]) -> Tensor:
    """`(targets of all examples, outputs)`."""
    longest = max(len(example.ids) for example in examples)
    rows = [[*example.ids, *[0] * (longest - len(example.ids))] for example in examples]
    # Padding on the right reaches no earlier state of a causal decoder: no mask is needed, and none is faster.
    states = tuned.forward(torch.tensor(rows, device=tuned.device)).states
    flat = [row * longest + at for row, example in enumerate(examples) for at in example.positions]
    return tuned.outputs(states.flatten(0, 1)[torch.tensor(flat, device=states.device)])


@torch.inference_mode()
def mean_loss(tuned: FineTunedModel, examples: Sequence[TrainingExample]) -> float:
    """Weighted mean of the cross-entropies of all targets (nats, ≥ 0)."""
    total = sum(example.weight * len(example.targets) for example in examples)
    parts = batches([len(example.ids) for example in examples], PASS_TOKENS)
    return sum(float(total_loss(tuned, [examples[i] for i in part])) for part in parts) / total


def evaluating(tuned: FineTunedModel) -> FineTunedModel:
    """The same model in evaluation mode."""
    tuned.module.eval()
    return tuned
