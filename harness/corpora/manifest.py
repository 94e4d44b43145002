"""Corpus manifests: JSON Lines, one utterance a line, one file per split."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import ManifestError
from harness.files import new_text_file

SENTIMENTS = ("Negative", "Neutral", "Positive")
#: Aligners round times up to their frame, so words may overlap or outlast the audio by this much, in seconds.
TIME_GRACE_S = 0.05
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "audio": str,
    "sample_rate": int,
    "seconds": (int, float),
    "text": str,
    "speaker": str,
    "split": str,
}
_OPTIONAL = {"words", "labels"}
#: The keys of a manifest line.
KEYS = frozenset(_REQUIRED) | _OPTIONAL


@dataclass(frozen=True, slots=True)
class Word:
    """A spoken word; `start` and `end` in seconds from the start of the audio."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Entity:
    """A named entity: raw label, first character in `text`, length in characters."""

    label: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Utterance:
    """One manifest line. `audio` is relative to the corpus root; `seconds` is the audio's length."""

    id: str
    audio: str
    sample_rate: int
    seconds: float
    text: str
    speaker: str
    split: str
    words: tuple[Word, ...] | None = None
    sentiment: str | None = None
    entities: tuple[Entity, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The manifest line as a dictionary; absent optional parts are left out."""
        line: dict[str, Any] = {key: getattr(self, key) for key in _REQUIRED}
        if self.words is not None:
            line["words"] = [{"word": w.word, "start": w.start, "end": w.end} for w in self.words]
        labels: dict[str, Any] = {}
        if self.sentiment is not None:
            labels["sentiment"] = self.sentiment
        if self.entities is not None:
            labels["entities"] = [{"label": e.label, "start": e.start, "length": e.length} for e in self.entities]
        return line | ({"labels": labels} if labels else {})


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Writes a manifest whole or not at all."""
    with new_text_file(path) as stream:
        for utterance in utterances:
            stream.write(json.dumps(utterance.to_json(), ensure_ascii=False, allow_nan=False) + "\n")


def read_manifest(path: Path) -> list[Utterance]:
    """The utterances of one manifest, validated.

    Raises:
        ManifestError: naming file, line and key of the first error; also if the file is absent or empty.
    """
    return [utterance for _, utterance in iter_manifest(path)]


def iter_manifest(
    path: Path, *, adapt: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> Iterator[tuple[int, Utterance]]:
    """Line number (from 1) and utterance of every line, each validated as it is reached.

    Args:
        path: the manifest.
        adapt: makes a manifest line of the object in the file, for similar formats.

    Raises:
        ManifestError: as `read_manifest`.
    """
    if not path.is_file():
        raise ManifestError(f"There is no manifest {path}; check the path or run 'harness data prepare'.")
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"{path}:{number}"
        utterance = _parse(adapt(line), where)
        if utterance.id in seen:
            raise ManifestError(
                f"{where}: id '{utterance.id}' is already on line {seen[utterance.id]}; ids are unique."
            )
        seen[utterance.id] = number
        yield number, utterance
    if not seen:
        raise ManifestError(f"{path} holds no utterance.")


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            if not raw.strip():
                continue
            try:
                data = json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
            # ValueError: bad JSON, bad UTF-8, a key given twice, a number of thousands of digits.
            except (ValueError, RecursionError) as error:
                raise ManifestError(f"{path}:{number}: not a line of JSON in UTF-8 ({error}).") from None
            if not isinstance(data, dict):
                raise ManifestError(f"{path}:{number}: expected an object, found {type(data).__name__}.")
            yield number, data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(n for n in names if names.count(n) > 1)}' is given twice")
    return data


def _parse(data: dict[str, Any], where: str) -> Utterance:
    for key, kind in _REQUIRED.items():
        if key not in data:
            raise ManifestError(f"{where}: '{key}' is missing.")
        if not isinstance(data[key], kind) or isinstance(data[key], bool):
            raise ManifestError(f"{where}: '{key}' has the wrong type: {data[key]!r}.")
    if extra := sorted(set(data) - KEYS):
        raise ManifestError(f"{where}: unknown key '{extra[0]}'; known: {', '.join([*_REQUIRED, *sorted(_OPTIONAL)])}.")
    seconds = _check_plain_values(data, where)
    labels = _labels(data.get("labels"), where)
    words, entities = data.get("words"), labels.get("entities")
    return Utterance(
        **{key: data[key] for key in _REQUIRED} | {"seconds": seconds},
        words=None if words is None else _words(words, seconds, where),
        sentiment=labels.get("sentiment"),
        entities=None if entities is None else _entities(entities, data["text"], where),
    )


def _check_plain_values(data: dict[str, Any], where: str) -> float:
    for key in ("id", "speaker", "split"):
        if not data[key].strip():
            raise ManifestError(f"{where}: '{key}' is empty.")
    audio = PurePosixPath(data["audio"])
    if audio.is_absolute() or ".." in audio.parts or not audio.parts:
        raise ManifestError(f"{where}: 'audio' must stay inside the corpus root; found '{data['audio']}'.")
    if "\\" in data["audio"]:
        raise ManifestError(f"{where}: 'audio' is written with '/', never '\\'; found '{data['audio']}'.")
    if data["sample_rate"] <= 0:
        raise ManifestError(f"{where}: 'sample_rate' must be positive (Hz); found {data['sample_rate']}.")
    seconds = _number(data["seconds"])
    if seconds is None or seconds <= 0:
        raise ManifestError(f"{where}: 'seconds' must be positive; found {data['seconds']}.")
    return seconds


def _labels(labels: Any, where: str) -> dict[str, Any]:
    if labels is None:
        return {}
    if not isinstance(labels, dict) or set(labels) - {"sentiment", "entities"}:
        raise ManifestError(f"{where}: 'labels' holds 'sentiment' and 'entities' only; found {labels!r}.")
    sentiment = labels.get("sentiment")
    if sentiment is not None and sentiment not in SENTIMENTS:
        raise ManifestError(f"{where}: sentiment {sentiment!r} is not one of {', '.join(SENTIMENTS)}.")
    return labels


def _words(rows: Any, seconds: float, where: str) -> tuple[Word, ...]:
    if not isinstance(rows, list):
        raise ManifestError(f"{where}: 'words' is a list; found {rows!r}.")
    words: list[Word] = []
    previous = 0.0
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"word", "start", "end"}:
            raise ManifestError(f"{where}: a word is {{'word', 'start', 'end'}}; found {row!r}.")
        start, end = _number(row["start"]), _number(row["end"])
        if not isinstance(row["word"], str) or not row["word"].strip() or start is None or end is None:
            raise ManifestError(f"{where}: a word needs a string and two times in seconds; found {row!r}.")
        if not max(0.0, previous - TIME_GRACE_S) <= start <= end <= seconds + TIME_GRACE_S:
            hint = " (milliseconds? times are in seconds)" if end > 20 * seconds else ""
            raise ManifestError(
                f"{where}: word '{row['word']}' spans {start}-{end} s, which does not follow "
                f"{previous} s inside an audio of {seconds} s{hint}."
            )
        previous = end
        words.append(Word(row["word"], start, end))
    return tuple(words)


def _number(value: Any) -> float | None:
    """The finite number that `value` is, else None; JSON's `true`, `NaN` and `1e999` are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _entities(rows: Any, text: str, where: str) -> tuple[Entity, ...]:
    if not isinstance(rows, list):
        raise ManifestError(f"{where}: 'entities' is a list; found {rows!r}.")
    entities = []
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"label", "start", "length"}:
            raise ManifestError(f"{where}: an entity is {{'label', 'start', 'length'}}; found {row!r}.")
        label, start, length = row["label"], row["start"], row["length"]
        if not isinstance(label, str) or not label or type(start) is not int or type(length) is not int:
            raise ManifestError(f"{where}: an entity needs a label and two whole numbers; found {row!r}.")
        if not 0 <= start < start + length <= len(text):
            raise ManifestError(f"{where}: entity {row!r} lies outside the text of {len(text)} characters.")
        entities.append(Entity(label, start, length))
    return tuple(sorted(entities, key=lambda e: (e.start, e.length, e.label)))
