"""`harness train`: trains the model of a card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.arguments import (
    Card,
    Device,
    Json,
    NoTracking,
    Quiet,
    corpus_option,
    folder_option,
    settings_of,
)
from harness.cli.config_file import ConfigFile
from harness.cli.printing import Printer, ProgressBar, warn

if TYPE_CHECKING:
    from harness.model import ModelCard
    from harness.tracking.training import TrainingLogger
    from harness.training.loop import TrainingStep
    from harness.training.train import Trained


def train(
    *,
    model: Card,
    corpus: Annotated[
        str | None, corpus_option("train on this corpus instead of the card's: another model, called <name>-<corpus>")
    ] = None,
    output: Annotated[
        str | None, folder_option("checkpoint folder (default: $HARNESS_HOME/checkpoints/<name>)")
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
    from harness.by_name import train as train_by_name
    from harness.config import parse_settings, plain

    printer = Printer(json=json, quiet=quiet)
    with _TrackedTraining(wanted=not no_tracking) as tracked:
        with printer.progress() as progress:

            def report(step: TrainingStep) -> None:
                _report(step, progress)
                tracked.log(step)

            trained = train_by_name(
                model,
                corpus=corpus,
                steps=steps,
                batch_tokens=batch_tokens,
                seed=seed,
                settings=parse_settings(settings or ()),
                output=output,
                device=device,
                on_start=tracked.start,
                on_step=report,
                progress=progress.update,
            )
        tracked.register(printer, trained)
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


def _report(step: TrainingStep, progress: ProgressBar) -> None:
    dev = "".join(f" {k} {v:.3f}" for k, v in step.dev.items())
    detail = f"loss {step.loss:.3f}{dev} {step.tokens_per_s:,.0f} tokens/s"
    progress.update("training", step.step, step.steps, detail)


class _TrackedTraining:
    """The run of a training in MLflow, where it is wanted: whatever fails there is a warning."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._card: ModelCard | None = None
        self._logger: TrainingLogger | None = None

    def __enter__(self) -> _TrackedTraining:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._logger:
            with _failures_as_warnings():
                self._logger.close("FINISHED" if kind is None else "FAILED")

    def start(self, card: ModelCard) -> None:
        """Opens the run of the card that will be trained."""
        if self._wanted:
            from harness.tracking.config import load_tracking_config
            from harness.tracking.training import card_logger

            self._card = card
            with _failures_as_warnings():
                self._logger = card_logger(load_tracking_config(), card)

    def log(self, step: TrainingStep) -> None:
        """Sends the numbers of a step."""
        if self._logger:
            logged = ("loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s")
            self._logger.log(step.step, {**{name: getattr(step, name) for name in logged}, **step.dev})

    def register(self, printer: Printer, trained: Trained) -> None:
        """With `logging.registry`, makes the checkpoint a version of its card's name."""
        from harness.tracking.config import load_tracking_config

        if not self._logger or not self._card or not load_tracking_config().logging.registry:
            return
        from harness.model import adapter_registry

        card = replace(self._card, checkpoint=str(trained.checkpoint.absolute()), sha256=trained.sha256)
        fingerprint = adapter_registry().load(card.adapter)(card, device="cpu").fingerprint
        with _failures_as_warnings():
            printer.say(f"registered as {self._logger.register(card, fingerprint=fingerprint)}")


@contextmanager
def _failures_as_warnings() -> Iterator[None]:
    from harness.tracking.storage import TrackingError

    try:
        yield
    except TrackingError as error:
        warn(error)
