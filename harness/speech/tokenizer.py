"""The speech tokenizer: features, codebook and unit subwords that belong together."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from harness.config import STRICT, build, digest, file_digest, plain
from harness.corpora.corpus import open_corpus
from harness.errors import CheckpointError, ConfigError, InputError, UnitSystemError
from harness.segments import AudioSpan, UnitSpan
from harness.speech.audio import audio_info, check_span, load_audio
from harness.speech.cache import UnitCache
from harness.speech.features import Extractor, FeatureConfig, extractor_digest, load_extractor, weights_path
from harness.speech.kmeans import assign, centroids_digest, load_centroids, save_centroids, train_kmeans
from harness.speech.units import SubwordKind, UnitSubwords

#: Called with (audio files done, audio files in all).
Progress = Callable[[int, int], None]

_FORMAT = 1
_DIGEST_LENGTH = 16
_PACKAGES = ("torch", "torchaudio", "scikit-learn", "sentencepiece", "soundfile", "numpy")


@dataclass(frozen=True, config=STRICT)
class TokenizerConfig:
    """What a speech tokenizer is trained with.

    Attributes:
        features: the extractor.
        n_clusters: units in the codebook.
        subwords: SentencePiece model over deduplicated units, or `none`: each unit is its own subword.
        vocab_size: number of unit subwords; ignored by `none`.
        max_piece_units: longest subword, in units.
        kmeans_frames: frames that k-means sees at most; utterances are drawn at random until they are reached.
        kmeans_n_init: random initializations tried (fairseq's HuBERT recipe: 20).
        kmeans_batch_frames: frames per mini-batch (fairseq: 10,000).
    """

    features: FeatureConfig = field(default_factory=FeatureConfig)
    n_clusters: int = 100
    subwords: SubwordKind = "unigram"
    vocab_size: int | None = 1000
    max_piece_units: int = 16
    kmeans_frames: int = 500_000
    kmeans_n_init: int = 5
    kmeans_batch_frames: int = 10_000

    def __post_init__(self) -> None:
        if self.n_clusters < 2:
            raise ConfigError(f"tokenizer: 'n_clusters' must be at least 2; found {self.n_clusters}.")
        for name in ("max_piece_units", "kmeans_n_init", "kmeans_batch_frames"):
            if getattr(self, name) < 1:
                raise ConfigError(f"tokenizer: '{name}' must be at least 1; found {getattr(self, name)}.")
        if self.kmeans_frames < self.n_clusters:
            raise ConfigError(
                f"tokenizer: 'kmeans_frames' ({self.kmeans_frames}) must reach 'n_clusters' ({self.n_clusters})."
            )
        if self.subwords != "none" and (self.vocab_size is None or self.vocab_size < self.n_clusters):
            raise ConfigError(
                f"tokenizer: every unit is a subword, so 'vocab_size' ({self.vocab_size}) must reach 'n_clusters' "
                f"({self.n_clusters})."
            )


@dataclass(frozen=True)
class EncodeStats:
    """What one call of `SpeechTokenizer.encode` did.

    Attributes:
        num_files: distinct audio files asked for.
        num_cached: how many of them needed no computing: in the cache, or copies of another.
        audio_s: seconds of audio that were computed, the cached ones left out.
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
        extractor = extractor_digest(config.features, weights_sha256)
        self.system = _short({"extractor": extractor, "centroids": centroids_digest(centroids)})
        self.digest = _short({"system": self.system, "subwords": subwords.digest})
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
        progress: Progress | None = None,
    ) -> SpeechTokenizer:
        """A tokenizer learned from speech: the codebook from a random part of it, the subwords from all of it.

        Args:
            audio: files (units of whole files, spans cut from them), or waveforms at the extractor's sample rate.
            config: what to train.
            seed: of the draw of utterances and of k-means.
            device: where a self-supervised extractor runs.
            progress: called with files done and files in all.

        Raises:
            InputError: if there is too little speech for the codebook or for the subwords.
            AudioError: if a file cannot be used.
        """
        if not audio:
            raise InputError("A speech tokenizer cannot be trained on no audio.")
        extractor = load_extractor(config.features, device=device)
        centroids = train_kmeans(
            _sample_frames(audio, config, extractor, seed),
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
        progress: Progress | None = None,
        report: Callable[[EncodeStats], None] | None = None,
    ) -> list[UnitSpan]:
        """Units of audio spans: those of each whole file, computed once, then cut.

        Args:
            spans: parts of files, in any order, files repeated or not.
            batch_seconds: audio per batch; a longer file is a batch of its own. Moves no unit.
            device: where a self-supervised extractor runs.
            cache: whether to read and write the cache under `$HARNESS_HOME/cache/units/<system>`.
            progress: called with files done and files in all.
            report: called once at the end.

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
        for batch, waves in _batches(todo, batch_seconds, self.config.features.sample_rate):
            fresh = dict(zip([digests[path] for path in batch], self.encode_waves(waves, device=device), strict=True))
            if store:
                store.put(fresh)
            known |= fresh
            audio_s += sum(map(len, waves)) / self.config.features.sample_rate
            num_done += len(batch)
            if progress:
                progress(num_done, len(paths))
        out = [_cut(span, known[digests[span.path]]) for span in spans]
        if report:
            report(EncodeStats(len(paths), num_cached, audio_s, time.perf_counter() - start))
        return out

    def save(self, folder: Path, *, trained_on: Mapping[str, Any] | None = None) -> None:
        """Writes `tokenizer.json`, `centroids.safetensors` and, unless subwords are `none`, `units.model`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_centroids(self.centroids, folder / "centroids.safetensors")
        self._subwords.save(folder / "units.model")
        record = {
            "format": _FORMAT,
            "config": plain(self.config),
            "rate_hz": self.rate_hz,
            "vocab_size": self.vocab_size,
            "system": self.system,
            "digest": self.digest,
            "digests": {
                "weights": self.weights_sha256,
                "extractor": extractor_digest(self.config.features, self.weights_sha256),
                "centroids": centroids_digest(self.centroids),
                "subwords": self._subwords.digest,
            },
            "trained_on": plain(dict(trained_on or {})),
            "versions": {package: version(package) for package in _PACKAGES},
        }
        # Written last: a folder with this file is whole.
        part = folder / "tokenizer.json.part"
        part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
        part.replace(folder / "tokenizer.json")

    @classmethod
    def load(cls, folder: Path, *, weights: Path | None = None) -> SpeechTokenizer:
        """The tokenizer saved in a folder; the extractor's weights are looked for when audio is first encoded.

        Args:
            folder: as written by `save`.
            weights: where the extractor's weights lie on this machine, if not where they lay when training.

        Raises:
            CheckpointError: if a file is absent, of another format, or altered since it was saved.
        """
        record = _read_record(folder)
        settings = dict(record["config"])
        if weights is not None:
            settings["features"] = {**settings["features"], "weights": weights}
        config = build(TokenizerConfig, settings, where=str(folder / "tokenizer.json"))
        model = None if config.subwords == "none" else folder / "units.model"
        tokenizer = cls(
            config,
            load_centroids(folder / "centroids.safetensors"),
            UnitSubwords.load(model, n_units=config.n_clusters),
            weights_sha256=record["digests"]["weights"],
        )
        found = {
            "extractor": extractor_digest(config.features, tokenizer.weights_sha256),
            "centroids": centroids_digest(tokenizer.centroids),
            "subwords": tokenizer._subwords.digest,
        }
        for part, value in found.items():
            if value != record["digests"][part]:
                raise CheckpointError(
                    f"The tokenizer {folder} was altered: its {part} have the digest {value[:16]}, tokenizer.json says "
                    f"{record['digests'][part][:16]}. Models trained with it would get wrong units; restore the folder."
                )
        return tokenizer

    def _extractor(self, device: str) -> Extractor:
        if device not in self._extractors:
            extractor = load_extractor(self.config.features, device=device)
            if extractor.digest != extractor_digest(self.config.features, self.weights_sha256):
                raise CheckpointError(
                    f"{weights_path(self.config.features)} is not the {self.config.features.kind} that this tokenizer "
                    f"was trained with (SHA-256 {self.weights_sha256}); its units would be others."
                )
            self._extractors[device] = extractor
        return self._extractors[device]


