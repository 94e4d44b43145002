"""Mel-frequency cepstra."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torchaudio
from torch import Tensor

from harness.speech.features import FeatureConfig, extractor_digest


class MfccExtractor:
    """Mel-frequency cepstra with per-utterance mean and variance normalization.

    25 ms windows every 10 ms (Davis & Mermelstein 1980; Kaldi's and fairseq's window), centered on their 10 ms, are
    pooled to `rate_hz`. An audio has as many frames as have their center inside it, at least one.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self.rate_hz = config.frame_rate_hz
        self.sample_rate = config.sample_rate
        self.digest = extractor_digest(config, None)
        self._config = config
        self._per_frame = round(100 / self.rate_hz)
        self._hop = config.sample_rate // 100
        window = config.sample_rate // 40
        self._window = torch.hann_window(window, periodic=False)
        self._fft = 1 << (window - 1).bit_length()
        self._filters = torchaudio.functional.melscale_fbanks(
            self._fft // 2 + 1, 20.0, 0.475 * config.sample_rate, config.n_mels, config.sample_rate
        )
        self._dct = torchaudio.functional.create_dct(config.n_mfcc, config.n_mels, norm="ortho")
        self._weights = torch.exp(-config.taper * torch.arange(config.n_mfcc)).repeat(1 + config.deltas)
        stacked = self._per_frame if config.pool == "stack" else 1
        self.dim = config.n_mfcc * (1 + config.deltas) * stacked

    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Features `(frames, dim)` of each waveform `(samples,)`."""
        # One at a time: it is several hundred times real time, and no utterance can touch another's numbers.
        return [self._features(wave.to("cpu", torch.float32)) for wave in waves]

    @torch.inference_mode()
    def _features(self, wave: Tensor) -> Tensor:
        cepstra = self._with_deltas(self._cepstra(wave))
        std, mean = torch.std_mean(cepstra, dim=0, correction=0)
        cepstra = (cepstra - mean) / std.clamp_min(1e-3) * self._weights
        num_frames = max(1, math.floor(len(wave) / self._hop / self._per_frame + 0.5))
        # The last frame may reach behind the end of the audio: its missing 10 ms frames repeat the last real one.
        index = torch.arange(num_frames * self._per_frame).clamp_max(len(cepstra) - 1)
        grouped = cepstra[index].view(num_frames, self._per_frame, -1)
        frames = grouped.mean(dim=1) if self._config.pool == "mean" else grouped.flatten(1)
        for _ in range(self._config.smooth):
            frames = _smooth(frames)
        return frames

    def _cepstra(self, wave: Tensor) -> Tensor:
        """`(10 ms frames, n_mfcc)`, not yet normalized."""
        wave = torch.cat([wave[:1] * 0.03, wave[1:] - 0.97 * wave[:-1]])
        window, num_frames = len(self._window), max(1, math.ceil(len(wave) / self._hop))
        left = (window - self._hop) // 2
        right = (num_frames - 1) * self._hop + window - left - len(wave)
        frames = torch.nn.functional.pad(wave, (left, right)).unfold(0, window, self._hop)
        power = torch.fft.rfft(frames * self._window, n=self._fft).abs().square()
        mel = power @ self._filters
        # 80 dB under the loudest band: digital silence would otherwise own the variance, and gain must not matter.
        floor = mel.max().clamp_min(1e-10) * 1e-8
        cepstra: Tensor = mel.clamp_min(floor.item()).log() @ self._dct
        return cepstra

    def _with_deltas(self, cepstra: Tensor) -> Tensor:
        parts = [cepstra]
        for _ in range(self._config.deltas):
            parts.append(torchaudio.functional.compute_deltas(parts[-1].T.unsqueeze(0))[0].T)
        return torch.cat(parts, dim=1)


def _smooth(frames: Tensor) -> Tensor:
    before, after = torch.cat([frames[:1], frames[:-1]]), torch.cat([frames[1:], frames[-1:]])
    return 0.25 * before + 0.5 * frames + 0.25 * after
