"""Frame-level speech features: MFCCs, and the layers of self-supervised models."""

from __future__ import annotations

import dataclasses
import math
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, cast

import safetensors
import safetensors.torch
import torch
import torchaudio
from pydantic.dataclasses import dataclass
from torch import Tensor
from torchaudio.models import Wav2Vec2Model, wav2vec2_model, wavlm_model
from torchaudio.models.wav2vec2.components import ConvLayerBlock, FeatureProjection
from torchaudio.pipelines import Wav2Vec2Bundle

from harness.config import STRICT, digest, file_digest
from harness.errors import CheckpointError, ConfigError

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
        num_layers = int(_bundle(self.kind)._params["encoder_num_layers"])
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


# What torch.load raises on a file that is no checkpoint depends on the first bytes of it.
_UNPICKLING = (pickle.UnpicklingError, struct.error, RuntimeError, EOFError, LookupError, ValueError, TypeError)


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


def load_extractor(config: FeatureConfig, *, device: str = "cpu") -> Extractor:
    """The extractor a configuration describes; `mfcc` runs on the CPU whatever the device.

    Raises:
        CheckpointError: if the weights are absent, damaged or of another architecture.
    """
    return MfccExtractor(config) if config.kind == "mfcc" else load_ssl(config, device=device)


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


class SslExtractor:
    """One transformer layer of a wav2vec 2.0, HuBERT or WavLM model.

    Args:
        model: a torchaudio model.
        layer: which layer's output, from 1.
        normalize: whether the model expects waveforms of zero mean and unit variance.
        padding_is_safe: whether rows of different lengths may share a padded batch. False where the first convolution
            is normalized over time (group norm, every "base" model): padding changes its statistics, so rows share a
            batch only with rows of equal length.
        digest: the extractor's digest.
        device: where the model runs.
    """

    sample_rate = 16_000

    def __init__(
        self,
        model: Wav2Vec2Model,
        *,
        layer: int,
        normalize: bool,
        padding_is_safe: bool,
        digest: str,
        device: str = "cpu",
    ) -> None:
        blocks = cast("Sequence[ConvLayerBlock]", model.feature_extractor.conv_layers)
        strides, kernels = [block.stride for block in blocks], [block.kernel_size for block in blocks]
        self.rate_hz = self.sample_rate / math.prod(strides)
        self.digest = digest
        self._min_samples = _receptive_field(kernels, strides)
        self._layer, self._normalize, self._padding_is_safe = layer, normalize, padding_is_safe
        self._device = torch.device(device)
        self._model = model.eval().to(self._device)
        self.dim = cast("FeatureProjection", model.encoder.feature_projection).projection.out_features

    @torch.inference_mode()
    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Features `(frames, dim)` of each waveform `(samples,)`; padded frames are cut off."""
        out: dict[int, Tensor] = {}
        for rows in self._batches([len(wave) for wave in waves]):
            for row, features in zip(rows, self._run([waves[row] for row in rows]), strict=True):
                out[row] = features
        return [out[row] for row in range(len(waves))]

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        if self._padding_is_safe:
            return [list(range(len(lengths)))] if lengths else []
        groups: dict[int, list[int]] = {}
        for row, length in enumerate(lengths):
            groups.setdefault(length, []).append(row)
        return list(groups.values())

    def _run(self, waves: Sequence[Tensor]) -> list[Tensor]:
        # Audio shorter than the receptive field (one sample short after resampling, say) still has its one frame.
        rows = [self._prepare(wave) for wave in waves]
        lengths = torch.tensor([len(row) for row in rows], device=self._device)
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        equal = bool((lengths == batch.shape[1]).all())
        # cuDNN would round convolutions to 10 bits by default, and units would depend on the device.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            layers, frames = self._model.extract_features(batch, None if equal else lengths, num_layers=self._layer)
        features = layers[-1].float().cpu()
        counts = [features.shape[1]] * len(rows) if frames is None else frames.tolist()
        return [row[:count] for row, count in zip(features, counts, strict=True)]

    def _prepare(self, wave: Tensor) -> Tensor:
        wave = wave.to(self._device, torch.float32)
        if self._normalize:
            wave = torch.nn.functional.layer_norm(wave, wave.shape)
        return torch.nn.functional.pad(wave, (0, max(0, self._min_samples - len(wave))))


def load_ssl(config: FeatureConfig, *, device: str = "cpu") -> SslExtractor:
    """A self-supervised extractor with its weights; never downloads.

    Raises:
        CheckpointError: if the weights are absent (saying where they come from), damaged or of another architecture.
    """
    bundle = _bundle(config.kind)
    path = weights_path(config)
    factory = wavlm_model if bundle._model_type == "WavLM" else wav2vec2_model
    # Built without storage: the random initialization of a large model takes longer than reading its weights.
    with torch.device("meta"):
        model = factory(**bundle._params)
    try:
        model.load_state_dict(_read_state(path), assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        raise CheckpointError(
            f"{path} does not hold torchaudio's {config.kind} weights:{''.join(first) or ' ' + str(error)}"
        ) from None
    return SslExtractor(
        model,
        layer=cast(int, config.layer),
        normalize=bundle._normalize_waveform,
        # torchaudio's WavLM attention takes no padding mask.
        padding_is_safe=bundle._params["extractor_mode"] == "layer_norm" and bundle._model_type == "Wav2Vec2",
        digest=extractor_digest(config, file_digest(path)),
        device=device,
    )


def weights_path(config: FeatureConfig) -> Path:
    """Where the weights of a self-supervised kind lie: `config.weights`, else torch's hub cache.

    Raises:
        CheckpointError: if there is no such file; the message says where to get it and where to put it.
    """
    name = _bundle(config.kind)._path
    path = config.weights or Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    url = f"https://download.pytorch.org/torchaudio/models/{name}"
    raise CheckpointError(
        f"The weights of {config.kind} are not at {path}. The harness downloads nothing on its own: fetch {url} "
        f"(torchaudio's official file) and put it there as {path.name}, or set 'weights' of the features to your local "
        "copy (.pt/.pth state dict or .safetensors). 'mfcc' features need no weights."
    )


def _bundle(kind: str) -> Wav2Vec2Bundle:
    return cast(Wav2Vec2Bundle, getattr(torchaudio.pipelines, _BUNDLES[kind]))


def _receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    field, jump = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * jump
        jump *= stride
    return field


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, *_UNPICKLING) as error:
        raise CheckpointError(f"{path} cannot be read as weights (a partial download?): {error}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is not a plain state dict of tensors, as torchaudio's files are.")
    return state
