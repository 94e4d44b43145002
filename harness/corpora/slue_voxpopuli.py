"""SLUE-VoxPopuli: speeches in the European Parliament with named entities, 24 h (Shon et al. 2022, arXiv 2111.10367).

`--root` is the folder in which the archive of version 0.2 was unpacked, or the `slue-voxpopuli` folder in it:
`slue-voxpopuli_<split>.tsv` beside `<split>/<id>.ogg`, where a split is `fine-tune`, `dev` or `test`. Tables with fewer
rows than the official ones are excerpts, which the notes say.

Text is `normalized_text`, normalized further as slue-toolkit does (`slue.normalize_text`); entities keep their raw
labels and move with their phrases. Speakers that the tables do not name (`None`) are called by the speech: an id
without its last part.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from harness.corpora.alignments import alignment_folders, find_alignments
from harness.corpora.corpus import Prepared
from harness.corpora.distribution import Entry, Rules, first_few, write_splits
from harness.corpora.manifest import Entity
from harness.corpora.slue import (
    Distribution,
    Row,
    normalize_entities,
    normalize_text,
    splits_inside_words,
)
from harness.corpora.slue_labels import RAW_LABELS
from harness.errors import CorpusError

DISTRIBUTION = Distribution(
    name="slue-voxpopuli",
    title="SLUE-VoxPopuli",
    description="Speeches in the European Parliament with named entities, 16 kHz",
    license="CC0",
    columns=("id", "normalized_text", "speaker_id", "normalized_ner"),
    label="normalized_ner",
    rows={"fine-tune": 5000, "dev": 1753, "test": 1842},
    older_rows={},
    audio="fine-tune/<id>.ogg and dev/<id>.ogg",
)


class SlueVoxPopuli:
    """The adapter."""

    info = DISTRIBUTION.info
    generated = False

    def prepare(self, root: Path | None, out: Path, splits: Sequence[str]) -> Prepared:
        """Writes the manifests; with no split named, of those that `root` holds with labels.

        Raises:
            CorpusError: if `root` is not laid out as above, a table is malformed or of another version, entities do
                not fit their text, or audio files are absent.
        """
        folder, tables, left_out = DISTRIBUTION.read(root, splits)
        entries = {split: [_entry(row, split) for row in rows] for split, rows in tables.items()}
        return write_splits(
            out,
            folder,
            entries,
            rules=Rules(normalize_text, DISTRIBUTION.rows),
            alignments=find_alignments(alignment_folders(folder)),
            notes={split: (*_split_words(rows), *left_out) for split, rows in tables.items()},
        )


def _entry(row: Row, split: str) -> Entry:
    where, cells = row
    utterance = cells["id"]
    try:
        text, entities = normalize_entities(cells["normalized_text"], read_entities(cells["normalized_ner"]))
    except CorpusError as error:
        raise CorpusError(f"{where}: '{utterance}': {error}") from None
    speaker = cells["speaker_id"].strip()
    if speaker in ("", "None"):
        speaker = utterance.rpartition("_")[0] or utterance
    return Entry(utterance, f"{split}/{utterance}.ogg", text, speaker, split, entities=entities)


def read_entities(cell: str) -> tuple[Entity, ...]:
    """The entities of a cell such as `[['LAW', 86, 18]]`, in order of position; `None`, `[]` or nothing is none.

    Raises:
        CorpusError: if it is not a list of [raw label, first character, length].
    """
    try:
        rows = ast.literal_eval(cell.strip() or "None") or []
        entities = [Entity(str(label), int(start), int(length)) for label, start, length in rows]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise CorpusError(f"expected a list such as [['LAW', 86, 18]], found {cell!r}.") from None
    if unknown := [e.label for e in entities if e.label not in RAW_LABELS]:
        raise CorpusError(f"the label '{unknown[0]}' is none of {', '.join(RAW_LABELS)}.")
    return tuple(sorted(entities, key=lambda e: (e.start, e.length, e.label)))


def _split_words(rows: Sequence[Row]) -> tuple[str, ...]:
    inside = [
        cells["id"]
        for _, cells in rows
        if splits_inside_words(cells["normalized_text"], read_entities(cells["normalized_ner"]))
    ]
    if not inside:
        return ()
    return (f"split words in which entities begin or end in {len(inside)} utterances: {first_few(inside)}",)


CORPUS = SlueVoxPopuli()
