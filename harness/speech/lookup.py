"""Audio for units by looking up where real speech has the same units: a concatenation of cuttings, no vocoder.

Units are deduplicated, as models make them; each cutting brings the durations it had where it was spoken. What is heard
shows what a model said, in somebody else's words: it says nothing of how natural a model sounds.
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

from harness.errors import InputError, UnitSystemError
from harness.segments import AudioSpan, UnitSpan
from harness.speech.audio import load_audio
from harness.speech.units import unit_to_char

Wave = NDArray[np.float32]

#: Neighboring cuttings fade into each other for so long; no frame of any extractor is shorter.
_FADE_S = 0.01
#: Stands between utterances, in no unit's place.
_GAP = "\n"


@dataclass(frozen=True, slots=True)
class Cutting:
    """Frames `[first, last)` of a recording."""

    path: Path
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Sound:
    """What was put together: mono samples, of how many cuttings, and how many units no recording holds."""

    wave: Wave
    sample_rate: int
    num_cuttings: int
    num_missing: int

    def flac(self) -> bytes:
        """A FLAC file of 16 bits; the same sound is the same bytes."""
        out = io.BytesIO()
        sf.write(out, self.wave, self.sample_rate, format="FLAC", subtype="PCM_16")
        return out.getvalue()


class UnitLookup:
    """Units of recordings by where they are spoken.

    Args:
        recordings: units of whole audio files, all of one unit system; best of one speaker. The first of equally long
            matches is taken, in this order.
        sample_rate: of the sounds made, in Hz.

    Raises:
        InputError: if there is nothing to look up in.
        UnitSystemError: if the recordings' units are of several systems.
    """

    def __init__(self, recordings: Mapping[Path, UnitSpan], *, sample_rate: int) -> None:
        if not recordings:
            raise InputError("Units cannot be looked up in no recordings.")
        self._paths, spans = list(recordings), list(recordings.values())
        self.sample_rate, self.rate_hz, self.system = sample_rate, spans[0].rate_hz, spans[0].system
        for span in spans:
            self._check(span)
        texts = [_text(span.units) for span in spans]
        self._text = _GAP.join(texts)
        self._starts = list(accumulate((len(text) + 1 for text in texts[:-1]), initial=0))
        self._frames = [list(accumulate(span.durations, initial=0)) for span in spans]
        self._waves: dict[Path, Wave] = {}

    def cuttings(self, units: Sequence[int]) -> tuple[list[Cutting], int]:
        """As few cuttings as spell the units, and how many units no recording holds.

        The longest match at each place is taken, which gives the fewest cuttings: what is left of a match is one too.
        """
        text, found, missing, at = _text(units), [], 0, 0
        while at < len(text):
            place, length = self._longest(text, at)
            if length:
                found.append(self._cutting(place, length))
            else:
                missing += 1
            at += max(1, length)
        return found, missing

    def sound(self, span: UnitSpan) -> Sound | None:
        """The units of a span as they were spoken elsewhere; None where no recording holds any of them.

        Raises:
            UnitSystemError: if the units are of another system.
        """
        self._check(span)
        cuttings, missing = self.cuttings(span.units)
        if not cuttings:
            return None
        wave = _joined([self._samples(c) for c in cuttings], 2 * self._half_fade)
        return Sound(wave, self.sample_rate, len(cuttings), missing)

    @property
    def _half_fade(self) -> int:
        return round(_FADE_S * self.sample_rate / 2)

    def _check(self, span: UnitSpan) -> None:
        if span.system != self.system:
            raise UnitSystemError(f"Units of system {span.system} cannot be looked up among those of {self.system}.")

    def _longest(self, text: str, at: int) -> tuple[int, int]:
        place = length = 0
        while at + length < len(text):
            # A longer match begins no earlier than the first shorter one.
            longer = self._text.find(text[at : at + length + 1], place)
            if longer < 0:
                break
            place, length = longer, length + 1
        return place, length

    def _cutting(self, place: int, length: int) -> Cutting:
        which = bisect_right(self._starts, place) - 1
        first, frames = place - self._starts[which], self._frames[which]
        return Cutting(self._paths[which], frames[first], frames[first + length])

    def _samples(self, cutting: Cutting) -> Wave:
        """The cutting's samples and half a fade on either side; silence where the recording has none.

        It begins and ends midway between the centers of frames, as spans of units do.
        """
        if cutting.path not in self._waves:
            self._waves[cutting.path] = load_audio(AudioSpan(cutting.path), self.sample_rate).numpy()
        wave, half = self._waves[cutting.path], self._half_fade
        first, last = (round(frame * self.sample_rate / self.rate_hz) for frame in (cutting.first, cutting.last))
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
