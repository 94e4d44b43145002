"""Models whose scores are known beforehand: every token alike, or the truth and nothing else."""

from __future__ import annotations

import functools
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.config import digest
from harness.errors import SegmentError, UnitSystemError
from harness.model import Hidden, ModelCard
from harness.segments import (
    Modality,
    Prompt,
    Segment,
    Speech,
    Text,
    UnitSpan,
)
from harness.speech.audio import audio_info
from harness.training.vocabulary import EOS, START, SWITCH_TO, Vocabulary

#: Frames per second of the units below: one token for every 40 ms.
RATE_HZ = 25.0


#: The unit system of the models below, which no other model has.
SYSTEM = "harness.testing"


BOTH: frozenset[Modality] = frozenset({"speech", "text"})


_VOCABULARY = Vocabulary(num_units=50, num_text=256)


#: Logit of a token that the oracle expects, the others' being 0: exp(-30) is below float32's resolution at 1.
_SURE = 30.0


@functools.lru_cache(maxsize=4096)
def fake_units(path: Path) -> UnitSpan:
    """Units of an audio file, one per 40 ms: drawn by the file's name, not heard; only its header is read.

    Raises:
        AudioError: if the file is absent or no audio.
    """
    draw, num_frames = random.Random(path.name), int(audio_info(path)[1] * RATE_HZ)
    units = [draw.randrange(_VOCABULARY.num_units)]
    while len(units) < num_frames:
        units.append((units[-1] + draw.randrange(1, _VOCABULARY.num_units)) % _VOCABULARY.num_units)
    return UnitSpan.from_frames(units, rate_hz=RATE_HZ, system=SYSTEM)


class UniformModel:
    """Finds every next token equally likely: each task must measure chance.

    Text becomes its UTF-8 bytes; speech becomes `fake_units`, so that real audio needs no tokenizer.

    Args:
        modalities: what it takes.
        max_length: tokens it reads at most.
    """

    module: nn.Module | None = None
    end: int | None = EOS

    def __init__(self, modalities: Collection[Modality] = BOTH, *, max_length: int = 1 << 16) -> None:
        self.card = ModelCard(name="uniform", adapter="uniform", checkpoint="none")
        self.fingerprint = digest("harness.testing.UniformModel/1")
        self.modalities = frozenset(modalities)
        self.device = torch.device("cpu")
        self.max_length = max_length

    def prepare(self, segments: Sequence[Segment]) -> None:
        """Does nothing: reading a header is cheap."""

    def encode_prompt(self, prompt: Prompt, target: Modality) -> list[int]:
        """Start token, segments with switch tokens between modalities, and a switch to `target` where needed."""
        if not prompt:
            raise SegmentError("A prompt needs at least one segment; use encode_prior for the likelihood without one.")
        ids, modality = [START[prompt[0].modality]], prompt[0].modality
        for segment in prompt:
            ids += [] if segment.modality == modality else [SWITCH_TO[segment.modality]]
            modality = segment.modality
            ids += self.encode_continuation(segment)
        return ids if modality == target else [*ids, SWITCH_TO[target]]

    def encode_prior(self, source: Modality, target: Modality) -> list[int]:
        """Start token of `source`, then the switch to `target` if it is another."""
        return [START[source]] if source == target else [START[source], SWITCH_TO[target]]

    def encode_continuation(self, segment: Segment) -> list[int]:
        """One id per byte of text or per 40 ms of speech."""
        if segment.modality not in self.modalities:
            raise SegmentError(f"Model '{self.card.name}' takes {', '.join(sorted(self.modalities))}; got {segment}.")
        local = segment.text.encode() if isinstance(segment, Text) else _units(segment).units
        return [_VOCABULARY.offset(segment.modality) + i for i in local]

    def tokens_of(self, modality: Modality) -> Sequence[int]:
        """The ids of bytes or of units."""
        return _VOCABULARY.id_range(modality) if modality in self.modalities else ()

    def decode(self, ids: Sequence[int]) -> Prompt:
        """Segments of consecutive ids of one modality; specials are dropped."""
        known = [(modality, i) for i in ids if (modality := _VOCABULARY.modality_of(i))]
        return tuple(
            _segment(modality, [i - _VOCABULARY.offset(modality) for _, i in run])
            for modality, run in groupby(known, key=lambda pair: pair[0])
        )

    def forward(
        self, ids: Tensor, *, lengths: Tensor | None = None, past: Any = None, use_cache: bool = False
    ) -> Hidden:
        """States `(batch, time, 1)`, and as `past` all ids so far."""
        seen = _Seen.of(ids, lengths) if past is None else past.then(_Seen.of(ids, lengths))
        states = self._states(seen.ids) if past is None or seen.whole else self._states_row_by_row(seen)
        return Hidden(states[:, -ids.shape[1] :, None], seen if use_cache else None)

    def logits(self, states: Tensor) -> Tensor:
        """Zeros, `(…, vocabulary)`."""
        return torch.zeros(*states.shape[:-1], _VOCABULARY.size)

    def _states(self, ids: Tensor) -> Tensor:
        return torch.zeros(ids.shape)

    def _states_row_by_row(self, seen: _Seen) -> Tensor:
        # Padding in the middle is not part of the sequence: each row is read without it.
        states = torch.zeros(seen.ids.shape)
        for row, (ids, real) in enumerate(zip(seen.ids, seen.real, strict=True)):
            states[row, real] = self._states(ids[real][None])[0]
        return states


