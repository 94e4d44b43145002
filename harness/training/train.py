"""From a card to a checkpoint: data, tokenizers, training, export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import __version__
from harness.config import build, digest, home, merge, plain
from harness.errors import ConfigError
from harness.model import ModelCard
from harness.training.checkpoint import Tokenizers, save_checkpoint
from harness.training.data import Progress, open_splits, pair, prepare_tokenizers
from harness.training.formats import Formatter
from harness.training.loop import Step, Trainer, deciding
from harness.training.recipe import Architecture, TokenizersConfig, TrainingConfig


@dataclass(frozen=True)
class Trained:
    """Where a training run ended.

    Attributes:
        checkpoint: folder of the finished checkpoint.
        steps: steps taken in all, resumed ones included.
        tokens: tokens seen.
        losses: last training loss and validation losses per format (nats per token).
        realized: tokens, samples, shares, epochs of each format.
    """

    checkpoint: Path
    steps: int
    tokens: int
    losses: dict[str, float]
    realized: dict[str, dict[str, float]]


def training_card(card: ModelCard, *, corpus: str | None, settings: Mapping[str, Any]) -> ModelCard:
    """The card as it will be trained: `with_corpus` of the chosen corpus and command-line settings merged in.

    A corpus that is not the card's own is read from its splits `train` and `dev`, unless `with_corpus` names others.

    Raises:
        ConfigError: if the card is not one that `harness train` can make.
    """
    if card.adapter != "sutlm":
        raise ConfigError(f"'{card.name}' uses the adapter '{card.adapter}'; harness train makes 'sutlm' checkpoints.")
    data = plain(card)
    if corpus is not None:
        if corpus != card.corpus:
            data = merge(data, {"training": {"train": [f"{corpus}:train"], "dev": [f"{corpus}:dev"]}})
        data = {**merge(data, card.with_corpus.get(corpus, {})), "corpus": corpus}
    return build(ModelCard, {**merge(data, settings), "folder": card.folder}, where=f"card '{card.name}'")


def train_model(
    card: ModelCard,
    *,
    output: Path | None = None,
    device: str = "cpu",
    on_step: Callable[[Step], None] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains the model of a card (as `training_card` gave it) and writes its checkpoint.

    The same call after an interruption continues from the last saved step and ends with the same weights.

    Args:
        card: what to train.
        output: checkpoint folder; default is where the card is looked for when it names none,
            `$HARNESS_HOME/checkpoints/<name>`.
        device: where to train.
        on_step: called after every step.
        progress: called with what is being prepared, done, in all.
    """
    where = f"card '{card.name}'"
    tokenizers_config = build(TokenizersConfig, card.tokenizers, where=f"{where}: tokenizers")
    architecture = build(Architecture, card.architecture, where=f"{where}: architecture")
    config = build(TrainingConfig, card.training, where=f"{where}: training")
    train, dev = open_splits(config.train), open_splits(config.dev)
    tokenizers_folder = prepare_tokenizers(tokenizers_config, train, device=device, progress=progress)
    tokenizers = Tokenizers.load(tokenizers_folder)
    formatter = Formatter(
        tokenizers.vocabulary,
        tokenizers.speech.subwords,
        tokenizers.text.encode,
        max_span_words=config.max_span_words,
        prompt_dropout=config.prompt_dropout,
    )
    identity = digest({"tokenizers": tokenizers.digest, "corpora": [c.digest for c in [*train, *dev]]})
    recipe = digest({"architecture": architecture, "training": deciding(config), "data": identity})
    trainer = Trainer(
        architecture,
        config,
        formatter,
        pair(train, tokenizers, device=device, progress=progress),
        pair(dev, tokenizers, device=device, progress=progress),
        state=home() / "training" / f"{card.name}-{recipe[:12]}",
        device=device,
        identity=identity,
    )
    model = trainer.run(on_step)
    losses = {k: v for k, v in trainer.history[-1].items() if k not in ("step", "tokens")} if trainer.history else {}
    folder = output or home() / "checkpoints" / card.name
    record = {
        "name": card.name,
        "harness": __version__,
        "training": plain(config),
        "tokenizers": plain(tokenizers_config),
        "corpora": [{"name": c.name, "split": c.split, "digest": c.digest} for c in [*train, *dev]],
        "steps": trainer.step,
        "tokens": trainer.tokens,
        "losses": losses,
        "realized": trainer.stream.realized(),
    }
    save_checkpoint(folder, model, architecture, tokenizers_folder, record, dtype=config.export_dtype)
    return Trained(folder, trainer.step, trainer.tokens, losses, trainer.stream.realized())
