"""Units already computed, on disk, keyed by unit system, by the code that computes units, and by the audio's bytes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.code import sources_digest, versions_of
from harness.config import cache_folder, digest
from harness.database import CheckedDatabase
from harness.segments import UnitSpan

#: Modules of this package that have no part in turning audio into units.
_WITHOUT_EFFECT = {"__init__", "cache", "codebook", "lookup", "parts", "record", "training", "units"}
_LIBRARIES = ("torch", "torchaudio", "transformers", "soundfile", "numpy")


class UnitCache:
    """Units of whole audio files of one unit system, safe for several processes on one machine.

    The folder is named after the system, the file after the code that computes units and the versions of its
    libraries, and the rows after the SHA-256 of the audio file: neither another codebook nor a replaced file nor edited
    code can be given old units. Rows have checksums: a damaged file is set aside with a `DamageWarning`.
    """

    def __init__(self, system: str, rate_hz: float) -> None:
        self.system, self.rate_hz = system, rate_hz
        self.path = cache_folder() / "units" / system / f"{encoding_version()[:16]}.sqlite3"
        self._database = CheckedDatabase(self.path, what="unit cache")

    def get(self, audio_digests: Iterable[str]) -> dict[str, UnitSpan]:
        """The cached units, by the SHA-256 of the audio file's bytes."""
        return {audio: self._span(value) for audio, value in self._database.get(audio_digests).items()}

    def put(self, spans: Mapping[str, UnitSpan]) -> None:
        """Adds units by the SHA-256 of their audio."""
        self._database.put({audio: _pack((*span.units, *span.durations)) for audio, span in spans.items()})

    def _span(self, value: bytes) -> UnitSpan:
        numbers = _unpack(value)
        middle = len(numbers) // 2
        return UnitSpan(numbers[:middle], numbers[middle:], self.rate_hz, self.system)


@functools.cache
def encoding_version(folder: Path = Path(__file__).parent) -> str:
    """Changes whenever the code does that turns audio into units, or a version of its libraries."""
    modules = [path for path in sorted(folder.glob("*.py")) if path.stem not in _WITHOUT_EFFECT]
    return digest([sources_digest([*modules, folder.parent / "segments.py"]), versions_of(_LIBRARIES)])


def _pack(values: Sequence[int]) -> bytes:
    return np.asarray(values, dtype="<u4").tobytes()


def _unpack(value: bytes) -> tuple[int, ...]:
    return tuple(np.frombuffer(value, dtype="<u4").tolist())
