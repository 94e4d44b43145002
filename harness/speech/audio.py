"""Audio files as mono waveforms."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.transforms import Resample

from harness.errors import AudioError
from harness.segments import AudioSpan

#: One analysis window of every extractor (400 samples at 16 kHz): shorter audio has no frame.
MIN_SECONDS = 0.025

#: Aligners and manifests round times up to their own frame; an end this far behind the file's end is its end.
END_GRACE_S = 0.05

# Lossy codecs overshoot full scale a little; integers stored as floats overshoot it by thousands.
_MAX_PEAK = 8.0


def audio_info(path: Path) -> tuple[int, float, int]:
    """Sample rate (Hz), length (seconds) and number of channels of an audio file.

    Raises:
        AudioError: if the file is absent, not readable as audio, or empty.
    """
    with _open(path) as file:
        return file.samplerate, file.frames / file.samplerate, file.channels


def load_audio(span: AudioSpan, sample_rate: int) -> Tensor:
    """The span's waveform `(samples,)`, float32 in [-1, 1], channels averaged, at `sample_rate`.

    Raises:
        AudioError: naming the file, if it is absent, unreadable, empty, shorter than 25 ms, holds NaN or infinite
            samples, or if the span lies outside of it.
    """
    with _open(span.path) as file:
        first, last = _bounds(span, file.frames, file.samplerate)
        rate = file.samplerate
        try:
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
        except sf.SoundFileError as error:
            raise AudioError(f"{span.path} is damaged and cannot be decoded: {error}") from None
    if len(samples) < last - first:
        raise AudioError(
            f"{span.path} is truncated: its header promises {last - first} samples in the span asked for, "
            f"{len(samples)} could be read."
        )
    return _resample(torch.from_numpy(_mono(samples, span.path)), rate, sample_rate).clamp(-1.0, 1.0)


def _open(path: Path) -> sf.SoundFile:
    if not path.is_file():
        raise AudioError(f"There is no audio file {path}; check the path and the corpus root.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is an empty file.")
    try:
        file = sf.SoundFile(path)
    except (sf.SoundFileError, TypeError) as error:  # TypeError: soundfile's answer to headerless ".raw"
        raise AudioError(f"{path} cannot be read as audio (WAV, FLAC, OGG, …): {error}") from None
    if file.frames == 0:
        file.close()
        raise AudioError(f"{path} holds no samples.")
    return file


def _bounds(span: AudioSpan, num_samples: int, rate: int) -> tuple[int, int]:
    seconds = num_samples / rate
    end_s = check_span(span, seconds)
    first, last = round(span.start_s * rate), min(round(end_s * rate), num_samples)
    if last - first < math.ceil(MIN_SECONDS * rate):
        what = f"{span.path} is" if (first, last) == (0, num_samples) else f"The span of {span.path} asked for is"
        length_ms = 1000 * (last - first) / rate
        raise AudioError(f"{what} {length_ms:.1f} ms long; speech features need {1000 * MIN_SECONDS:.0f} ms or more.")
    return first, last


def check_span(span: AudioSpan, seconds: float) -> float:
    """The span's end in seconds, clipped to an audio of length `seconds`.

    Raises:
        AudioError: if the span is empty or lies outside the audio.
    """
    end_s = seconds if span.end_s is None else span.end_s
    if not (0 <= span.start_s < end_s and span.start_s < seconds and end_s <= seconds + END_GRACE_S):
        hint = " (milliseconds? times are in seconds)" if end_s > 20 * seconds else ""
        raise AudioError(
            f"{span.path}: the span {span.start_s:g}-{end_s:g} s does not lie inside an audio of {seconds:g} s{hint}."
        )
    return min(end_s, seconds)


def _mono(samples: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).sum())
        raise AudioError(f"{path} holds {bad} NaN or infinite samples; repair or drop the file.")
    peak = float(np.abs(samples).max())
    if peak > _MAX_PEAK:
        raise AudioError(f"{path} reaches an amplitude of {peak:g}; expected [-1, 1] (integers stored as floats?).")
    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    return mono


def _resample(wave: Tensor, source_hz: int, target_hz: int) -> Tensor:
    if source_hz == target_hz:
        return wave
    resampled: Tensor = _resampler(source_hz, target_hz)(wave)
    return resampled


@functools.lru_cache(maxsize=16)
def _resampler(source_hz: int, target_hz: int) -> Resample:
    # Cached because building the filter costs more than applying it to a short utterance.
    return Resample(source_hz, target_hz)
