"""Reads audio files for an extractor: in batches of similar length, or a random part of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from harness.segments import AudioSpan
from harness.speech.audio import audio_info, load_audio
from harness.speech.config import TokenizerConfig
from harness.speech.features import Extractor


def audio_batches(
    paths: Sequence[Path], batch_seconds: float, sample_rate: int
) -> Iterator[tuple[list[Path], list[Tensor]]]:
    """Files of similar length with their waveforms, about `batch_seconds` at a time, the next batch read ahead."""

    def load(path: Path) -> Tensor:
        return load_audio(AudioSpan(path), sample_rate)

    groups = _group(paths, batch_seconds)
    with ThreadPoolExecutor(4) as pool:
        ahead = [[pool.submit(load, path) for path in group] for group in groups[:1]]
        for index, group in enumerate(groups):
            ready = ahead.pop()
            if index + 1 < len(groups):
                ahead.append([pool.submit(load, path) for path in groups[index + 1]])
            yield group, [future.result() for future in ready]


def _group(paths: Sequence[Path], batch_seconds: float) -> list[list[Path]]:
    """Paths sorted by length (longest first, so that memory fails early), in groups of up to `batch_seconds` padded."""
    seconds = {path: audio_info(path)[1] for path in paths}
    groups: list[list[Path]] = []
    for path in sorted(paths, key=lambda p: (-seconds[p], str(p))):
        # The group's first file is its longest: all are padded to it.
        if groups and seconds[groups[-1][0]] * (len(groups[-1]) + 1) <= batch_seconds:
            groups[-1].append(path)
        else:
            groups.append([path])
    return groups


def sample_frames(
    audio: Sequence[AudioSpan] | Sequence[Tensor], config: TokenizerConfig, extractor: Extractor, seed: int
) -> Tensor:
    """Frames of randomly drawn utterances, `config.kmeans_frames` at most; whole files, each once."""
    waves = [item for item in audio if isinstance(item, Tensor)]
    sources: list[Tensor | Path] = [*waves, *dict.fromkeys(item.path for item in audio if isinstance(item, AudioSpan))]
    random.Random(seed).shuffle(sources)
    frames: list[Tensor] = []
    missing = config.kmeans_frames
    for source in sources:
        wave = source if isinstance(source, Tensor) else load_audio(AudioSpan(source), extractor.sample_rate)
        frames.append(extractor([wave])[0][:missing])
        missing -= len(frames[-1])
        if missing <= 0:
            break
    return torch.cat(frames)