def train_tokenizer(
    corpus_name: str,
    split: str,
    config: TokenizerConfig,
    out_folder: Path,
    *,
    seed: int,
    limit: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains a tokenizer on a corpus split, saves it, and returns a summary.

    Args:
        corpus_name: a corpus, or a manifest by path.
        split: its split.
        config: what to train.
        out_folder: where the tokenizer goes.
        seed: of every draw.
        limit: train on this many utterances, drawn at random; None takes all.
        device: where a self-supervised extractor runs.
        progress: called with files done and files in all.
    """
    start = time.perf_counter()
    corpus = open_corpus(corpus_name, split)
    utterances = corpus.utterances
    if limit is not None and limit < len(utterances):
        chosen = set(random.Random(seed).sample([u.id for u in utterances], limit))
        utterances = tuple(u for u in utterances if u.id in chosen)
    audio = [AudioSpan(corpus.audio_path(u)) for u in utterances]
    tokenizer = SpeechTokenizer.train(audio, config, seed, device=device, progress=progress)
    spans = tokenizer.encode(audio, device=device)
    seconds, num_units = sum(s.seconds for s in spans), sum(len(s.units) for s in spans)
    trained_on = {
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        "split": split,
        "num_utterances": len(utterances),
        "audio_s": round(seconds, 3),
        "seed": seed,
    }
    tokenizer.save(out_folder, trained_on=trained_on)
    return {
        **describe(out_folder),
        "units_seen": len({unit for span in spans for unit in span.units}),
        "units_per_s": num_units / seconds,
        "subwords_per_s": sum(len(tokenizer.subwords(span)) for span in spans) / seconds,
        "times_real_time": seconds / (time.perf_counter() - start),
    }


def describe(folder: Path) -> dict[str, Any]:
    """What a tokenizer folder holds, from its `tokenizer.json` alone.

    Raises:
        CheckpointError: if the folder holds no tokenizer.
    """
    record = _read_record(folder)
    config = record["config"]
    return {
        "folder": str(folder),
        "system": record["system"],
        "digest": record["digest"],
        "features": config["features"]["kind"],
        "layer": config["features"]["layer"],
        "rate_hz": record["rate_hz"],
        "n_clusters": config["n_clusters"],
        "subwords": config["subwords"],
        "vocab_size": record["vocab_size"],
        "trained_on": record["trained_on"],
        "versions": record["versions"],
    }


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is no speech tokenizer: it has no tokenizer.json. Make one with 'harness tokenizer'."
        )
    try:
        record = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not of the tokenizer format {_FORMAT}; it was made by another version.")
    if missing := {"config", "rate_hz", "vocab_size", "system", "digest", "digests"} - set(record):
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}; restore it or train the tokenizer again.")
    return record


def _sample_frames(
    audio: Sequence[AudioSpan] | Sequence[Tensor], config: TokenizerConfig, extractor: Extractor, seed: int
) -> Tensor:
    """Frames of randomly drawn utterances, `config.kmeans_frames` at most; whole files, each once."""
    waves = [item for item in audio if isinstance(item, Tensor)]
    sources: list[Tensor | Path] = [*waves, *dict.fromkeys(item.path for item in audio if isinstance(item, AudioSpan))]
    random.Random(seed).shuffle(sources)
    kept: list[Tensor] = []
    missing = config.kmeans_frames
    for source in sources:
        wave = source if isinstance(source, Tensor) else load_audio(AudioSpan(source), extractor.sample_rate)
        kept.append(extractor([wave])[0][:missing])
        missing -= len(kept[-1])
        if missing <= 0:
            break
    return torch.cat(kept)


def _batches(
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


def _cut(span: AudioSpan, whole: UnitSpan) -> UnitSpan:
    if span.start_s == 0 and span.end_s is None:
        return whole
    # Frames may end up to one receptive field before the audio does.
    check_span(span, whole.seconds + 1 / whole.rate_hz)
    cut = whole.cut(span.start_s, span.end_s)
    if not cut.units:
        raise InputError(
            f"{span.path}: the span {span.start_s:g}-{span.end_s} s holds the center of no frame; a frame lasts "
            f"{1 / whole.rate_hz:g} s."
        )
    return cut


def _audio_digest(path: Path) -> str:
    audio_info(path)  # The clear errors: absent, empty, not audio.
    return file_digest(path)


def _short(value: object) -> str:
    return digest(value)[:_DIGEST_LENGTH]
