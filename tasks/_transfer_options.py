"""What the two SLUE tasks can be asked: conditions of training and testing, seeds, learning rates."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from harness.config import STRICT
from harness.engine.finetune_config import FineTuneConfig
from harness.errors import OptionError
from harness.segments import Modality

TrainOn = Literal["speech", "text", "both"]
MODALITIES: tuple[Modality, ...] = ("speech", "text")


@dataclass(frozen=True, config=STRICT)
class TransferOptions:
    """The protocol that both tasks share.

    Attributes:
        train_on: conditions of training: `speech`, `text`, or `both`, half of the utterances in each.
        test_on: conditions of testing.
        seeds: trainings of each condition; the seed decides new weights, order and dropout.
        train_utterances: drawn by the run's seed from the train split; None: all.
        dev_utterances: drawn likewise from the dev split, for early stopping and the choice of the learning rate.
        learning_rates: tried with the first seed; the one with the lowest dev loss serves the other seeds.
        method: `full` or `lora`.
        lora_rank: of `lora`.
        epochs: at most.
        patience: epochs without a lower dev loss after which training stops.
        batch_size: sequences per step.
        transcriber: model that turns speech into text for the cascade baseline; None, or a model without weights: no
            cascade.
        control: `shuffled_labels` permutes the labels of training and dev utterances, which must land at chance.
    """

    train_on: tuple[TrainOn, ...] = ("speech", "text", "both")
    test_on: tuple[Modality, ...] = ("speech", "text")
    seeds: int = 3
    train_utterances: int | None = 1000
    dev_utterances: int | None = 100
    learning_rates: tuple[float, ...] = (1e-3,)
    method: Literal["full", "lora"] = "full"
    lora_rank: int = 16
    epochs: int = 3
    patience: int = 2
    batch_size: int = 16
    # A name; what counts is in the protocol: the model's fingerprint.
    transcriber: str | None = field(default="transcriber-tiny", metadata={"changes_numbers": False})
    control: Literal["none", "shuffled_labels"] = "none"

    def __post_init__(self) -> None:
        for name in ("train_on", "test_on", "learning_rates"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise OptionError(f"{name} names at least one, each once; found {list(values)}.")
        counts = {name: getattr(self, name) for name in ("seeds", "train_utterances", "dev_utterances")}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise OptionError(f"{name} is at least 1; found {value}.")
        for rate in self.learning_rates:
            self.recipe(rate)

    def recipe(self, learning_rate: float) -> FineTuneConfig:
        """How weights are trained at a learning rate."""
        return FineTuneConfig(
            method=self.method,
            learning_rate=learning_rate,
            epochs=self.epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            lora_rank=self.lora_rank,
        )
