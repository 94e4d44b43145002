"""Audio for units by unit selection: segments of recordings that have the same units, concatenated. No vocoder.

Units are deduplicated, as models make them; each segment has the durations of its recording. The audio shows which
units a model generated, and says nothing of how natural a model sounds.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from harness.errors import SampleError, UnitSystemError
from harness.segments import AudioSpan, UnitSpan
from harness.speech.audio import load_audio
from harness.speech.units import unit_to_char

Wave = NDArray[np.float32]

#: Length of the cross-fade between neighboring segments; no frame of any extractor is shorter.
_FADE_S = 0.01
#: Separates utterances; stands for no unit.
_GAP = "\n"


@dataclass(frozen=True, slots=True)
class UnitSegment:
    """Frames of a recording.

    Attributes:
        path: of the recording.
        first: index of the first frame.
        last: index after the last frame.
    """

    path: Path
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Sound:
    """Concatenated segments.

    Attributes:
        wave: mono samples, float32 in [-1, 1].
        sample_rate: Hz.
        num_segments: number of segments.
        num_missing: units that no recording holds, which are left out.
    """

    wave: Wave
    sample_rate: int
    num_segments: int
    num_missing: int

    def flac(self) -> bytes:
        """A FLAC file of 16 bits; the same sound gives the same bytes."""
        out = io.BytesIO()
        sf.write(out, self.wave, self.sample_rate, format="FLAC", subtype="PCM_16")
        return out.getvalue()


class UnitLookup:
    """Finds units in recordings.

    Args:
        recordings: units of whole audio files, all of one unit system, preferably of one speaker. Of equally long
            matches the first in this order is taken.
        sample_rate: of the sounds made, in Hz.

    Raises:
        SampleError: if there are no recordings.
        UnitSystemError: if the recordings' units are of several systems.
    """

    def __init__(self, recordings: Mapping[Path, UnitSpan], *, sample_rate: int) -> None:
        if not recordings:
            raise SampleError("Units cannot be looked up: there are no recordings.")
        self._paths, spans = list(recordings), list(recordings.values())
        self.sample_rate, self.rate_hz, self.system = sample_rate, spans[0].rate_hz, spans[0].system
        for span in spans:
            self._check(span)
        texts = [_text(span.units) for span in spans]
        self._text = _GAP.join(texts)
        self._starts = list(accumulate((len(text) + 1 for text in texts[:-1]), initial=0))
        self._frames = [list(accumulate(span.durations, initial=0)) for span in spans]
        self._waves: dict[Path, Wave] = {}

    def segments(self, units: Sequence[int]) -> tuple[list[UnitSegment], int]:
        """The fewest segments that spell the units, and the number of units that no recording holds.

        The longest match at each position is taken, which gives the fewest segments, since every part of a match is a
        match.
        """
        text, found, missing, at = _text(units), [], 0, 0
        while at < len(text):
            position, length = self._longest(text, at)
            if length:
                found.append(self._segment(position, length))
            else:
                missing += 1
            at += max(1, length)
        return found, missing

    def sound(self, span: UnitSpan) -> Sound | None:
        """The units of a span as recorded elsewhere; None where no recording holds any of them.

        Raises:
            UnitSystemError: if the units are of another system.
        """
        self._check(span)
        segments, missing = self.segments(span.units)
        if not segments:
            return None
        wave = _joined([self._samples(s) for s in segments], 2 * self._half_fade)
        return Sound(wave, self.sample_rate, len(segments), missing)

    @property
    def _half_fade(self) -> int:
        return round(_FADE_S * self.sample_rate / 2)

    def _check(self, span: UnitSpan) -> None:
        if span.system != self.system:
            raise UnitSystemError(f"Units of system {span.system} cannot be looked up among those of {self.system}.")

    def _longest(self, text: str, at: int) -> tuple[int, int]:
        position = length = 0
        while at + length < len(text):
            # A longer match begins no earlier than the first shorter one.
            longer = self._text.find(text[at : at + length + 1], position)
            if longer < 0:
                break
            position, length = longer, length + 1
        return position, length

    def _segment(self, position: int, length: int) -> UnitSegment:
        which = bisect_right(self._starts, position) - 1
        first, frames = position - self._starts[which], self._frames[which]
        return UnitSegment(self._paths[which], frames[first], frames[first + length])

    def _samples(self, segment: UnitSegment) -> Wave:
        """The segment's samples and half a fade on either side; silence where the recording has none.

        It begins and ends midway between the centers of frames, as spans of units do.
        """
        if segment.path not in self._waves:
            self._waves[segment.path] = load_audio(AudioSpan(segment.path), self.sample_rate).numpy()
        wave, half = self._waves[segment.path], self._half_fade
        first, last = (round(frame * self.sample_rate / self.rate_hz) for frame in (segment.first, segment.last))
        inside = wave[max(0, first - half) : last + half]
        before = max(0, half - first)
        return np.pad(inside, (before, last - first + 2 * half - before - len(inside)))


def _text(units: Sequence[int]) -> str:
    return "".join(map(unit_to_char, units))


def _joined(parts: Sequence[Wave], fade: int) -> Wave:
    """Parts one after another, each laid over the end of the one before by `fade` samples; their weights sum to 1."""
    out = np.zeros(sum(len(part) - fade for part in parts) + fade, np.float32)
    rise = ((np.arange(fade) + 0.5) / fade).astype(np.float32)
    at = 0
    for part in parts:
        shaped = part.copy()
        shaped[:fade] *= rise
        shaped[len(part) - fade :] *= rise[::-1]
        out[at : at + len(part)] += shaped
        at += len(part) - fade
    return out
