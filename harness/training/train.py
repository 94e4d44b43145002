"""From a card to a checkpoint: data, tokenizers, training, export."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config import build, digest, file_digest, home, merge, plain
from harness.corpora.corpus import Corpus
from harness.engine.distributed import ALONE, Processes
from harness.errors import ConfigError, UsageError
from harness.model import ModelCard, adapter_registry, check_device, read_card
from harness.progress import ProgressCallback
from harness.training.checkpoint import Tokenizers, load_checkpoint, load_weights, save_checkpoint
from harness.training.checkpoint_folder import RECORD, WEIGHTS, check_replaceable
from harness.training.data import open_splits, pair, prepare_tokenizers
from harness.training.formats import Formatter, PairedUtterance
from harness.training.loop import Trainer, TrainingStep, deciding
from harness.training.recipe import Architecture, TrainingRecipe
from harness.version import __version__


@dataclass(frozen=True)
class TrainingData:
    """What trainings with the same tokenizers, corpora and formats share.

    Attributes:
        tokenizers: folder of both tokenizers.
        formatter: makes training sequences.
        train: utterances to learn from.
        dev: utterances to validate on.
        corpora: whose splits these are.
        identity: digest of tokenizers and corpora.
    """

    tokenizers: Path
    formatter: Formatter
    train: list[PairedUtterance]
    dev: list[PairedUtterance]
    corpora: list[Corpus]
    identity: str


@dataclass(frozen=True)
class Trained:
    """Where a training run ended.

    Attributes:
        checkpoint: folder of the finished checkpoint.
        sha256: of its weights, in hexadecimal: what a card's `sha256` needs.
        steps: steps taken in all, resumed ones included.
        tokens: tokens seen.
        losses: last training loss and validation losses per format (nats per token).
        realized: tokens, samples, shares, epochs of each format.
        num_cut: documents that were longer than a row and lost their end.
        num_without_word_times: utterances that AST left out.
    """

    checkpoint: Path
    sha256: str
    steps: int
    tokens: int
    losses: dict[str, float]
    realized: dict[str, dict[str, float]]
    num_cut: int
    num_without_word_times: int


def training_card(card: ModelCard, *, corpus: str | None, settings: Mapping[str, Any]) -> ModelCard:
    """The card as it will be trained: `with_corpus` of the chosen corpus and command-line settings merged in.

    A corpus that is not the card's own is read from its splits `train` and `dev`, unless `with_corpus` names others,
    and makes another model: `<name>-<corpus>`, without the card's weights and source.

    Raises:
        ConfigError: if the card's adapter does not load what `harness train` writes (`trains`), or the settings do not
            fit its schema.
    """
    if not getattr(adapter_registry().load(card.adapter), "trains", False):
        raise ConfigError(
            f"'{card.name}' cannot be trained: its adapter '{card.adapter}' does not load what 'harness train' writes. "
            "(An adapter that does says 'trains = True'.)"
        )
    data = plain(card)
    if corpus is not None:
        if corpus != card.corpus:
            data = merge(data, {"training": {"train": [f"{corpus}:train"], "dev": [f"{corpus}:dev"]}})
            data |= {"name": f"{card.name}-{_short_name(corpus)}", "checkpoint": None, "sha256": None, "source": ""}
        data = {**merge(data, card.with_corpus.get(corpus, {})), "corpus": corpus}
    return build(ModelCard, {**merge(data, settings), "folder": card.folder}, where=f"card '{card.name}'")


def training_data(card: ModelCard, *, device: str = "cpu", progress: ProgressCallback | None = None) -> TrainingData:
    """What `train_model` reads: tokenizers and units are computed once and stored by digest under `$HARNESS_HOME`.

    Args:
        card: as `training_card` gave it.
        device: where a self-supervised extractor runs.
        progress: called with what is being prepared, done, in all.
    """
    recipe = TrainingRecipe.of(card)
    config = recipe.training
    train, dev = (open_splits(names, progress=progress) for names in (config.train, config.dev))
    folder = prepare_tokenizers(recipe.tokenizers, train, device=device, progress=progress)
    tokenizers = Tokenizers.load(folder)
    formatter = Formatter(
        tokenizers.vocabulary,
        tokenizers.speech.subwords,
        tokenizers.text.encode,
        max_span_words=config.max_span_words,
        prompt_dropout=config.prompt_dropout,
        cst_direction=config.cst_direction,
        cst_part=config.cst_part,
    )
    return TrainingData(
        tokenizers=folder,
        formatter=formatter,
        train=pair(train, tokenizers, device=device, progress=progress),
        dev=pair(dev, tokenizers, device=device, progress=progress),
        corpora=[*train, *dev],
        identity=digest({"tokenizers": tokenizers.digest, "corpora": [c.digest for c in [*train, *dev]]}),
    )


def train_model(
    card: ModelCard,
    *,
    data: TrainingData | None = None,
    state: Path | None = None,
    output: Path | None = None,
    device: str = "cpu",
    on_step: Callable[[TrainingStep], None] | None = None,
    progress: ProgressCallback | None = None,
    processes: Processes = ALONE,
) -> Trained:
    """Trains the model of a card (as `training_card` gave it) and writes its checkpoint.

    The same call after an interruption continues from the last saved step and ends with the same weights.

    Args:
        card: what to train.
        data: what `training_data` gave for a card with the same tokenizers, corpora and formats; None: loaded here.
        state: folder of the state to resume from; default is one of its own for every recipe under `$HARNESS_HOME`.
        output: checkpoint folder, replaced if it holds a checkpoint; default is `$HARNESS_HOME/checkpoints/<name>`,
            replaced if it holds one of the same recipe.
        device: where to train.
        on_step: called after every step.
        progress: called with what is being prepared, done, in all.
        processes: those that share every batch, connected; the first one writes, and all return when it has.

    Raises:
        UsageError: if the checkpoint folder holds something else.
        ConfigError: if data and card do not fit.
        DeviceError: if this machine does not have the device.
        DivergedError: if a loss stops being finite.
    """
    sections = TrainingRecipe.of(card)
    architecture, config = sections.architecture, sections.training
    folder = output or home() / "checkpoints" / card.name
    check_replaceable(folder)
    check_device(device)
    data = data or training_data(card, device=device, progress=progress)
    identity, weights = data.identity, None
    if config.start_from is not None:
        weights = _starting_weights(config.start_from, architecture, data.tokenizers)
        identity = digest([data.identity, file_digest(weights)])
    recipe = digest({"architecture": architecture, "training": deciding(config), "data": identity})
    if output is None:
        _check_recipe(folder, recipe)
    trainer = Trainer(
        architecture,
        config,
        data.formatter,
        data.train,
        data.dev,
        state=state or home() / "training" / f"{card.name}-{recipe[:12]}",
        device=device,
        identity=identity,
        processes=processes,
    )
    if weights is not None and trainer.step == 0:
        load_weights(trainer.model, weights)
    model = trainer.run(on_step)
    losses = {k: v for k, v in trainer.history[-1].items() if k not in ("step", "tokens")} if trainer.history else {}
    record = {
        "name": card.name,
        "recipe": recipe,
        "harness": __version__,
        "training": plain(config),
        "tokenizers": plain(sections.tokenizers),
        "corpora": [{"name": c.name, "split": c.split, "digest": c.digest} for c in data.corpora],
        "steps": trainer.step,
        "tokens": trainer.tokens,
        "losses": losses,
        "realized": trainer.stream.realized(),
        "num_cut": trainer.stream.num_cut,
        "num_without_word_times": trainer.stream.num_without_word_times,
    }
    described = {key: value for key, value in plain(card).items() if key not in ("folder", "with_corpus")}
    described["source"] = f"made by 'harness train' {__version__}, recipe {recipe[:12]}"
    saved = (
        save_checkpoint(folder, model, architecture, data.tokenizers, record, dtype=config.export_dtype, card=described)
        if processes.rank == 0
        else ""
    )
    sha256 = processes.gather(saved)[0]
    return Trained(
        checkpoint=folder,
        sha256=sha256,
        steps=trainer.step,
        tokens=trainer.tokens,
        losses=losses,
        realized=trainer.stream.realized(),
        num_cut=trainer.stream.num_cut,
        num_without_word_times=trainer.stream.num_without_word_times,
    )


def _starting_weights(name: str, architecture: Architecture, tokenizers: Path) -> Path:
    """The weights of a model that another with the same tokenizers and sizes can start from."""
    card = read_card(name)
    found = load_checkpoint(card.require_checkpoint(), sha256=card.sha256)
    if found.tokenizers.digest != (wanted := Tokenizers.load(tokenizers).digest):
        raise ConfigError(
            f"Training cannot start from '{name}': its tokenizers have the digest {found.tokenizers.digest[:16]}, this "
            f"recipe's {wanted[:16]}, so that its embeddings would mean other subwords."
        )
    if replace(found.architecture, dropout=architecture.dropout) != architecture:
        raise ConfigError(f"Training cannot start from '{name}': it is a {found.architecture}, not a {architecture}.")
    return card.checkpoint_path / WEIGHTS


def runnable_as(asked: str, trained: Trained) -> str:
    """What `harness run --model` takes for a finished training: the card asked for if it finds it, else its folder."""
    card = read_card(asked)
    if card.checkpoint_path.resolve() == trained.checkpoint.resolve() and card.sha256 in (None, trained.sha256):
        return asked
    folder = str(trained.checkpoint)
    return folder if "/" in folder else f"./{folder}"


def _short_name(corpus: str) -> str:
    """`demo` of `demo`, `mine` of `path/to/mine.jsonl` and of `path/to/mine.py:CORPUS`."""
    return Path(corpus.partition(".py:")[0]).stem


def _check_recipe(folder: Path, recipe: str) -> None:
    # A folder that was not named is not replaced by other weights: a trial of two steps must not cost those of a week.
    if not (folder / RECORD).is_file():
        return
    found = json.loads((folder / RECORD).read_text("utf-8")).get("record", {}).get("recipe")
    if found != recipe:
        raise UsageError(
            f"{folder} holds a checkpoint of another recipe ({(found or 'unknown')[:12]}; this is {recipe[:12]}). Name "
            f"a folder with --output ('--output {folder}' replaces it), or move it away."
        )
