"""Adapter for joint speech-unit + text decoders trained by `harness train`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic.dataclasses import dataclass

from harness.config import STRICT, build, digest
from harness.errors import SegmentError, UnitSystemError
from harness.model import Hidden, ModelCard
from harness.segments import AudioSpan, Modality, Prompt, Segment, Speech, Text, UnitSpan
from harness.training.checkpoint_folder import CheckpointFolder
from harness.training.vocabulary import EOS, START, SWITCH_TO, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import OPTForCausalLM

    from harness.engine.kv_cache import KVCache
    from harness.training.checkpoint import Tokenizers


@dataclass(frozen=True, config=STRICT)
class SutlmOptions:
    """The `options` of a card.

    Attributes:
        dtype: type that the weights are computed with; softmaxes and sums are in float32 in any case.
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class Sutlm:
    """OPT-style decoder over one vocabulary of unit and text subwords; sequences as in `harness.training`.

    Files are hashed and checked at once. Decoder and tokenizers are built when they are first needed: where all answers
    are stored already, they are not, and neither torch nor transformers is imported.

    Raises:
        CheckpointError: if weights or tokenizers are absent, altered or refused; if the weights do not fit the
            architecture, when the decoder is built.
    """

    #: `harness train` writes checkpoints that this adapter loads.
    trains: ClassVar[bool] = True
    modalities: frozenset[Modality] = frozenset({"speech", "text"})
    end: int | None = EOS

    def __init__(self, card: ModelCard, *, device: str = "cpu") -> None:
        self._options = build(SutlmOptions, card.options, where=f"card '{card.name}': options")
        self._checkpoint = checkpoint = CheckpointFolder.open(card.require_checkpoint(), sha256=card.sha256)
        self.card, self.device = card, device
        self.max_length = checkpoint.architecture.context
        # Architecture is implied by the weights' names and shapes, except for the number of heads.
        self.fingerprint = digest(
            {
                "adapter": "sutlm/1",
                "weights": checkpoint.weights_sha256,
                "tokenizers": checkpoint.tokenizers_digest,
                "heads": checkpoint.architecture.num_heads,
                **({} if self._options.dtype == "float32" else {"dtype": self._options.dtype}),
            }
        )
        self._units: dict[AudioSpan, UnitSpan] = {}

    @cached_property
    def tokenizers(self) -> Tokenizers:
        """The speech and text tokenizers."""
        from harness.training.checkpoint import Tokenizers

        return Tokenizers.load(self._checkpoint.path)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Id ranges of specials, unit and text subwords."""
        return self.tokenizers.vocabulary

    @cached_property
    def module(self) -> OPTForCausalLM:
        """The decoder, on the device and in the type of the card."""
        import torch

        from harness.training.checkpoint import load_decoder

        decoder = load_decoder(self._checkpoint, self.vocabulary.size)
        decoder.to(torch.device(self.device), getattr(torch, self._options.dtype))
        decoder.config.dtype = decoder.dtype
        return decoder

    def prepare(self, segments: Sequence[Segment]) -> None:
        """Encodes the audio of all segments at once, each file whole."""
        spans = list(dict.fromkeys(s.audio for s in segments if isinstance(s, Speech) and s.units is None and s.audio))
        todo = [span for span in spans if span not in self._units]
        if todo:
            units = self.tokenizers.speech.encode(todo, device=self.device)
            self._units.update(zip(todo, units, strict=True))

    def encode_prompt(self, prompt: Prompt, target: Modality) -> list[int]:
        """Start token, segments with switch tokens between modalities, and a switch to `target` where needed."""
        if not prompt:
            raise SegmentError("A prompt needs at least one segment; use encode_prior for the likelihood without one.")
        ids = [START[prompt[0].modality]]
        modality = prompt[0].modality
        for segment in prompt:
            if segment.modality != modality:
                modality = segment.modality
                ids.append(SWITCH_TO[modality])
            ids += self.encode_continuation(segment)
        return ids if modality == target else [*ids, SWITCH_TO[target]]

    def encode_prior(self, source: Modality, target: Modality) -> list[int]:
        """Start token of `source`, then the switch to `target` if it is another."""
        return [START[source]] if source == target else [START[source], SWITCH_TO[target]]

    def encode_continuation(self, segment: Segment) -> list[int]:
        """Subword ids of one segment in the joint vocabulary."""
        if isinstance(segment, Text):
            subwords = self.tokenizers.text.encode(segment.text)
        else:
            subwords = self.tokenizers.speech.subwords(self._unit_span(segment))
        offset = self.vocabulary.offset(segment.modality)
        return [offset + i for i in subwords]

    def tokens_of(self, modality: Modality) -> range:
        """The subwords of a modality, but for the piece that stands for unknown characters."""
        ids = self.vocabulary.id_range(modality)
        return ids[1:] if modality == "text" else ids

    def decode(self, ids: Sequence[int]) -> Prompt:
        """Segments of consecutive subwords of one modality; durations of decoded units are one frame each."""
        segments: list[Segment] = []
        for modality, run in groupby(
            (i for i in ids if self.vocabulary.modality_of(i)), key=lambda i: self.vocabulary.modality_of(i)
        ):
            local = [i - self.vocabulary.offset(modality or "text") for i in run]
            if modality == "text":
                segments.append(Text(self.tokenizers.text.decode(local)))
            else:
                speech = self.tokenizers.speech
                units = list(speech.units_of(local))
                segments.append(Speech(units=UnitSpan.from_frames(units, rate_hz=speech.rate_hz, system=speech.system)))
        return tuple(segments)

    def forward(
        self, ids: Tensor, *, lengths: Tensor | None = None, past: KVCache | None = None, use_cache: bool = False
    ) -> Hidden:
        """Final hidden states of right-padded `(batch, time)` ids."""
        from harness.engine.kv_cache import read_rows

        return read_rows(self.module.model.decoder, ids, lengths=lengths, past=past, use_cache=use_cache)

    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits over the joint vocabulary."""
        logits: Tensor = self.module.lm_head(states)
        return logits

    def _unit_span(self, segment: Speech) -> UnitSpan:
        if segment.units is None and segment.audio is not None:
            if segment.audio not in self._units:
                self.prepare([segment])
            return self._units[segment.audio]
        system = self.tokenizers.speech.system
        if segment.units is None or segment.units.system != system:
            raise UnitSystemError(
                f"Units of system {segment.units and segment.units.system} were given to '{self.card.name}', which "
                f"reads units of system {system}; give audio, or units of the same tokenizer."
            )
        return segment.units


MODEL = Sutlm
