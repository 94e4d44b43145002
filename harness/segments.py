"""Mixed-modality sequences: what tasks speak and models encode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from harness.errors import SegmentError

Modality = Literal["speech", "text"]
Direction = Literal["u2u", "u2t", "t2u", "t2t"]
DIRECTIONS: tuple[Direction, ...] = ("u2u", "u2t", "t2u", "t2t")
_LETTER: dict[str, Modality] = {"u": "speech", "t": "text"}


def modalities_of(direction: str) -> tuple[Modality, Modality]:
    """Prompt and continuation modality of a direction such as `"u2t"`.

    Raises:
        SegmentError: if the direction is not one of u2u, u2t, t2u, t2t.
    """
    if direction not in DIRECTIONS:
        raise SegmentError(f"'{direction}' is not a direction; use one of {', '.join(DIRECTIONS)}.")
    return _LETTER[direction[0]], _LETTER[direction[2]]


@dataclass(frozen=True, slots=True)
class AudioSpan:
    """The part `[start_s, end_s)` of an audio file; `end_s=None` is its end."""

    path: Path
    start_s: float = 0.0
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class UnitSpan:
    """Deduplicated speech units with the frames each lasted.

    `units` and `durations` have equal length; neighbouring units differ; durations are in frames (≥ 1) at
    `rate_hz`; `system` is the digest of extractor, layer and codebook, without which unit numbers mean nothing.
    """

    units: tuple[int, ...]
    durations: tuple[int, ...]
    rate_hz: float
    system: str

    def __post_init__(self) -> None:
        if len(self.units) != len(self.durations):
            raise SegmentError(f"{len(self.units)} units but {len(self.durations)} durations; they must pair up.")
        if any(d < 1 for d in self.durations):
            raise SegmentError("A unit lasts at least one frame; found a duration below 1.")

    @property
    def num_frames(self) -> int:
        """Number of frames before deduplication."""
        return sum(self.durations)

    @property
    def seconds(self) -> float:
        """Length in seconds, `num_frames / rate_hz`."""
        return self.num_frames / self.rate_hz

    @classmethod
    def from_frames(cls, frames: list[int], *, rate_hz: float, system: str) -> UnitSpan:
        """Deduplicates one unit per frame into runs."""
        runs = [(unit, len(list(run))) for unit, run in groupby(frames)]
        return cls(tuple(u for u, _ in runs), tuple(d for _, d in runs), rate_hz, system)

    def cut(self, start_s: float, end_s: float | None) -> UnitSpan:
        """The frames whose center `(i + 0.5) / rate_hz` lies in `[start_s, end_s)`."""
        first = max(0, self._frame_at(start_s))
        last = self.num_frames if end_s is None else self._frame_at(end_s)
        units, durations, at = [], [], 0
        for unit, duration in zip(self.units, self.durations, strict=True):
            left = min(at + duration, last) - max(at, first)
            at += duration
            if left > 0:
                units.append(unit)
                durations.append(left)
        return UnitSpan(tuple(units), tuple(durations), self.rate_hz, self.system)

    def _frame_at(self, time_s: float) -> int:
        """The first frame whose center is not before `time_s`."""
        # 0.07 s * 50 Hz is a little over 3.5: a center exactly at a bound must not slip over it.
        return math.ceil(time_s * self.rate_hz - 0.5 - 1e-9)


@dataclass(frozen=True, slots=True)
class Text:
    """Written language."""

    text: str

    @property
    def modality(self) -> Modality:
        """`"text"`."""
        return "text"


@dataclass(frozen=True, slots=True)
class Speech:
    """Spoken language, as audio, as units, or both."""

    audio: AudioSpan | None = None
    units: UnitSpan | None = None

    def __post_init__(self) -> None:
        if self.audio is None and self.units is None:
            raise SegmentError("A speech segment needs audio or units; got neither.")

    @property
    def modality(self) -> Modality:
        """`"speech"`."""
        return "speech"


Segment = Text | Speech
Prompt = tuple[Segment, ...]