@dataclass(frozen=True, slots=True)
class _Seen:
    """All ids of rows so far, `(rows, time)`, and which of them are not padding."""

    ids: Tensor
    real: Tensor

    @classmethod
    def of(cls, ids: Tensor, lengths: Tensor | None) -> _Seen:
        real = torch.ones_like(ids, dtype=torch.bool)
        return cls(ids, real if lengths is None else torch.arange(ids.shape[1]) < lengths[:, None])

    @property
    def whole(self) -> bool:
        return bool(self.real.all())

    def then(self, other: _Seen) -> _Seen:
        return _Seen(torch.cat([self.ids, other.ids], 1), torch.cat([self.real, other.real], 1))

    def select(self, rows: Tensor) -> _Seen:
        return _Seen(self.ids[rows], self.real[rows])


class OracleModel(UniformModel):
    """Expects the true continuation of every prompt in `truth`, and any token alike elsewhere.

    A prompt with several true continuations expects each of them alike. The end of a true continuation expects the
    end of the sequence, so that a candidate which goes on after it is a wrong one.

    Args:
        truth: prompts with their true continuations; an empty prompt stands for the likelihood without one.
        modalities: what it takes.
    """

    def __init__(self, truth: Iterable[tuple[Prompt, Segment]], modalities: Collection[Modality] = BOTH) -> None:
        super().__init__(modalities)
        self.card = ModelCard(name="oracle", adapter="oracle", checkpoint="none")
        #: A tree of all true sequences: `(node, token)` → node, from the root 0.
        self._children: dict[tuple[int, int], int] = {}
        #: The tokens expected at a node.
        self._expected: dict[int, set[int]] = {}
        sequences = []
        for prompt, continuation in truth:
            modality = continuation.modality
            context = self.encode_prompt(prompt, modality) if prompt else self.encode_prior(modality, modality)
            sequences.append((context, self.encode_continuation(continuation)))
            self._add(*sequences[-1])
        self.fingerprint = digest(["harness.testing.OracleModel/1", sequences])

    def logits(self, states: Tensor) -> Tensor:
        """Large at expected tokens, else 0; `(…, vocabulary)`."""
        out = torch.zeros(*states.shape[:-1], _VOCABULARY.size)
        for row, node in zip(out.view(-1, _VOCABULARY.size), states.flatten().tolist(), strict=True):
            row[list(self._expected.get(int(node), ()))] = _SURE
        return out

    def _add(self, context: Sequence[int], continuation: Sequence[int]) -> None:
        node = 0
        for place, token in enumerate([*context, *continuation, EOS]):
            if place >= len(context):
                self._expected.setdefault(node, set()).add(token)
            node = self._children.setdefault((node, token), len(self._children) + 1)

    def _states(self, ids: Tensor) -> Tensor:
        return torch.tensor([self._walk(row) for row in ids.tolist()], dtype=torch.float32)

    def _walk(self, ids: Sequence[int]) -> list[int]:
        node, path = 0, []
        for token in ids:
            node = self._children.get((node, token), -1)
            path.append(node)
        return path


def _units(segment: Speech) -> UnitSpan:
    if segment.units is None:
        if segment.audio is None:
            raise SegmentError("Speech has neither audio nor units.")
        return fake_units(segment.audio.path).cut(segment.audio.start_s, segment.audio.end_s)
    if segment.units.system != SYSTEM:
        raise UnitSystemError(f"Units of system {segment.units.system} were given to a model of system {SYSTEM}.")
    return segment.units


def _segment(modality: Modality, local: Sequence[int]) -> Segment:
    if modality == "text":
        return Text(bytes(local).decode(errors="replace"))
    return Speech(units=UnitSpan.from_frames(list(local), rate_hz=RATE_HZ, system=SYSTEM))
