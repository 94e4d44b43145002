"""Adapter for a bigram model over the bytes of text: counted when loaded, no weights to fetch."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from harness.config import STRICT, build, digest, file_digest
from harness.errors import CheckpointError, SegmentError
from harness.model import Hidden, ModelCard
from harness.segments import Modality, Prompt, Segment, Text

START = 256
SIZE = 257


@dataclass(frozen=True, config=STRICT)
class Options:
    """The `options` of a card: a text file beside it, one sentence a line, and what is added to every count."""

    text: str
    smoothing: float = 0.01


class NoCache:
    """The KV cache of a model that has none: a byte is predicted from the one before."""

    def select(self, rows: Tensor) -> "NoCache":
        """The cache of some rows."""
        return self


class ByteBigram:
    """P(byte | byte before); text only. Every word starts with its space, so that segments join at words."""

    modalities: frozenset[Modality] = frozenset({"text"})
    #: Not a transformer: likelihoods come from `forward` alone.
    module = None
    max_length = 1 << 20
    #: It never ends a sequence.
    end = None

    def __init__(self, card: ModelCard, *, device: str = "cpu") -> None:
        options = build(Options, card.options, where=f"card '{card.name}': options")
        path = card.folder / options.text
        if not path.is_file():
            raise CheckpointError(f"Card '{card.name}' counts the text {path}, which is absent.")
        self.card = card
        self.device = torch.device(device)
        # All that can change a number, and nothing else.
        self.fingerprint = digest(["byte_bigram/1", file_digest(path), options.smoothing])
        counts = torch.full((SIZE, SIZE), options.smoothing, dtype=torch.float64)
        for line in path.read_text("utf-8").splitlines():
            ids = [START, *self.encode_continuation(Text(line))]
            counts.index_put_(
                (torch.tensor(ids[:-1]), torch.tensor(ids[1:])), torch.tensor(1.0).double(), accumulate=True
            )
        self._logprobs = (counts / counts.sum(1, keepdim=True)).log().float().to(self.device)

    def prepare(self, segments: Sequence[Segment]) -> None:
        """Does nothing: there is no audio to encode."""

    def encode_prompt(self, prompt: Prompt, target: Modality) -> list[int]:
        """The start, then every segment."""
        return self.encode_prior("text", target) + [i for segment in prompt for i in self.encode_continuation(segment)]

    def encode_prior(self, source: Modality, target: Modality) -> list[int]:
        """The start alone.

        Raises:
            SegmentError: if speech is asked for.
        """
        if {source, target} != {"text"}:
            raise SegmentError(f"Model '{self.card.name}' knows text only; asked for {source} → {target}.")
        return [START]

    def encode_continuation(self, segment: Segment) -> list[int]:
        """The bytes of the words, each after a space.

        Raises:
            SegmentError: if the segment is speech.
        """
        if not isinstance(segment, Text):
            raise SegmentError(f"Model '{self.card.name}' knows text only; got {segment}.")
        return [byte for word in segment.text.split() for byte in f" {word}".encode()]

    def tokens_of(self, modality: Modality) -> Sequence[int]:
        """Every byte is text."""
        return range(START) if modality == "text" else ()

    def decode(self, ids: Sequence[int]) -> Prompt:
        """One segment of text, or none."""
        text = bytes(i for i in ids if i != START).decode(errors="replace")
        return (Text(text.removeprefix(" ")),) if text else ()

    def forward(
        self, ids: Tensor, *, lengths: Tensor | None = None, past: Any = None, use_cache: bool = False
    ) -> Hidden:
        """What follows each byte, `(batch, time, vocabulary)`."""
        return Hidden(self._logprobs[ids], NoCache() if use_cache else None)

    def logits(self, states: Tensor) -> Tensor:
        """The states are log-probabilities already, `(…, vocabulary)`."""
        return states


MODEL = ByteBigram
