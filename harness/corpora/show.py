"""Checks and descriptions of manifests, for `harness data check` and `harness data show`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.corpora.content import check_header, check_inside, read_contents_anew, read_header, split_digest
from harness.corpora.corpus import PreparedSplit, corpus_registry, listing_digest, prepared_splits, splits_in
from harness.corpora.manifest import Utterance, iter_manifest, read_manifest
from harness.errors import AudioError, CorpusError, ManifestError
from harness.progress import ProgressCallback


def check_manifest(
    path: Path, root: Path | None = None, *, content: bool = False, progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """Validates a manifest, then every audio file's header against it; describes it as `describe_corpus` does.

    `digests` has the digest of each split in it. With `content`, `changed` lists the audio whose bytes are not those
    that were hashed last.

    Args:
        path: the manifest.
        root: the folder that audio paths are relative to; by default the one it was prepared from, else its own.
        content: whether every file is hashed anew, whatever its size and times say.
        progress: called with the number of files hashed.

    Raises:
        ManifestError: naming file and line of the first error: a line that breaks the format, or audio that is
            absent, unreadable, outside of the root, of another sample rate, or of a length that differs by more than
            10 ms.
    """
    prepared = splits_in(path.parent).get(path.stem, PreparedSplit(path, path.parent))
    place = PreparedSplit(path, prepared.root if root is None else root, prepared.notes)
    utterances = []
    for number, utterance in iter_manifest(path):
        _check_audio(utterance, place.root, f"{path}:{number}")
        utterances.append(utterance)
    changed = {"changed": _changed(utterances, place, progress)} if content else {}
    splits = dict.fromkeys(u.split for u in utterances)
    digests = {split: _digest([u for u in utterances if u.split == split], place, progress) for split in splits}
    return {**_describe(utterances, place), "digests": digests, **changed}


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
            s: _describe_split(read_manifest(on_disk[s].manifest), on_disk[s]) if s in on_disk else {"prepared": False}
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
            s: _describe_split([u for u in found if u.split == s], place) for s in (there if split is None else [split])
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
        "notes": list(place.notes),
    }


def _describe_split(utterances: Sequence[Utterance], place: PreparedSplit) -> dict[str, Any]:
    return {**_describe(utterances, place), "digest": _digest(utterances, place)}


def _digest(utterances: Sequence[Utterance], place: PreparedSplit, progress: ProgressCallback | None = None) -> str:
    where = str(place.manifest)
    return split_digest(listing_digest(place.manifest), place.root, utterances, where, progress=progress)


def _changed(utterances: Sequence[Utterance], place: PreparedSplit, progress: ProgressCallback | None) -> list[str]:
    names = {place.root / u.audio: u.audio for u in utterances}
    return sorted(names[path] for path in read_contents_anew(list(names), progress=progress)[1])


def _check_audio(utterance: Utterance, root: Path, where: str) -> None:
    check_inside(root, [utterance], where)
    try:
        header = read_header(root / utterance.audio)
    except AudioError as error:
        raise ManifestError(f"{where}: '{utterance.id}': {error}") from None
    check_header(utterance, header, where)
