"""What a fine-tuning learns, and how: examples, settings, seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Literal

from pydantic.dataclasses import dataclass

from harness.config import STRICT, digest
from harness.engine.source import scoring_version
from harness.errors import OptionError, SampleError
from harness.model import Model


@dataclass(frozen=True, config=STRICT)
class FineTuneConfig:
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
                raise OptionError(f"{name} is at least 1; found {value}.")
        if not (self.learning_rate > 0 and self.clip_norm > 0 and self.weight_decay >= 0):
            raise OptionError(
                "learning_rate and clip_norm are > 0 and weight_decay is ≥ 0; found "
                f"{self.learning_rate}, {self.clip_norm} and {self.weight_decay}."
            )
        if not 0 <= self.warmup_share < 1:
            raise OptionError(f"warmup_share lies in [0, 1); found {self.warmup_share}.")


@plain_dataclass(frozen=True, slots=True)
class TrainingExample:
    """One sequence to learn: from the state at `positions[i]`, `targets[i]` is predicted.

    Attributes:
        ids: of the whole sequence.
        positions: positions in `ids`.
        targets: a class of the head for each position, or without a head the id of the next token.
        weight: of each of its targets in the loss.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    targets: tuple[int, ...]
    weight: float = 1.0


def continuation_example(
    context: Sequence[int], continuation: Sequence[int], *, weight: float = 1.0
) -> TrainingExample:
    """Continue `context` with the tokens of `continuation`; the context itself is not learned."""
    ids = (*context, *continuation)
    return TrainingExample(ids[:-1], tuple(range(len(context) - 1, len(ids) - 1)), tuple(continuation), weight)


@plain_dataclass(frozen=True, slots=True)
class FineTuning:
    """One fine-tuning run: what is learned, how, and from which seed.

    Attributes:
        tokens: names of the tokens to add; `task_tokens` says their ids.
        num_classes: outputs of the classification head; 0 means no head, the vocabulary is the output.
        config: of the training.
        seed: of new weights, order and dropout.
        train: examples to learn.
        dev: examples that decide when to stop; of the training condition, never of another.
    """

    tokens: tuple[str, ...]
    num_classes: int
    config: FineTuneConfig
    seed: int
    train: tuple[TrainingExample, ...]
    dev: tuple[TrainingExample, ...]

    def __post_init__(self) -> None:
        if not self.train or not self.dev:
            raise SampleError(
                f"Fine-tuning needs sequences to learn and to validate on; found {len(self.train)} and {len(self.dev)}."
            )


def fine_tuning_digest(model: Model, job: FineTuning) -> str:
    """Changes whenever the trained weights could."""
    parts = [job.tokens, job.num_classes, job.config, job.seed, _repr_digest(job.train), _repr_digest(job.dev)]
    return digest([scoring_version(model), model.fingerprint, parts])


def _repr_digest(examples: Sequence[TrainingExample]) -> str:
    return hashlib.sha256(repr(examples).encode()).hexdigest()
