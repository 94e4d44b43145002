"""Adapter for a bigram model over the bytes of text: counted when loaded, no weights to fetch."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from harness.config import STRICT, build, digest, file_digest
from harness.errors import InputError
from harness.model import Hidden, ModelCard
from harness.segments import Modality, Prompt, Segment, Text

START = 256
SIZE = 257


@dataclass(frozen=True, config=STRICT)
class Options:
    """The `options` of a card: a text file beside it, one sentence a line, and what is added to every count."""

    text: str
    smoothing: float = 0.01


class Nothing:
    """What has to be kept of the past: a byte is predicted from the one before."""

    def select(self, rows: Tensor) -> "Nothing":
        return self


class ByteBigram:
    """P(byte | byte before); text only. Every word starts with its space, so that segments join at words."""

    modalities: frozenset[Modality] = frozenset({"text"})
    #: There is no network for an engine to reach into.
    module = None
    max_length = 1 << 20
    #: It never ends a sequence.
    end = None

    def __init__(self, card: ModelCard, *, device: str = "cpu") -> None:
        options = build(Options, card.options, where=f"card '{card.name}': options")
        path = card.folder / options.text
        if not path.is_file():
            raise InputError(f"Card '{card.name}' counts the text {path}, which is absent.")
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
        pass

    def encode_prompt(self, prompt: Prompt, target: Modality) -> list[int]:
        return self.encode_prior("text", target) + [i for segment in prompt for i in self.encode_continuation(segment)]

    def encode_prior(self, source: Modality, target: Modality) -> list[int]:
        if {source, target} != {"text"}:
            raise InputError(f"Model '{self.card.name}' knows text only; asked for {source} → {target}.")
        return [START]

    def encode_continuation(self, segment: Segment) -> list[int]:
        if not isinstance(segment, Text):
            raise InputError(f"Model '{self.card.name}' knows text only; got {segment}.")
        return [byte for word in segment.text.split() for byte in f" {word}".encode()]

    def tokens_of(self, modality: Modality) -> Sequence[int]:
        return range(START) if modality == "text" else ()

    def decode(self, ids: Sequence[int]) -> Prompt:
        text = bytes(i for i in ids if i != START).decode(errors="replace")
        return (Text(text.removeprefix(" ")),) if text else ()

    def forward(
        self, ids: Tensor, *, lengths: Tensor | None = None, past: Any = None, use_cache: bool = False
    ) -> Hidden:
        return Hidden(self._logprobs[ids], Nothing() if use_cache else None)

    def logits(self, states: Tensor) -> Tensor:
        return states


MODEL = ByteBigram
