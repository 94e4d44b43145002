"""Checks and descriptions of manifests, for `harness data check` and `harness data show`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.config import file_digest
from harness.corpora.corpus import PreparedSplit, corpus_registry, prepared_splits, splits_in
from harness.corpora.distribution import SECONDS_TOLERANCE, read_header
from harness.corpora.manifest import Utterance, iter_manifest, read_manifest
from harness.errors import AudioError, CorpusError, ManifestError


def check_manifest(path: Path, root: Path | None = None) -> dict[str, Any]:
    """Validates a manifest, then every audio file's header against it; describes it as `describe_corpus` does.

    Args:
        path: the manifest.
        root: the folder that audio paths are relative to; by default the one it was prepared from, else its own.

    Raises:
        ManifestError: naming file and line of the first error: a line that breaks the format, or audio that is
            absent, unreadable, of another sample rate, or of a length that differs by more than 10 ms.
    """
    prepared = splits_in(path.parent).get(path.stem, PreparedSplit(path, path.parent))
    folder = prepared.root if root is None else root
    utterances = []
    for number, utterance in iter_manifest(path):
        _check_audio(utterance, folder, f"{path}:{number}")
        utterances.append(utterance)
    return _describe(utterances, PreparedSplit(path, folder, prepared.notes))


def describe_corpus(name: str, split: str | None = None) -> dict[str, Any]:
    """The card of a corpus, with the facts of its splits (or of one); generates and prepares nothing.

    `splits` maps each split to `{"prepared": False}` (also where an older version of the adapter prepared it) or to its
    utterances, hours, speakers, words, the shares of utterances (0 to 1) with word times, a sentiment and entities,
    and manifest, root, digest and notes. `name` may be a manifest's path.

    Raises:
        CorpusError: if the corpus has no such split.
    """
    if name.endswith(".jsonl"):
        return _describe_file(Path(name), split)
    info = corpus_registry().load(name).info
    if split is not None and split not in info.splits:
        raise CorpusError(f"Corpus '{name}' has no split '{split}'; it has: {', '.join(info.splits)}.")
    prepared = prepared_splits(info.name if ".py:" in name else name)
    on_disk = {s: place for s, place in prepared.items() if place.version == info.version}
    return {
        "name": name,
        "description": info.description,
        "license": info.license,
        "source": info.source,
        "splits": {
            s: _describe(read_manifest(on_disk[s].manifest), on_disk[s]) if s in on_disk else {"prepared": False}
            for s in (info.splits if split is None else (split,))
        },
    }


def _describe_file(path: Path, split: str | None) -> dict[str, Any]:
    found = read_manifest(path)
    there = list(dict.fromkeys(u.split for u in found))
    if split is not None and split not in there:
        raise CorpusError(f"{path} holds no utterance of split '{split}'; it holds: {', '.join(there)}.")
    place = PreparedSplit(path, path.parent)
    return {
        "name": path.stem,
        "splits": {
            s: _describe([u for u in found if u.split == s], place) for s in (there if split is None else [split])
        },
    }


def _describe(utterances: Sequence[Utterance], place: PreparedSplit) -> dict[str, Any]:
    def share(holds: Callable[[Utterance], bool]) -> float:
        return sum(map(holds, utterances)) / len(utterances)

    return {
        "prepared": True,
        "utterances": len(utterances),
        "hours": sum(u.seconds for u in utterances) / 3600,
        "speakers": len({u.speaker for u in utterances}),
        "words": sum(len(u.text.split()) for u in utterances),
        "share_with_word_times": share(lambda u: u.words is not None),
        "share_with_sentiment": share(lambda u: u.sentiment is not None),
        "share_with_entities": share(lambda u: u.entities is not None),
        "manifest": str(place.manifest),
        "root": str(place.root),
        "digest": file_digest(place.manifest),
        "notes": list(place.notes),
    }


def _check_audio(utterance: Utterance, root: Path, where: str) -> None:
    try:
        sample_rate, seconds = read_header(root / utterance.audio)
    except AudioError as error:
        raise ManifestError(f"{where}: '{utterance.id}': {error}") from None
    if sample_rate != utterance.sample_rate:
        raise ManifestError(
            f"{where}: '{utterance.id}' states {utterance.sample_rate} Hz, but {utterance.audio} has {sample_rate} Hz."
        )
    if abs(seconds - utterance.seconds) > SECONDS_TOLERANCE:
        raise ManifestError(
            f"{where}: '{utterance.id}' states {utterance.seconds} s, but {utterance.audio} lasts {seconds:.3f} s; "
            "is it another recording?"
        )
