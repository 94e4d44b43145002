"""`harness train`: trains the model of a card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.arguments import Card, Device, Json, NoTracking, Quiet, corpus_option, settings_of
from harness.cli.config_file import ConfigFile
from harness.cli.printing import Printer, ProgressBar, warn

if TYPE_CHECKING:
    from harness.model import ModelCard
    from harness.tracking.training import Status, TrainingLogger
    from harness.training.loop import TrainingStep
    from harness.training.train import Trained


def train(
    *,
    model: Card,
    corpus: Annotated[
        str | None,
        corpus_option("train on this corpus instead of the card's: another model, called <name>-<corpus>"),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="DIR", help="checkpoint folder (default: $HARNESS_HOME/checkpoints/<name>)"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="optimizer steps (default: the card's)")
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", metavar="N", min=1, help="tokens per step (default: the card's)")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="seed of weights and data order (default: the card's)"),
    ] = None,
    no_tracking: NoTracking = False,
    device: Device = "cpu",
    settings: Annotated[list[str] | None, settings_of("part of the card, such as training.learning_rate=1e-3")] = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the model of a card; the same command resumes.

    Example:
        harness train --model sutlm-tiny --output out/tiny --set training.mixture.ast=2
    """
    from harness.config import merge, parse_settings, plain
    from harness.model import read_card
    from harness.training.train import train_model, training_card

    asked = {"steps": steps, "batch_tokens": batch_tokens, "seed": seed}
    changes = merge(parse_settings(settings or ()), {"training": {k: v for k, v in asked.items() if v is not None}})
    card = training_card(read_card(model), corpus=corpus, settings=changes)
    printer = Printer(json=json, quiet=quiet)
    logger = None if no_tracking else _training_logger(card)
    try:
        with printer.progress() as progress:
            trained = train_model(
                card,
                output=Path(output) if output else None,
                device=device,
                on_step=lambda step: _report(step, progress, logger),
                progress=progress.update,
            )
    except BaseException:
        if logger:
            _close(logger, "FAILED")
        raise
    if logger:
        _register_trained(printer, logger, card, trained)
        _close(logger)
    printer.data(plain(trained))
    _remark(printer, model, trained)


def _remark(printer: Printer, model: str, trained: Trained) -> None:
    """Says what to know of the training, and how to evaluate what came of it."""
    from harness.model import read_card
    from harness.training.train import runnable_as

    if trained.num_without_word_times:
        printer.say(f"{trained.num_without_word_times:,} utterances have no word times: AST left them out")
    if trained.num_cut:
        printer.say(f"{trained.num_cut:,} documents were longer than a row and lost their end")
    here = read_card(model)
    if here.sha256 not in (None, trained.sha256) and here.checkpoint_path.resolve() == trained.checkpoint.resolve():
        printer.say(f"the card '{here.name}' looks here for other weights; give it sha256: {trained.sha256}")
    printer.say(f"evaluate it with: harness run --model {runnable_as(model, trained)} --tasks cra")


def _report(step: TrainingStep, progress: ProgressBar, logger: TrainingLogger | None) -> None:
    dev = "".join(f" {k} {v:.3f}" for k, v in step.dev.items())
    detail = f"loss {step.loss:.3f}{dev} {step.tokens_per_s:,.0f} tokens/s"
    progress.update("training", step.step, step.steps, detail)
    if logger:
        logged = ("loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s")
        logger.log(step.step, {**{name: getattr(step, name) for name in logged}, **step.dev})


def _register_trained(printer: Printer, logger: TrainingLogger, card: ModelCard, trained: Trained) -> None:
    """With `logging.registry`, the checkpoint becomes a version of its card's name."""
    from harness.tracking.config import load_tracking_config
    from harness.tracking.storage import TrackingError

    if not load_tracking_config().logging.registry:
        return
    from harness.model import adapter_registry

    card = replace(card, checkpoint=str(trained.checkpoint.absolute()), sha256=trained.sha256)
    fingerprint = adapter_registry().load(card.adapter)(card, device="cpu").fingerprint
    try:
        printer.say(f"registered as {logger.register(card, fingerprint=fingerprint)}")
    except TrackingError as error:
        warn(error)


def _close(logger: TrainingLogger, status: Status = "FINISHED") -> None:
    from harness.tracking.storage import TrackingError

    try:
        logger.close(status)
    except TrackingError as error:
        warn(error)


def _training_logger(card: ModelCard) -> TrainingLogger | None:
    from harness.tracking.config import load_tracking_config
    from harness.tracking.storage import TrackingError
    from harness.tracking.training import card_logger

    try:
        return card_logger(load_tracking_config(), card)
    except TrackingError as error:
        warn(error)
        return None
