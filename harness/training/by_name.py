"""Training in one call, by the name of a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.model import ModelCard, read_card
from harness.progress import ProgressCallback
from harness.training.train import Trained, train_model, training_card


def train(
    card: str | Path | ModelCard,
    *,
    corpus: str | None = None,
    settings: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> Trained:
    """Trains the model of a card and writes its checkpoint, as `harness train` does without tracking.

    The same call after an interruption continues from the last saved step and ends with the same weights.

    Args:
        card: by name, by the path of its YAML file, or read already.
        corpus: trains on its splits `train` and `dev` instead of the card's; None: the card's.
        settings: changes to the card, such as `{"training": {"steps": 2000}}`.
        output: checkpoint folder; None: `$HARNESS_HOME/checkpoints/<name>`.
        device: where to train.
        progress: called with what is being prepared, how much of it is done, and how much there is in all.

    Raises:
        InputError: for anything the caller can change: names, options, files.
        TrainingError: if training cannot go on.
    """
    wanted = card if isinstance(card, ModelCard) else read_card(str(card))
    made = training_card(wanted, corpus=corpus, settings=settings or {})
    return train_model(made, output=None if output is None else Path(output), device=device, progress=progress)
