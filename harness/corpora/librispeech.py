"""LibriSpeech: read English audiobooks, 960 h of training data (Panayotov et al., ICASSP 2015; openslr.org/12).

`--root` is one of

- the folder in which the archives were unpacked, or the `LibriSpeech` folder in it:
  `LibriSpeech/<split>/<speaker>/<chapter>/<speaker>-<chapter>-NNNN.flac` beside `<speaker>-<chapter>.trans.txt`;
- an excerpt: `manifest.jsonl` beside the audio, one line an utterance in the format of our manifests; keys of its own
  are ignored.

Text is in lower case. Word times are optional: TextGrids (`<id>.TextGrid`, as the Montreal Forced Aligner writes
them) or CTM files in a folder `alignments` or `textgrid` beneath the root, or either of them, or
`<speaker>-<chapter>.alignment.txt` of LibriSpeech-Alignments, beside the audio. An alignment whose words are not
those of the transcript (aligners drop words, or split them otherwise) is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.corpora.alignments import alignment_folders, find_alignments, numbered_lines
from harness.corpora.corpus import CorpusInfo, Prepared
from harness.corpora.distribution import (
    EXCERPT,
    Entry,
    Rules,
    choose_splits,
    orphans_note,
    read_excerpt,
    write_splits,
)
from harness.corpora.manifest import Utterance
from harness.errors import CorpusError

#: Utterances of each split as distributed.
OFFICIAL = {
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
}


def normalize_text(text: str) -> str:
    """The transcript in lower case, words one space apart; LibriSpeech has no punctuation but apostrophes."""
    return " ".join(text.lower().split())


class LibriSpeech:
    """The adapter."""

    info = CorpusInfo(
        name="librispeech",
        description="Read English audiobooks, 16 kHz",
        splits=tuple(OFFICIAL),
        license="CC BY 4.0",
        source="https://www.openslr.org/12",
        default_split="test-clean",
    )
    generated = False

    def prepare(self, root: Path | None, out: Path, splits: Sequence[str]) -> Prepared:
        """Writes the manifests; with no split named, of those that `root` holds.

        Raises:
            CorpusError: if `root` holds none of them, a transcript is malformed, or audio files are absent.
        """
        if root is None or not root.is_dir():
            raise CorpusError(_how_to(root, splits))
        rules = Rules(normalize_text, OFFICIAL)
        library = _library(root)
        if library is None:
            if not (root / EXCERPT).is_file():
                raise CorpusError(_how_to(root, splits))
            chosen = choose_splits(_excerpt(root), splits, root / EXCERPT)
            return write_splits(out, root, chosen, rules=rules, alignments=find_alignments(alignment_folders(root)))
        if absent := [split for split in splits if not (library / split).is_dir()]:
            raise CorpusError(_how_to(root, absent))
        chosen = {s: list(_entries(library, s)) for s in splits or OFFICIAL if (library / s).is_dir()}
        folders = {*alignment_folders(root), *alignment_folders(library), *(library / split for split in chosen)}
        notes = {split: orphans_note(_orphans(library / split, entries)) for split, entries in chosen.items()}
        alignments = find_alignments(sorted(folders))
        return write_splits(out, library, chosen, rules=rules, alignments=alignments, notes=notes)


def _library(root: Path) -> Path | None:
    candidates = (root / "LibriSpeech", root)
    return next((c for c in candidates if any((c / split).is_dir() for split in OFFICIAL)), None)


def _how_to(root: Path | None, splits: Sequence[str]) -> str:
    what = "LibriSpeech" if not splits else f"LibriSpeech {', '.join(splits)}"
    archives = ", ".join(f"{split}.tar.gz" for split in splits or OFFICIAL)
    place = "without a folder to read it from (--root DIR)" if root is None else f"in {root}"
    return (
        f"There is no {what} {place}. Download {archives} from https://www.openslr.org/12, unpack in one folder (each "
        f"makes LibriSpeech/<split>/<speaker>/<chapter>/) and name it: harness data prepare librispeech --root DIR"
    )


def _excerpt(root: Path) -> dict[str, list[Entry]]:
    entries = read_excerpt(root, _official_split)
    return {split: [e for e in entries if e.split == split] for split in OFFICIAL}


def _official_split(utterance: Utterance) -> str:
    if utterance.split not in OFFICIAL:
        raise CorpusError(f"'{utterance.split}' is not a split of LibriSpeech; it has: {', '.join(OFFICIAL)}.")
    return utterance.split


def _entries(library: Path, split: str) -> Iterator[Entry]:
    transcripts = sorted((library / split).glob("*/*/*.trans.txt"))
    if not transcripts:
        raise CorpusError(f"{library / split} holds no <speaker>/<chapter>/*.trans.txt; unpack {split}.tar.gz again.")
    for transcript in transcripts:
        yield from _chapter(transcript, library, split)


def _chapter(transcript: Path, library: Path, split: str) -> Iterator[Entry]:
    folder, prefix = transcript.parent, f"{transcript.parent.parent.name}-{transcript.parent.name}"
    seen = set()
    for where, line in numbered_lines(transcript):
        utterance, _, text = line.partition(" ")
        if not utterance.startswith(f"{prefix}-") or not text:
            raise CorpusError(f"{where}: expected '{prefix}-NNNN TRANSCRIPT', found '{line}'.")
        if utterance in seen:
            raise CorpusError(f"{where}: '{utterance}' is transcribed twice.")
        seen.add(utterance)
        audio = (folder / f"{utterance}.flac").relative_to(library).as_posix()
        yield Entry(utterance, audio, text, folder.parent.name, split)


def _orphans(folder: Path, entries: Sequence[Entry]) -> list[str]:
    listed = {entry.id for entry in entries}
    return sorted(path.name for path in folder.glob("*/*/*.flac") if path.stem not in listed)


CORPUS = LibriSpeech()
