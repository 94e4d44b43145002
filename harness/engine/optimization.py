"""Optimization in training and in fine-tuning: AdamW, learning-rate schedules, gradient clipping, early stopping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate of every optimizer step: linear warm-up to the peak, then a decay.

    Attributes:
        kind: `cosine` falls to the floor in half a cosine; `constant` stays at the peak; `wsd` stays there and falls
            linearly over the last `decay_share` of the steps; `linear` falls linearly to 0 from the end of the warm-up.
        peak: highest rate.
        steps: optimizer steps in all.
        warmup_steps: of these the ones that rise.
        floor: lowest rate of `cosine` and `wsd`.
        decay_share: of all steps.
    """

    kind: Literal["cosine", "constant", "wsd", "linear"]
    peak: float
    steps: int
    warmup_steps: int
    floor: float = 0.0
    decay_share: float = 0.0

    def rate(self, step: int) -> float:
        """The rate of step `step`, counted from 0."""
        if self.kind == "linear":
            return self.peak * self._linear_share(step)
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return self.peak
        if self.kind == "wsd":
            decay = max(1, round(self.decay_share * self.steps))
            return self.floor + (self.peak - self.floor) * min(1.0, (self.steps - step) / decay)
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def _linear_share(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return (self.steps - step) / max(1, self.steps - self.warmup_steps)


def adamw(
    parameters: Iterable[Tensor],
    *,
    without_decay: Iterable[Tensor],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with weight decay on matrices only.

    Args:
        parameters: all that is optimized, each once; gains and biases do not decay.
        without_decay: matrices among them that do not decay either, such as embeddings.
        learning_rate: at first; `set_learning_rate` changes it.
        weight_decay: of the other matrices.
        betas: decay rates of the moments.
    """
    excluded = {id(parameter) for parameter in without_decay}
    decay: list[Tensor] = []
    rest: list[Tensor] = []
    for parameter in parameters:
        (decay if parameter.ndim > 1 and id(parameter) not in excluded else rest).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimized(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters of an optimizer, group by group."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def clip_gradients(parameters: Iterable[Tensor], largest: float) -> float:
    """Scales the gradients down to the norm `largest` if theirs is larger; returns the norm that they had."""
    return float(torch.nn.utils.clip_grad_norm_(parameters, largest))


def update(optimizer: torch.optim.Optimizer) -> None:
    """Takes one optimizer step and forgets the gradients."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class EarlyStopping:
    """Stops when the loss on a development set has not fallen for `patience` evaluations, or is no longer finite.

    Args:
        patience: evaluations without a lower loss, ≥ 1.

    Attributes:
        losses: of every evaluation so far; the last one may not be finite.
        best: the evaluation with the lowest loss, counted from 1; 0 before there is one.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.losses: list[float] = []
        self.best = 0

    def add(self, loss: float) -> bool:
        """Whether the loss of an evaluation is lower than all before it."""
        lower = math.isfinite(loss) and loss < min(self.losses, default=math.inf)
        self.losses.append(loss)
        if lower:
            self.best = len(self.losses)
        return lower

    @property
    def diverged(self) -> bool:
        """Whether the last loss is not finite."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])

    @property
    def stopped(self) -> bool:
        """Whether to stop now."""
        return self.diverged or len(self.losses) - self.best >= self.patience
