"""A vocabulary, utterances and a decoder small enough to work out by hand."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.engine.packing import Packer
from harness.segments import UnitSpan
from harness.training.formats import Formatter, PairedUtterance
from harness.training.loop import Trainer
from harness.training.mixture import MixtureStream
from harness.training.recipe import Architecture, Mixture, TrainingConfig
from harness.training.vocabulary import Vocabulary

#: Ids: 6 specials, 10 units at 6 … 15, 26 letters at 16 … 41.
VOCABULARY = Vocabulary(num_units=10, num_text=26)
ARCHITECTURE = Architecture(num_layers=1, hidden_size=16, num_heads=2, ffn_size=32, context=64)
DROPPING = replace(ARCHITECTURE, dropout=0.2)
THIRDS = Mixture(speech=1, text=1, cst=0.5, ast=0.5)


def letters(text: str) -> list[int]:
    """One text subword a letter, `a` is 0."""
    return [ord(letter) - ord("a") for letter in text if letter != " "]


def formatter(max_span_words: int = 3, *, prompt_dropout: float = 0.0) -> Formatter:
    """Units and letters are their own subwords."""
    return Formatter(
        VOCABULARY,
        lambda span: list(span.units),
        letters,
        max_span_words=max_span_words,
        prompt_dropout=prompt_dropout,
    )


def span(*frames: int) -> UnitSpan:
    """Units of frames at 10 Hz."""
    return UnitSpan.from_frames(list(frames), rate_hz=10, system="toy")


def utterances(number: int, seed: int = 0, max_words: int = 8) -> list[PairedUtterance]:
    """Utterances of 2 … `max_words` words, each of 1-4 letters and 2-5 frames."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(number):
        words = tuple(
            "".join(rng.choice(list("abcdefgh"), rng.integers(1, 5))) for _ in range(rng.integers(2, max_words + 1))
        )
        lengths = rng.integers(2, 6, len(words))
        starts = tuple(float(s) / 10 for s in np.cumsum([0, *lengths[:-1]]))
        made.append(PairedUtterance(f"u{i}", span(*rng.integers(0, 10, lengths.sum()).tolist()), words, starts))
    return made


def config(**settings) -> TrainingConfig:
    """Six steps on two rows of 64 tokens."""
    defaults = {
        "steps": 6, "batch_tokens": 128, "row_tokens": 64, "learning_rate": 1e-2, "warmup_steps": 2,
        "eval_every": 3, "checkpoint_every": 3,
    }  # fmt: skip
    return TrainingConfig(**{**defaults, **settings})


def trainer(state: Path | None = None, architecture: Architecture = ARCHITECTURE, **settings) -> Trainer:
    """A training run on a dozen utterances."""
    return Trainer(architecture, config(**settings), formatter(), utterances(12), utterances(5, seed=1), state=state)


def stream(mixture: Mixture = THIRDS, *, unit: str = "tokens", seed: int = 0, max_tokens: int = 999) -> MixtureStream:
    """Documents of a dozen utterances."""
    return MixtureStream(utterances(12), formatter(), mixture, ratio_unit=unit, seed=seed, max_tokens=max_tokens)


def fingerprint() -> str:
    """Digest of the bytes of the first packed batches."""
    packer, found = Packer(stream(max_tokens=64), 64), hashlib.sha256()
    for _ in range(5):
        batch = packer.batch(4)
        found.update(batch.ids.tobytes() + batch.documents.tobytes() + batch.positions.tobytes())
    return found.hexdigest()


def weights(run: Trainer) -> bytes:
    """All parameters, in order, as bytes."""
    return b"".join(p.detach().cpu().numpy().tobytes() for p in run.model.parameters())


def finished(*arguments, **settings) -> Trainer:
    run = trainer(*arguments, **settings)
    run.run()
    return run
