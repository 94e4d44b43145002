"""SLUE-VoxCeleb: interviews of celebrities with sentiment, 24 h (Shon et al. 2022, arXiv 2111.10367).

`--root` is the folder in which the archive of version 0.2 was unpacked, or the `slue-voxceleb` folder in it:
`slue-voxceleb_<split>.tsv` beside `<split>_raw/<id>.flac`, where a split is `fine-tune`, `dev` or `test`. Tables with
fewer rows than the official ones are excerpts, which the notes say.

Rows that are not Negative, Neutral or Positive (`<mixed>`, `Disagreement`) are dropped. Of each recording, the samples
from `start_second` up to `end_second` are copied into lossless files beside the manifests; preparing again
cuts only the files that are missing. Text is `normalized_text`, normalized further as slue-toolkit does its NER data
(`slue.normalize_text`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.corpora.alignments import alignment_folders, find_alignments
from harness.corpora.corpus import Prepared
from harness.corpora.distribution import Entry, Rules, check_present, first_few, write_splits
from harness.corpora.manifest import SENTIMENTS, TIME_GRACE_S
from harness.corpora.slue import Distribution, Row, normalize_text
from harness.errors import AudioError, CorpusError
from harness.files import new_path

DISTRIBUTION = Distribution(
    name="slue-voxceleb",
    title="SLUE-VoxCeleb",
    description="Interviews of celebrities with sentiment, 16 kHz",
    license="CC BY 4.0",
    columns=("id", "normalized_text", "speaker_id", "sentiment", "start_second", "end_second"),
    label="sentiment",
    rows={"fine-tune": 5777, "dev": 1454, "test": 3553},
    older_rows={"dev": 955, "test": 4052},
    audio="fine-tune_raw/<id>.flac and dev_raw/<id>.flac",
)
#: Utterances of the full splits with a clear sentiment; the number for test is unknown.
CLEAR = {"fine-tune": 5729, "dev": 1437}


class SlueVoxCeleb:
    """The adapter."""

    info = DISTRIBUTION.info
    generated = False

    def prepare(self, root: Path | None, out: Path, splits: Sequence[str]) -> Prepared:
        """Cuts the audio into `out/audio/` and writes the manifests; with no split named, of those with labels.

        Raises:
            CorpusError: if `root` is not laid out as above, a table is malformed or of another version, or audio
                files are absent.
            AudioError: if a recording cannot be read or ends before its utterance begins.
        """
        folder, tables, left_out = DISTRIBUTION.read(root, splits)
        entries, official, notes = {}, {}, {}
        for split, rows in tables.items():
            clear = [row for row in rows if row[1]["sentiment"] in SENTIMENTS]
            official[split] = _check_clear(split, len(rows), len(clear))
            notes[split] = (*_dropped(rows), *left_out)
            entries[split] = [_entry(row, split) for row in clear]
            check_present(folder, split, entries[split])
        for split, rows in tables.items():
            spans = {cells["id"]: _span(where, cells) for where, cells in rows}
            cuts = [_cut(folder, out, entry, *spans[entry.id]) for entry in entries[split]]
            entries[split] = [entry for entry, _ in cuts]
            notes[split] = (*_short([entry.id for entry, short in cuts if short]), *notes[split])
        return write_splits(
            out,
            out,
            entries,
            rules=Rules(normalize_text, official),
            alignments=find_alignments(alignment_folders(folder)),
            notes=notes,
        )


def _check_clear(split: str, num_rows: int, num_clear: int) -> int:
    """How many utterances the split should have."""
    if num_clear == 0:
        raise CorpusError(f"No row of {split} is {', '.join(SENTIMENTS)}.")
    if num_rows < DISTRIBUTION.rows[split]:
        return CLEAR.get(split, DISTRIBUTION.rows[split])
    if num_clear != CLEAR.get(split, num_clear):
        raise CorpusError(
            f"{num_clear} of the {num_rows} rows of {split} are {', '.join(SENTIMENTS)}; in version 0.2, "
            f"{CLEAR[split]} are. Is the table altered, or of another version?"
        )
    return num_clear


def _dropped(rows: Sequence[Row]) -> tuple[str, ...]:
    labels = Counter(cells["sentiment"] for _, cells in rows if cells["sentiment"] not in SENTIMENTS)
    if not labels:
        return ()
    counts = ", ".join(f"{label or 'no label'} {count}" for label, count in sorted(labels.items()))
    return (f"left out {labels.total()} rows without a clear sentiment: {counts}",)


def _short(ids: Sequence[str]) -> tuple[str, ...]:
    if not ids:
        return ()
    return (f"{len(ids)} utterances end after their recording does, and were cut there: {first_few(ids)}",)


def _entry(row: Row, split: str) -> Entry:
    where, cells = row
    utterance, speaker = cells["id"], cells["speaker_id"].strip()
    if not speaker:
        raise CorpusError(f"{where}: '{utterance}' has no speaker_id.")
    audio, sentiment = f"{split}_raw/{utterance}.flac", cells["sentiment"]
    return Entry(utterance, audio, cells["normalized_text"], speaker, split, sentiment=sentiment)


def _span(where: str, cells: dict[str, str]) -> tuple[float, float]:
    try:
        start_s, end_s = float(cells["start_second"]), float(cells["end_second"])
    except ValueError:
        start_s = end_s = math.nan
    if not 0 <= start_s < end_s < math.inf:
        raise CorpusError(
            f"{where}: '{cells['id']}' needs 0 ≤ start_second < end_second; found '{cells['start_second']}' and "
            f"'{cells['end_second']}'."
        )
    return start_s, end_s


def _cut(folder: Path, out: Path, entry: Entry, start_s: float, end_s: float) -> tuple[Entry, bool]:
    """The entry with its own audio file, and whether the recording was over before its end."""
    import soundfile  # 0.2 s, which `harness list` must not pay

    source = folder / entry.audio
    try:
        info = soundfile.info(str(source))
        rate, frames = info.samplerate, info.frames
        # Rounded down as slue-toolkit does, so that the samples are the ones it trains and tests on.
        first, last = int(start_s * rate), min(int(end_s * rate), frames)
        if first >= last:
            raise AudioError(f"{source} lasts {frames / rate:g} s, but '{entry.id}' is {start_s:g}-{end_s:g} s of it.")
        # The name holds the samples, so that no cut of another table is taken for this one.
        target = out / "audio" / entry.split / f"{entry.id}.{first}-{last}.flac"
        if not (target.is_file() and target.stat().st_mtime >= source.stat().st_mtime):
            samples, _ = soundfile.read(str(source), start=first, stop=last, dtype="int32", always_2d=True)
            with new_path(target) as part:
                soundfile.write(str(part), samples, rate, format="FLAC", subtype=info.subtype)
    except (soundfile.SoundFileError, ValueError) as error:  # ValueError: a subtype that FLAC does not have
        raise AudioError(f"{source} is not readable as FLAC: {error}") from None
    return replace(entry, audio=target.relative_to(out).as_posix()), end_s > frames / rate + TIME_GRACE_S


CORPUS = SlueVoxCeleb()
