"""Frame-level speech features: what an extractor is, and how it is configured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from pydantic.dataclasses import dataclass

from harness.config import STRICT, digest
from harness.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor
    from torchaudio.pipelines import Wav2Vec2Bundle

FeatureKind = Literal[
    "mfcc",
    "hubert-base",
    "hubert-large",
    "wav2vec2-base",
    "wav2vec2-large",
    "wavlm-base",
    "wavlm-base-plus",
    "wavlm-large",
]
_BUNDLES: dict[str, str] = {
    "hubert-base": "HUBERT_BASE",
    "hubert-large": "HUBERT_LARGE",
    "wav2vec2-base": "WAV2VEC2_BASE",
    "wav2vec2-large": "WAV2VEC2_LARGE",
    "wavlm-base": "WAVLM_BASE",
    "wavlm-base-plus": "WAVLM_BASE_PLUS",
    "wavlm-large": "WAVLM_LARGE",
}
# Goes up when the same configuration would yield other numbers (here or in reading audio): units of two revisions
# must not share a system.
_REVISION = 1


@dataclass(frozen=True, config=STRICT)
class FeatureConfig:
    """Everything that decides a frame's numbers, plus where the weights lie.

    Attributes:
        kind: the extractor.
        layer: transformer layer, from 1; required for every kind but `mfcc`, which has none. HuBERT-base units are
            commonly taken from layer 6 (GSLM) or 9 (HuBERT's second iteration).
        weights: local file of the model's weights; None looks in torch's hub cache. Not part of the digest (the
            weights' own digest is).
        sample_rate: Hz; self-supervised models take 16,000 only.
        rate_hz: frames per second of `mfcc`, a divisor of its 100 Hz analysis; self-supervised models fix theirs (50).
        n_mfcc: cepstral coefficients, the zeroth (energy) included.
        n_mels: mel bands under the coefficients.
        deltas: also the first (1) and second (2) time derivatives, normalized alike.
        taper: coefficient `k` and its derivatives are weighted by `exp(-taper * k)` after normalization: the higher
            ones tell speakers and noise more than sounds. 0 weighs all alike.
        pool: `mean` averages the 10 ms frames that a frame covers, `stack` concatenates them.
        smooth: how many times each frame is averaged with its neighbors (1/4, 1/2, 1/4): longer units, less flicker.
    """

    kind: FeatureKind = "mfcc"
    layer: int | None = None
    weights: Path | None = None
    sample_rate: int = 16_000
    rate_hz: float | None = None
    n_mfcc: int = 13
    n_mels: int = 40
    deltas: Literal[0, 1, 2] = 1
    taper: float = 0.1
    pool: Literal["mean", "stack"] = "mean"
    smooth: int = 1

    def __post_init__(self) -> None:
        if self.kind == "mfcc":
            self._check_mfcc()
        else:
            self._check_ssl()

    def _check_mfcc(self) -> None:
        if self.layer is not None or self.weights is not None:
            raise ConfigError(
                "features: mfcc has neither 'layer' nor 'weights'; leave them out or choose another kind."
            )
        if self.sample_rate <= 0 or self.sample_rate % 100:
            raise ConfigError(f"features: 'sample_rate' must be a multiple of 100 for mfcc; found {self.sample_rate}.")
        rate = 25.0 if self.rate_hz is None else self.rate_hz
        if not 0 < rate <= 100 or (100 / rate) % 1:
            raise ConfigError(f"features: 'rate_hz' must divide 100 (100, 50, 25, 20, …); found {rate:g}.")
        if not 1 <= self.n_mfcc <= self.n_mels:
            raise ConfigError(f"features: need 1 <= n_mfcc <= n_mels; found {self.n_mfcc} and {self.n_mels}.")
        if not 0 <= self.taper < math.inf:
            raise ConfigError(f"features: 'taper' must be 0 or more; found {self.taper}.")
        if self.smooth < 0:
            raise ConfigError(f"features: 'smooth' must be 0 or more; found {self.smooth}.")

    def _check_ssl(self) -> None:
        num_layers = int(bundle_of(self.kind)._params["encoder_num_layers"])
        if self.layer is None or not 1 <= self.layer <= num_layers:
            raise ConfigError(f"features: {self.kind} needs 'layer' in 1..{num_layers}; found {self.layer}.")
        if self.sample_rate != 16_000 or self.rate_hz not in (None, 50):
            raise ConfigError(
                f"features: {self.kind} takes 16,000 Hz audio and makes 50 frames per second; both are fixed."
            )

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second that the extractor will make."""
        return self.rate_hz or (25.0 if self.kind == "mfcc" else 50.0)


class Extractor(Protocol):
    """Turns waveforms into frames; frame `i` stands for `[i / rate_hz, (i + 1) / rate_hz)` seconds."""

    rate_hz: float
    dim: int
    sample_rate: int
    digest: str

    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Features `(frames, dim)` on the CPU of each waveform `(samples,)`, whatever else is in the list."""
        ...


def extractor_digest(config: FeatureConfig, weights_sha256: str | None) -> str:
    """The digest of an extractor, computable without its weights at hand."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    parts: dict[str, object] = {"kind": config.kind, "sample_rate": config.sample_rate, "revision": _REVISION}
    if config.kind == "mfcc":
        keys = ("n_mfcc", "n_mels", "deltas", "taper", "pool", "smooth")
        parts |= {key: fields[key] for key in keys} | {"rate_hz": config.frame_rate_hz}
    else:
        parts |= {"layer": config.layer, "weights": weights_sha256}
    return digest(parts)


def bundle_of(kind: str) -> Wav2Vec2Bundle:
    """Torchaudio's description of a self-supervised model."""
    from torchaudio import pipelines  # slow to import, and MFCC has no need of it

    return cast("Wav2Vec2Bundle", getattr(pipelines, _BUNDLES[kind]))
