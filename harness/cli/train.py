"""`harness train`: trains the model of a card."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cli.arguments import add_device_and_set, command, positive
from harness.cli.printing import ProgressBar, print_data, say


def _train(a: argparse.Namespace) -> int:
    from harness.config import merge, parse_settings, plain
    from harness.model import read_card
    from harness.training.train import runnable_as, train_model, training_card

    asked = {"steps": a.steps, "batch_tokens": a.batch_tokens, "seed": a.seed}
    settings = merge(parse_settings(a.set), {"training": {k: v for k, v in asked.items() if v is not None}})
    card = training_card(read_card(a.model), corpus=a.corpus, settings=settings)
    logger = _training_logger(a, card)
    with ProgressBar(a) as progress:

        def on_step(step: Any) -> None:
            dev = "".join(f" {k} {v:.3f}" for k, v in step.dev.items())
            progress.update(
                "training", step.step, step.steps, f"loss {step.loss:.3f}{dev} {step.tokens_per_s:,.0f} tokens/s"
            )
            if logger:
                logger.log(
                    step.step,
                    {
                        "loss": step.loss,
                        "learning_rate": step.learning_rate,
                        "grad_norm": step.grad_norm,
                        "tokens": step.tokens,
                        "tokens_per_s": step.tokens_per_s,
                        **step.dev,
                    },
                )

        try:
            trained = train_model(
                card,
                output=Path(a.output) if a.output else None,
                device=a.device,
                on_step=on_step,
                progress=progress.update,
            )
        except BaseException:
            if logger:
                _close(logger, "FAILED")
            raise
    if logger:
        _register_trained(a, logger, card, trained)
        _close(logger)
    print_data(a, plain(trained))
    if trained.num_without_word_times:
        say(a, f"{trained.num_without_word_times:,} utterances have no word times: AST left them out")
    if trained.num_cut:
        say(a, f"{trained.num_cut:,} documents were longer than a row and lost their end")
    here = read_card(a.model)
    if here.sha256 not in (None, trained.sha256) and here.checkpoint_path.resolve() == trained.checkpoint.resolve():
        say(a, f"the card '{here.name}' looks here for other weights; give it sha256: {trained.sha256}")
    say(a, f"evaluate it with: harness run --model {runnable_as(a.model, trained)} --tasks cra")
    return 0


def _register_trained(a: argparse.Namespace, logger: Any, card: Any, trained: Any) -> None:
    """With `logging.registry`, the checkpoint becomes a version of its card's name."""
    from harness.tracking.config import load_tracking_config
    from harness.tracking.storage import TrackingError

    if not load_tracking_config().logging.registry:
        return
    from harness.model import adapter_registry

    card = replace(card, checkpoint=str(trained.checkpoint.absolute()), sha256=trained.sha256)
    fingerprint = adapter_registry().load(card.adapter)(card, device="cpu").fingerprint
    try:
        say(a, f"registered as {logger.register(card, fingerprint=fingerprint)}")
    except TrackingError as error:
        print(f"harness: warning: {error}", file=sys.stderr)


def _close(logger: Any, status: str = "FINISHED") -> None:
    from harness.tracking.storage import TrackingError

    try:
        logger.close(status)
    except TrackingError as error:
        print(f"harness: warning: {error}", file=sys.stderr)


def _training_logger(a: argparse.Namespace, card: Any) -> Any:
    if a.no_tracking:
        return None
    from harness.config import digest
    from harness.tracking.config import load_tracking_config
    from harness.tracking.storage import TrackingError
    from harness.tracking.training import training_logger

    try:
        return training_logger(
            load_tracking_config(),
            f"train {card.name}",
            {"architecture": card.architecture, "training": card.training, "tokenizers": card.tokenizers},
            {"kind": "training", "model": card.name, "key": digest([card.name, card.training, card.architecture])[:16]},
        )
    except TrackingError as error:
        print(f"harness: warning: {error}", file=sys.stderr)
        return None


def add_train(commands: Any) -> None:
    """Adds the parser of `harness train`."""
    train = command(
        commands, "train", _train, "train the model of a card; the same command resumes",
        "harness train --model sutlm-tiny --output out/tiny --set training.mixture.ast=2",
    )  # fmt: skip
    train.add_argument("--model", required=True, help="card by name, or path to a YAML card")
    train.add_argument(
        "--corpus", help="train on this corpus instead of the card's: another model, called <name>-<corpus>"
    )
    train.add_argument("--output", metavar="DIR", help="checkpoint folder (default: $HARNESS_HOME/checkpoints/<name>)")
    train.add_argument("--steps", type=positive, help="optimizer steps (default: the card's)")
    train.add_argument("--batch-tokens", type=positive, help="tokens per step (default: the card's)")
    train.add_argument("--seed", type=int, help="seed of weights and data order (default: the card's)")
    train.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    add_device_and_set(train, "part of the card, such as training.learning_rate=1e-3")
