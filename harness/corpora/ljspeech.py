"""LJ Speech: one woman reading seven English non-fiction books, 24 h (Ito and Johnson, 2017).

`--root` is one of

- the folder in which the archive was unpacked, or the `LJSpeech-1.1` folder in it: `metadata.csv`
  (`id|text|normalized text`, no quoting) beside `wavs/<id>.wav`;
- an excerpt: `manifest.jsonl` beside the audio, one line an utterance in the format of our manifests; keys of its own
  are ignored, and so is its split.

LJ Speech has no official splits. **Ours are by chapter**, so that no sentence's neighbor is in another split, and by
id alone, so that an excerpt splits as the whole does: `LJ050-*` is test (278 utterances), `LJ049-*` is dev (229),
the rest is train (12,593).

Text is the normalized column (numbers and abbreviations written out) without its punctuation: see `normalize_text`.
Word times are optional: TextGrids (`<id>.TextGrid`, such as those published with FastSpeech 2) or CTM files in a
folder `alignments` or `textgrid` beneath the root, or beside the audio. An alignment whose words are not those of the
transcript (aligners drop words, or split them otherwise) is left out and counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
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
from harness.errors import CorpusError

#: Utterances of each of our splits in the whole of LJSpeech-1.1, 13,100 together.
OFFICIAL = {"train": 12593, "dev": 229, "test": 278}
_ID = re.compile(r"LJ(\d{3})-\d{4}")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def normalize_text(text: str) -> str:
    """The words in lower case, one space apart.

    A word is a run of letters and digits, with apostrophes only inside (`don't`); every other mark separates words,
    so `picture-books` is two, as the Montreal Forced Aligner counts them. Accents stay.
    """
    plain = unicodedata.normalize("NFC", text).replace("’", "'").lower()
    return " ".join(_WORD.findall(plain))


def split_of(utterance: str) -> str:
    """`train`, `dev` or `test`, by the chapter in an id such as `LJ050-0012`.

    Raises:
        CorpusError: if it is not an id of LJ Speech.
    """
    match = _ID.fullmatch(utterance)
    if match is None:
        raise CorpusError(f"'{utterance}' is not an id of LJ Speech (LJ001-0001).")
    return {"049": "dev", "050": "test"}.get(match[1], "train")


class LJSpeech:
    """The adapter."""

    info = CorpusInfo(
        name="ljspeech",
        description="One voice reading English non-fiction, 22.05 kHz",
        splits=tuple(OFFICIAL),
        license="public domain",
        source="https://keithito.com/LJ-Speech-Dataset/",
    )
    generated = False

    def prepare(self, root: Path | None, out: Path, splits: Sequence[str]) -> Prepared:
        """Writes the manifests; with no split named, of those that `root` holds.

        Raises:
            CorpusError: if `root` is not laid out as above, `metadata.csv` is malformed, or audio files are absent.
        """
        if root is None or not root.is_dir():
            raise CorpusError(_how_to(root))
        rules = Rules(normalize_text, OFFICIAL)
        folder = next((f for f in (root / "LJSpeech-1.1", root) if (f / "metadata.csv").is_file()), None)
        if folder is None:
            if not (root / EXCERPT).is_file():
                raise CorpusError(_how_to(root))
            chosen = choose_splits(_by_split(_excerpt(root)), splits, root / EXCERPT)
            return write_splits(out, root, chosen, rules=rules, alignments=find_alignments(alignment_folders(root)))
        entries = _entries(folder)
        chosen = choose_splits(_by_split(entries), splits, folder / "metadata.csv")
        orphans = orphans_note(_orphans(folder, entries))
        folders = {*alignment_folders(root), *alignment_folders(folder), folder / "wavs"}
        alignments = find_alignments(sorted(folders))
        return write_splits(
            out, folder, chosen, rules=rules, alignments=alignments, notes=dict.fromkeys(chosen, orphans)
        )


def _how_to(root: Path | None) -> str:
    place = "without a folder to read it from (--root DIR)" if root is None else f"in {root}"
    return (
        f"There is no LJ Speech {place}. Download LJSpeech-1.1.tar.bz2 (2.6 GB) from "
        "https://keithito.com/LJ-Speech-Dataset/, unpack it (it makes LJSpeech-1.1/metadata.csv and "
        "LJSpeech-1.1/wavs/) and name the folder: harness data prepare ljspeech --root DIR"
    )


def _excerpt(root: Path) -> list[Entry]:
    return read_excerpt(root, lambda utterance: split_of(utterance.id))


def _by_split(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    return {split: [e for e in entries if e.split == split] for split in OFFICIAL}


def _entries(folder: Path) -> list[Entry]:
    metadata = folder / "metadata.csv"
    entries: dict[str, Entry] = {}
    for where, line in numbered_lines(metadata):
        fields = line.split("|")
        if len(fields) != 3 or not _ID.fullmatch(fields[0]) or not normalize_text(fields[2]):
            raise CorpusError(f"{where}: expected 'LJ001-0001|text|normalized text', found '{line}'.")
        utterance = fields[0]
        if utterance in entries:
            raise CorpusError(f"{where}: '{utterance}' occurs twice; ids are unique.")
        entries[utterance] = Entry(utterance, f"wavs/{utterance}.wav", fields[2], "LJ", split_of(utterance))
    return list(entries.values())


def _orphans(folder: Path, entries: Sequence[Entry]) -> list[str]:
    listed = {entry.id for entry in entries}
    return sorted(path.name for path in (folder / "wavs").glob("*.wav") if path.stem not in listed)


CORPUS = LJSpeech()
