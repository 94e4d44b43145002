"""SLUE (Shon et al. 2022, arXiv 2111.10367): text normalization, tables of its two corpora.

The rules are those of slue-toolkit, the benchmark's own code (github.com/asappresearch/slue-toolkit,
`prepare/data_utils.py` and `generic_utils.py`), reimplemented.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from harness.corpora.corpus import CorpusInfo
from harness.corpora.manifest import Entity
from harness.errors import CorpusError

_DELETED = str.maketrans("", "", ".,!?;")
_APOSTROPHE = "'"


def normalize_text(text: str) -> str:
    """The words of a transcript or text input, one space apart, as slue-toolkit's NER data have them.

    `. , ! ? ;` are deleted; a word is split at its apostrophes, of which the last one stays with what follows it
    (`don't` becomes `don 't`); a lone or trailing apostrophe is dropped. Case stays. Normalizing twice changes nothing.
    """
    return " ".join(_words(text))


def normalize_entities(text: str, entities: Iterable[Entity]) -> tuple[str, tuple[Entity, ...]]:
    """Normalized text with its entities moved to where their phrases stand in it, in order of position.

    As in slue-toolkit, an entity begins and ends at word boundaries: where one is inside a word (`eu` in
    `eu-wide`), the word is split there.

    Args:
        text: the transcript that the entities' offsets count in.
        entities: in any order, not overlapping.

    Raises:
        CorpusError: if an entity lies outside the text, overlaps another, begins or ends with a space, or holds
            nothing but what normalization deletes.
    """
    ordered = sorted(entities, key=lambda e: (e.start, e.length, e.label))
    _check_spans(text, ordered)
    words: list[str] = []
    moved = []
    position = 0
    for entity in ordered:
        end = entity.start + entity.length
        words += _words(text[position : entity.start])
        phrase = normalize_text(text[entity.start : end])
        if not phrase:
            raise CorpusError(f"the {entity.label} {text[entity.start : end]!r} holds no word.")
        start = len(" ".join([*words, ""])) if words else 0
        moved.append(Entity(entity.label, start, len(phrase)))
        words.append(phrase)
        position = end
    words += _words(text[position:])
    return " ".join(words), tuple(moved)


def _words(text: str) -> Iterator[str]:
    for word in text.translate(_DELETED).split():
        *parts, last = word.rstrip(_APOSTROPHE).split(_APOSTROPHE)
        yield from (part for part in [*parts, _APOSTROPHE + last if parts else last] if part)


def _check_spans(text: str, ordered: Sequence[Entity]) -> None:
    for entity in ordered:
        phrase = text[entity.start : entity.start + entity.length]
        if entity.start < 0 or entity.length < 1 or entity.start + entity.length > len(text):
            raise CorpusError(
                f"the {entity.label} at character {entity.start}, {entity.length} long, lies outside a text of "
                f"{len(text)} characters. Do the offsets belong to another version of the text?"
            )
        if phrase != phrase.strip():
            raise CorpusError(
                f"the {entity.label} at character {entity.start} is {phrase!r}, with a space at its end. "
                "Do the offsets belong to another version of the text?"
            )
    for left, right in pairwise(ordered):
        if left.start + left.length > right.start:
            raise CorpusError(f"the {left.label} at character {left.start} overlaps the {right.label} after it.")


def splits_inside_words(text: str, entities: Iterable[Entity]) -> bool:
    """Whether an entity begins or ends between two letters or digits."""
    ends = {end for e in entities for end in (e.start, e.start + e.length)}
    return any(text[end - 1].isalnum() and text[end].isalnum() for end in ends if 0 < end < len(text))


#: A row of a table with its position, `file:line`.
Row = tuple[str, dict[str, str]]
SPLITS = ("fine-tune", "dev", "test")


@dataclass(frozen=True)
class Distribution:
    """One of SLUE's corpora as it is distributed in version 0.2.

    Attributes:
        name: what its tables are called after: `<name>_<split>.tsv`.
        title: its name in prose.
        description: of its recordings.
        license: of its data.
        columns: the columns that its rows are read from.
        label: the one of them that tables without labels lack.
        rows: of each split's table.
        older_rows: the same of version 0.1, for splits that have changed.
        audio: the paths of audio files relative to the tables, in prose.
    """

    name: str
    title: str
    description: str
    license: str
    columns: tuple[str, ...]
    label: str
    rows: Mapping[str, int]
    older_rows: Mapping[str, int]
    audio: str

    @property
    def info(self) -> CorpusInfo:
        """What is shown of the corpus."""
        source = "https://github.com/asappresearch/slue-toolkit"
        return CorpusInfo(self.name, self.description, SPLITS, self.license, source)

    def read(self, root: Path | None, splits: Sequence[str]) -> tuple[Path, dict[str, list[Row]], tuple[str, ...]]:
        """The folder of the tables, the rows of each split (all that are there when none are named), and notes.

        Raises:
            CorpusError: if `root` holds no such tables, a named split is absent or without labels, or a table has more
                rows than the official one or as many as the one of version 0.1.
        """
        folder = self._folder(root)
        found: dict[str, list[Row]] = {}
        notes: list[str] = []
        for split in splits or SPLITS:
            path, blind = folder / f"{self.name}_{split}.tsv", folder / f"{self.name}_{split}_blind.tsv"
            if path.is_file():
                found[split] = self._rows(path, split)
            elif splits:
                raise CorpusError(self._blind(blind) if blind.is_file() else self.how_to(root, f"no {path.name}"))
            elif blind.is_file():
                notes.append(f"{split} is left out: {blind.name} has no labels")
        if not found:
            raise CorpusError(self._blind(folder / f"{self.name}_test_blind.tsv"))
        return folder, found, tuple(notes)

    def how_to(self, root: Path | None, what: str = "") -> str:
        """Says that `root` does not hold the corpus, where to get it, how to lay it out."""
        place = "without a folder to read it from (--root DIR)" if root is None else f"in {root}"
        archive = f"{self.name}_v0.2_blind.zip"
        packed = root is not None and root.is_dir() and any(root.glob(f"{self.name}*.zip"))
        there = " It holds an archive: unpack that first." if packed else ""
        return (
            f"There is {what or f'no {self.title}'} {place}.{there} Download {archive}, the address of which is in "
            "scripts/download_datasets.sh of https://github.com/asappresearch/slue-toolkit (a host may ask you to log "
            f"in or to accept terms first), and unpack it, so that DIR/{self.name}/ holds {self.name}_fine-tune.tsv "
            f"and {self.name}_dev.tsv beside {self.audio}. Labels of the test set are published at "
            f"https://huggingface.co/datasets/asapp/slue: {self.name}_test.tsv goes there too. Then: harness data "
            f"prepare {self.name} --root DIR"
        )

    def _folder(self, root: Path | None) -> Path:
        if root is not None and root.is_dir():
            for folder in (root / self.name, root):
                if any(folder.glob(f"{self.name}_*.tsv")):
                    return folder
        raise CorpusError(self.how_to(root))

    def _blind(self, path: Path) -> str:
        return (
            f"{path} has no labels ({self.label}): it is the blind test "
            "set, on which nothing can be scored here. Its labels were published later at "
            f"https://huggingface.co/datasets/asapp/slue: write them to {self.name}_test.tsv, with the columns "
            f"{', '.join(self.columns)}, or prepare the other splits: --splits fine-tune,dev"
        )

    def _rows(self, path: Path, split: str) -> list[Row]:
        if self.label not in _header(path):
            raise CorpusError(self._blind(path))
        rows = read_table(path, self.columns)
        if not any(row[self.label] for _, row in rows):
            raise CorpusError(self._blind(path))
        official, older = self.rows[split], self.older_rows.get(split)
        if len(rows) > official or len(rows) == older:
            version = f" and version 0.1 had {older}" if older else ""
            raise CorpusError(
                f"{path} has {len(rows)} rows, but the official table of {split} has {official} in version 0.2"
                f"{version}. Results are compared on version 0.2: download it."
            )
        return rows


def _header(path: Path) -> list[str]:
    _refuse_pages(path)
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline().rstrip("\r\n").split("\t")


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a table of SLUE, each with its position (`file:line`); other columns are left out.

    Tables are tab-separated with a header, quoted as pandas writes them. `None` stays a word.

    Raises:
        CorpusError: if the file is not such a table or lacks a column, a row has too few or too many cells, or an id
            occurs twice.
    """
    _refuse_pages(path)
    rows: list[Row] = []
    ids: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream, delimiter="\t")
        try:
            header = next(reader, [])
            _check_header(path, header, columns)
            for cells in reader:
                where = f"{path}:{reader.line_num}"
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise CorpusError(f"{where}: expected {len(header)} cells, found {len(cells)}.")
                row = {c: cell for c, cell in zip(header, cells, strict=True) if c in columns}
                if row["id"] in ids:
                    raise CorpusError(f"{where}: '{row['id']}' is already on {ids[row['id']]}.")
                ids[row["id"]] = where
                rows.append((where, row))
        except (csv.Error, UnicodeDecodeError) as error:
            raise CorpusError(f"{path}:{reader.line_num}: not a table in UTF-8 ({error}). Download it again.") from None
    if not rows:
        raise CorpusError(f"{path} holds no row.")
    return rows


def _refuse_pages(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(64).lstrip()
    if head.startswith(b"<"):
        raise CorpusError(
            f"{path} is a web page, not a table: the download was refused or has moved. Accept the terms of the "
            "dataset, log in where it asks you to, and download it again."
        )
    if head.startswith(b"version https://git-lfs"):
        raise CorpusError(f"{path} is a Git LFS pointer, not the table itself. Run 'git lfs pull' in its folder.")


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    if absent := [column for column in columns if column not in header]:
        raise CorpusError(
            f"{path} has no column {', '.join(absent)}; it has: {', '.join(header) or 'none'}. "
            "Expected tab-separated columns with a header."
        )
