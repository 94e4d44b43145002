"""The speech tokenizer: features, codebook and unit subwords that belong together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from harness.config import file_digest, plain
from harness.errors import CheckpointError, SegmentError, TokenizerError, UnitSystemError
from harness.files import write_json
from harness.progress import ProgressCallback
from harness.segments import AudioSpan, UnitSpan
from harness.speech.audio import audio_info, check_span
from harness.speech.cache import UnitCache
from harness.speech.codebook import save_centroids
from harness.speech.config import TokenizerConfig
from harness.speech.extractor import load_extractor
from harness.speech.features import Extractor, extractor_digest
from harness.speech.kmeans import assign, train_kmeans
from harness.speech.parts import TokenizerParts
from harness.speech.reading import audio_batches, sample_frames
from harness.speech.record import FORMAT
from harness.speech.self_supervised import weights_path
from harness.speech.units import UnitSubwords

_PACKAGES = ("torch", "torchaudio", "scikit-learn", "sentencepiece", "soundfile", "numpy")


@dataclass(frozen=True)
class EncodeStats:
    """What one call of `SpeechTokenizer.encode` computed.

    Attributes:
        num_files: distinct audio files.
        num_cached: how many of them needed no computing: in the cache, or copies of another.
        audio_s: seconds of audio that were computed, cached files excluded.
        wall_s: seconds the whole call took.
    """

    num_files: int
    num_cached: int
    audio_s: float
    wall_s: float

    @property
    def times_real_time(self) -> float:
        """Seconds of audio computed per second, 0 where all came from the cache."""
        return self.audio_s / self.wall_s


class SpeechTokenizer:
    """Audio to units to subwords and back to units.

    Args:
        config: what it was trained with.
        centroids: the codebook, `(n_clusters, dim)`.
        subwords: pieces over the units.
        weights_sha256: digest of the extractor's weights; None for `mfcc`.

    Attributes:
        system: digest of extractor, layer and codebook, 16 hexadecimal characters; units of another system mean
            something else.
        digest: of the system and the subwords, 16 hexadecimal characters.
        rate_hz: frames per second.
    """

    def __init__(
        self, config: TokenizerConfig, centroids: Tensor, subwords: UnitSubwords, *, weights_sha256: str | None = None
    ) -> None:
        self.config = config
        self.centroids = centroids
        self._subwords = subwords
        self.weights_sha256 = weights_sha256
        parts = TokenizerParts(config, centroids.detach().cpu().numpy(), subwords, weights_sha256)
        self.system, self.digest, self._digests = parts.system, parts.digest, parts.digests
        self.rate_hz = config.features.frame_rate_hz
        self._extractors: dict[str, Extractor] = {}

    @classmethod
    def train(
        cls,
        audio: Sequence[AudioSpan] | Sequence[Tensor],
        config: TokenizerConfig,
        seed: int,
        *,
        device: str = "cpu",
        progress: ProgressCallback | None = None,
    ) -> SpeechTokenizer:
        """A tokenizer learned from speech: the codebook from a random part of it, the subwords from all of it.

        Args:
            audio: files (units of whole files, spans cut from them), or waveforms at the extractor's sample rate.
            config: what to train.
            seed: of the draw of utterances and of k-means.
            device: where a self-supervised extractor runs.
            progress: called with the number of audio files done.

        Raises:
            TokenizerError: if there is too little speech for the codebook or for the subwords.
            AudioError: if a file cannot be used.
        """
        if not audio:
            raise TokenizerError("A speech tokenizer cannot be trained on no audio.")
        extractor = load_extractor(config.features, device=device)
        centroids = train_kmeans(
            sample_frames(audio, config, extractor, seed),
            config.n_clusters,
            seed,
            n_init=config.kmeans_n_init,
            batch_frames=config.kmeans_batch_frames,
        )
        sha256 = None if config.features.kind == "mfcc" else file_digest(weights_path(config.features))
        bare = cls(config, centroids, UnitSubwords(config.n_clusters), weights_sha256=sha256)
        bare._extractors[device] = extractor
        if config.subwords == "none":
            return bare
        files = [item for item in audio if isinstance(item, AudioSpan)]
        waves = [item for item in audio if isinstance(item, Tensor)]
        spans = (
            bare.encode(files, device=device, progress=progress) if files else bare.encode_waves(waves, device=device)
        )
        subwords = UnitSubwords.train(
            [span.units for span in spans],
            n_units=config.n_clusters,
            vocab_size=config.vocab_size,
            kind=config.subwords,
            max_piece_units=config.max_piece_units,
        )
        trained = cls(config, centroids, subwords, weights_sha256=sha256)
        trained._extractors[device] = extractor
        return trained

    @property
    def n_clusters(self) -> int:
        """Number of units."""
        return len(self.centroids)

    @property
    def vocab_size(self) -> int:
        """Number of unit subwords; their ids are `0 … vocab_size - 1`."""
        return self._subwords.vocab_size

    @property
    def piece_lengths(self) -> tuple[int, ...]:
        """Number of units in each subword, by id."""
        return self._subwords.piece_lengths

    def subwords(self, span: UnitSpan) -> list[int]:
        """Subword ids of a span's units.

        Raises:
            UnitSystemError: if the units are of another system.
        """
        if span.system != self.system:
            raise UnitSystemError(
                f"These units are of the system {span.system}, this tokenizer's is {self.system}: unit numbers of "
                "another extractor or codebook mean other sounds. Encode the audio with this tokenizer."
            )
        return self._subwords.encode(span.units)

    def units_of(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The units that a sequence of subword ids spells."""
        return tuple(self._subwords.decode(ids))

    def encode_waves(self, waves: Sequence[Tensor], *, device: str = "cpu") -> list[UnitSpan]:
        """Units of waveforms `(samples,)` at the extractor's sample rate; neither batched nor cached.

        Raises:
            CheckpointError: if the extractor's weights are absent or are not those of the training.
        """
        features = self._extractor(device)(waves)
        # Utterance by utterance, so that no neighbor can move the last bit of a distance.
        frames = [assign(rows, self.centroids).tolist() for rows in features]
        return [UnitSpan.from_frames(units, rate_hz=self.rate_hz, system=self.system) for units in frames]

    def encode(
        self,
        spans: Sequence[AudioSpan],
        *,
        batch_seconds: float = 120.0,
        device: str = "cpu",
        cache: bool = True,
        progress: ProgressCallback | None = None,
        report: Callable[[EncodeStats], None] | None = None,
    ) -> list[UnitSpan]:
        """Units of audio spans: those of each whole file, computed once, then cut.

        Args:
            spans: parts of files, in any order, files repeated or not.
            batch_seconds: audio per batch; a longer file is a batch of its own. Has no effect on units.
            device: where a self-supervised extractor runs.
            cache: whether to read and write the cache under `$HARNESS_HOME/cache/units/<system>`.
            progress: called with the number of audio files done.
            report: called at the end.

        Raises:
            AudioError: if a file cannot be used or a span lies outside of its file.
            CheckpointError: if the extractor's weights are needed and absent, or are not those of the training.
        """
        start = time.perf_counter()
        paths = list(dict.fromkeys(span.path for span in spans))
        digests = {path: _audio_digest(path) for path in paths}
        store = UnitCache(self.system, self.rate_hz) if cache else None
        known = store.get(set(digests.values())) if store else {}
        # Copies of one recording are computed once.
        todo = list({digests[path]: path for path in paths if digests[path] not in known}.values())
        num_cached, audio_s = len(paths) - len(todo), 0.0
        num_done = num_cached
        for batch, waves in audio_batches(todo, batch_seconds, self.config.features.sample_rate):
            fresh = dict(zip([digests[path] for path in batch], self.encode_waves(waves, device=device), strict=True))
            if store:
                store.put(fresh)
            known |= fresh
            audio_s += sum(map(len, waves)) / self.config.features.sample_rate
            num_done += len(batch)
            if progress:
                progress("audio files", num_done, len(paths))
        out = [_cut(span, known[digests[span.path]]) for span in spans]
        if report:
            report(EncodeStats(len(paths), num_cached, audio_s, time.perf_counter() - start))
        return out

    def save(self, folder: Path, *, trained_on: Mapping[str, Any] | None = None) -> None:
        """Writes `tokenizer.json`, `centroids.safetensors` and, unless subwords are `none`, `units.model`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_centroids(self.centroids.detach().cpu().numpy(), folder / "centroids.safetensors")
        self._subwords.save(folder / "units.model")
        record = {
            "format": FORMAT,
            "config": plain(self.config),
            "rate_hz": self.rate_hz,
            "vocab_size": self.vocab_size,
            "system": self.system,
            "digest": self.digest,
            "digests": {"weights": self.weights_sha256, **self._digests},
            "trained_on": plain(dict(trained_on or {})),
            "versions": {package: version(package) for package in _PACKAGES},
        }
        # Written last: a folder with this file is whole.
        write_json(folder / "tokenizer.json", record)

    @classmethod
    def load(cls, folder: Path, *, weights: Path | None = None) -> SpeechTokenizer:
        """The tokenizer saved in a folder; the extractor's weights are looked for when audio is first encoded.

        Args:
            folder: as written by `save`.
            weights: path of the extractor's weights on this machine; defaults to the one used in training.

        Raises:
            CheckpointError: if a file is absent, of another format, or altered since it was saved.
        """
        parts = TokenizerParts.load(folder, weights=weights)
        centroids = torch.from_numpy(parts.centroids)
        return cls(parts.config, centroids, parts.subwords, weights_sha256=parts.weights_sha256)

    def _extractor(self, device: str) -> Extractor:
        if device not in self._extractors:
            extractor = load_extractor(self.config.features, device=device)
            if extractor.digest != extractor_digest(self.config.features, self.weights_sha256):
                raise CheckpointError(
                    f"{weights_path(self.config.features)} is not the {self.config.features.kind} that this tokenizer "
                    f"was trained with (SHA-256 {self.weights_sha256}); its units would differ."
                )
            self._extractors[device] = extractor
        return self._extractors[device]


def _cut(span: AudioSpan, whole: UnitSpan) -> UnitSpan:
    if span.start_s == 0 and span.end_s is None:
        return whole
    # Frames may end up to one receptive field before the audio does.
    check_span(span, whole.seconds + 1 / whole.rate_hz)
    cut = whole.cut(span.start_s, span.end_s)
    if not cut.units:
        raise SegmentError(
            f"{span.path}: the span {span.start_s:g}-{span.end_s} s holds the center of no frame; a frame lasts "
            f"{1 / whole.rate_hz:g} s."
        )
    return cut


def _audio_digest(path: Path) -> str:
    audio_info(path)  # The clear errors: absent, empty, not audio.
    return file_digest(path)
