"""A corpus as distributed: reads what its folders state of each utterance, and writes manifests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.corpora.alignments import Alignments, fit_words
from harness.corpora.content import SECONDS_TOLERANCE, read_header
from harness.corpora.corpus import Prepared
from harness.corpora.manifest import KEYS, Entity, Utterance, Word, iter_manifest, write_manifest
from harness.errors import CorpusError

#: The manifest of an excerpt, beside its audio.
EXCERPT = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a distribution states of one utterance, before its audio is read.

    `audio` is relative to the corpus root; `text` is as distributed; `words` and `seconds` where the distribution
    itself states them; `entities` count their characters in the normalized text.
    """

    id: str
    audio: str
    text: str
    speaker: str
    split: str
    words: Sequence[Word] | None = None
    seconds: float | None = None
    sentiment: str | None = None
    entities: tuple[Entity, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How one corpus's entries become manifest lines.

    `normalize` turns a distributed transcript into the manifest's text; `official` holds the number of utterances
    of each split in the full distribution.
    """

    normalize: Callable[[str], str]
    official: Mapping[str, int]


def read_excerpt(root: Path, split_of: Callable[[Utterance], str]) -> list[Entry]:
    """The entries of an excerpt: `manifest.jsonl` beside the audio, in our format but for keys of its own.

    Args:
        root: the folder of `manifest.jsonl`, which its audio paths are relative to.
        split_of: the split of an utterance; where the line states none, its `split` is "none".

    Raises:
        ManifestError: naming file and line of the first that breaks the format.
        CorpusError: the same, if `split_of` refuses an utterance.
    """
    path = root / EXCERPT
    entries = []
    for number, found in iter_manifest(path, adapt=_known_keys):
        try:
            split = split_of(found)
        except CorpusError as error:
            raise CorpusError(f"{path}:{number}: {error}") from None
        entries.append(Entry(found.id, found.audio, found.text, found.speaker, split, found.words, found.seconds))
    return entries


def _known_keys(line: dict[str, Any]) -> dict[str, Any]:
    return {"split": "none"} | {key: value for key, value in line.items() if key in KEYS}


def choose_splits(
    entries: Mapping[str, Sequence[Entry]], wanted: Sequence[str], where: Path
) -> dict[str, Sequence[Entry]]:
    """The wanted splits, or all that hold utterances when none are named.

    Raises:
        CorpusError: if a wanted split holds none.
    """
    there = {split: found for split, found in entries.items() if found}
    if absent := [split for split in wanted if split not in there]:
        raise CorpusError(f"{where} holds no utterance of {', '.join(absent)}; it holds: {', '.join(there) or 'none'}.")
    return {split: there[split] for split in wanted or there}


def write_splits(
    out: Path,
    root: Path,
    splits: Mapping[str, Sequence[Entry]],
    *,
    rules: Rules,
    alignments: Alignments,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> Prepared:
    """Writes `out/<split>.jsonl` for each split, after checking that every audio file of all of them is there.

    Args:
        out: the folder of the manifests.
        root: the folder that audio paths are relative to.
        splits: the entries of each split.
        rules: the corpus's own.
        alignments: word times for entries that state none.
        notes: what the adapter already noticed about a split.

    Raises:
        CorpusError: if audio files are absent.
        AudioError: if one cannot be read.
    """
    for split, entries in splits.items():
        check_present(root, split, entries)
    all_notes: dict[str, tuple[str, ...]] = {}
    for split, entries in splits.items():
        utterances, found = _build(root, entries, rules, alignments)
        write_manifest(out / f"{split}.jsonl", utterances)
        all_notes[split] = (*_count_note(len(utterances), rules.official[split]), *(notes or {}).get(split, ()), *found)
    return Prepared(root, all_notes)


def orphans_note(orphans: Sequence[str]) -> tuple[str, ...]:
    """The note on audio files that no transcript lists."""
    if not orphans:
        return ()
    return (f"left out {len(orphans)} audio files that no transcript lists: {first_few(orphans)}",)


def first_few(names: Sequence[str], count: int = 3) -> str:
    """The first names of a long list, for a message."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def check_present(root: Path, split: str, entries: Sequence[Entry]) -> None:
    """Refuses entries whose audio is not there.

    Raises:
        CorpusError: with the number of absent files, and the first of them.
    """
    absent = [entry.audio for entry in entries if not (root / entry.audio).is_file()]
    if absent:
        raise CorpusError(
            f"{split}: {len(absent)} of {len(entries)} listed audio files are absent under {root}: "
            f"{first_few(absent)}. Unpack the archive again."
        )


def _build(
    root: Path, entries: Sequence[Entry], rules: Rules, alignments: Alignments
) -> tuple[list[Utterance], tuple[str, ...]]:
    utterances, unfit = [], []
    for entry in sorted(entries, key=lambda e: e.id):
        rate, seconds = read_header(root / entry.audio)
        if entry.seconds is not None and abs(entry.seconds - seconds) > SECONDS_TOLERANCE:
            raise CorpusError(
                f"{root / entry.audio} lasts {seconds:.3f} s, but '{entry.id}' is listed with {entry.seconds} s; "
                "is it another recording?"
            )
        text = rules.normalize(entry.text)
        aligned = entry.words if entry.words is not None else alignments.words(entry.id)
        words = None if aligned is None else fit_words(aligned, text, seconds=seconds, normalize=rules.normalize)
        if aligned is not None and words is None:
            unfit.append(entry.id)
        found = Utterance(entry.id, entry.audio, rate, seconds, text, entry.speaker, entry.split, words)
        utterances.append(replace(found, sentiment=entry.sentiment, entities=entry.entities))
    return utterances, _word_notes(utterances, unfit)


def _count_note(found: int, official: int) -> tuple[str, ...]:
    return () if found == official else (f"{found} of {official} utterances",)


def _word_notes(utterances: Sequence[Utterance], unfit: Sequence[str]) -> tuple[str, ...]:
    timed = sum(u.words is not None for u in utterances)
    notes = [] if timed == len(utterances) else [f"word times for {timed} of {len(utterances)} utterances"]
    if unfit:
        notes.append(
            f"left out the word times of {len(unfit)} utterances, whose alignment does not fit transcript and audio: "
            f"{first_few(unfit)}"
        )
    return tuple(notes)
