"""Layers of self-supervised models: wav2vec 2.0, HuBERT, WavLM."""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torchaudio.models import Wav2Vec2Model, wav2vec2_model, wavlm_model
from torchaudio.models.wav2vec2.components import ConvLayerBlock, FeatureProjection

from harness.config import file_digest
from harness.errors import CheckpointError
from harness.speech.features import FeatureConfig, bundle_of, extractor_digest

# What torch.load raises on a file that is not a checkpoint depends on its first bytes.
_UNPICKLING = (pickle.UnpicklingError, struct.error, RuntimeError, EOFError, LookupError, ValueError, TypeError)


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
    source = bundle_of(config.kind)
    path = weights_path(config)
    factory = wavlm_model if source._model_type == "WavLM" else wav2vec2_model
    # Built without storage: the random initialization of a large model takes longer than reading its weights.
    with torch.device("meta"):
        model = factory(**source._params)
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
        normalize=source._normalize_waveform,
        # torchaudio's WavLM attention takes no padding mask.
        padding_is_safe=source._params["extractor_mode"] == "layer_norm" and source._model_type == "Wav2Vec2",
        digest=extractor_digest(config, file_digest(path)),
        device=device,
    )


def weights_path(config: FeatureConfig) -> Path:
    """Where the weights of a self-supervised kind lie: `config.weights`, else torch's hub cache.

    Raises:
        CheckpointError: if there is no such file; the message says where to get it and where to put it.
    """
    name = bundle_of(config.kind)._path
    path = config.weights or Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    url = f"https://download.pytorch.org/torchaudio/models/{name}"
    raise CheckpointError(
        f"The weights of {config.kind} are not at {path}. The harness downloads nothing on its own: fetch {url} "
        f"(torchaudio's official file) and put it there as {path.name}, or set 'weights' of the features to your local "
        "copy (.pt/.pth state dict or .safetensors). 'mfcc' features need no weights."
    )


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
