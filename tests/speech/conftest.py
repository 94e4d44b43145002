"""Short, varied, seeded audio."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from harness.speech.config import TokenizerConfig
from harness.speech.tokenizer import SpeechTokenizer


def speechlike(seconds: float, seed: int, rate: int = 16_000) -> np.ndarray:
    """A harmonic tone whose pitch, formant and loudness wander, with pauses: every codebook gets something to split."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    knots = np.linspace(0, max(seconds, 0.1), max(4, int(8 * seconds)))
    pitch = np.interp(t, knots, rng.uniform(90, 220, len(knots)))
    formant = np.interp(t, knots, rng.uniform(300, 2500, len(knots)))
    loudness = np.interp(t, knots, rng.choice([0.0, 0.5, 1.0], len(knots), p=[0.2, 0.4, 0.4]))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = np.zeros_like(t)
    for k in range(1, 25):
        wave += np.exp(-(((k * pitch - formant) / 400) ** 2)) * np.sin(k * phase)
    wave = 0.3 * loudness * wave + 0.003 * rng.standard_normal(len(t))
    return np.asarray(np.clip(wave, -0.99, 0.99), dtype=np.float32)


@pytest.fixture(scope="session")
def waves() -> list[torch.Tensor]:
    """Twelve waveforms of 0.6 to 4 seconds at 16 kHz."""
    return [torch.from_numpy(speechlike(0.6 + 0.31 * i, seed=i)) for i in range(12)]


@pytest.fixture
def audio_files(tmp_path, waves) -> list[Path]:
    """The same as FLAC files."""
    paths = []
    for i, wave in enumerate(waves):
        paths.append(tmp_path / f"{i}.flac")
        sf.write(paths[-1], wave.numpy(), 16_000)
    return paths


@pytest.fixture(scope="session")
def trained(waves) -> SpeechTokenizer:
    """A tokenizer of 12 clusters and 24 subwords, trained on the waveforms."""
    config = TokenizerConfig(n_clusters=12, subwords="bpe", vocab_size=24, kmeans_n_init=1)
    return SpeechTokenizer.train(waves, config, seed=0)
