"""Files of gold and predictions, or of outputs, read and scored: what `harness score` does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from harness.corpora.manifest import SENTIMENTS
from harness.corpora.slue_labels import COMBINED, COMBINED_CHARACTERS, RAW_CHARACTERS, SCORED_LABELS
from harness.errors import FormatError
from harness.metrics import repetition
from harness.metrics.classification import ClassificationScores, classification_scores
from harness.metrics.ner import NerScores, ner_scores
from harness.metrics.tags import END_CHARACTER, Mention, has_inline_tags, parse_tags

#: How mentions are tagged: `inline` as `<PLACE> europe </>`; `raw` and `combined` as `% europe ]`, in the characters
#: that slue-toolkit writes for raw labels and for combined ones.
TagFormat = Literal["inline", "raw", "combined"]
TAG_CHARACTERS: Mapping[str, Mapping[str, str]] = {"raw": RAW_CHARACTERS, "combined": COMBINED_CHARACTERS}


def score_entity_files(gold: Path, predicted: Path, *, tags: TagFormat | None = None) -> NerScores:
    """The scores of a file of predictions against one of gold, both read by `read_mentions`.

    Raises:
        FormatError, JoinError, SampleError: as `read_mentions` and `ner_scores`.
    """
    return ner_scores(read_mentions(gold, tags=tags), read_mentions(predicted, tags=tags), SCORED_LABELS)


def read_mentions(path: Path, *, tags: TagFormat | None = None) -> dict[str, list[Mention]]:
    """The mentions of each utterance of a JSON Lines file, by id.

    A line is `{"id", "entities": [[label, phrase], …]}` or `{"id", "text": "tagged text"}`; where it has both, its
    entities count. Other keys are left alone.

    Args:
        path: the file.
        tags: how texts are tagged; None finds out from all texts of the file.

    Raises:
        FormatError: naming file and line, if a line is none of the two; or if texts may be tagged in raw or combined
            characters of slue-toolkit and it makes a difference.
    """
    listed: dict[str, list[Mention]] = {}
    texts: dict[str, str] = {}
    for where, utterance, item in read_items(path):
        listed[utterance] = []  # holds the place of texts, so that the order is the file's
        if "entities" in item:
            listed[utterance] = _pairs(item["entities"], where)
        elif isinstance(item.get("text"), str):
            texts[utterance] = item["text"]
        else:
            raise FormatError(
                f"{where}: expected 'entities', a list of [label, phrase], or 'text', a tagged text; found the keys "
                f"{', '.join(map(repr, item))}."
            )
    found = tags or detect_tags(texts.values())
    if found is None:
        raise FormatError(
            f"{path}: its tags are characters that slue-toolkit uses for raw labels and for combined ones, such as "
            "'!' for CARDINAL or for LAW. Say which they are: --tags raw or --tags combined."
        )
    characters = None if found == "inline" else TAG_CHARACTERS[found]
    return listed | {utterance: parse_tags(text, characters) for utterance, text in texts.items()}


def detect_tags(texts: Iterable[str]) -> TagFormat | None:
    """The tag format of some texts of one source, or None where they hold tags of slue-toolkit that could be either.

    Inline tags decide; without them, a character that only slue-toolkit's raw labels have. Where there are just
    characters that both label sets use (`!` is CARDINAL, or LAW), both readings may still score the same: then it is
    `raw`, else None. Texts without tags are `inline`.
    """
    texts = list(texts)
    if any(has_inline_tags(text) for text in texts):
        return "inline"
    tokens = [set(text.split()) for text in texts]
    if not any(END_CHARACTER in t for t in tokens):
        return "inline"
    openers = set().union(*tokens) & RAW_CHARACTERS.keys()
    if openers - COMBINED_CHARACTERS.keys() or all(
        COMBINED[RAW_CHARACTERS[c]] == COMBINED_CHARACTERS[c] for c in openers
    ):
        return "raw"
    return None


def _pairs(entities: object, where: str) -> list[Mention]:
    if not isinstance(entities, list):
        raise FormatError(f"{where}: 'entities' is a list of [label, phrase]; found {entities!r}.")
    for pair in entities:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise FormatError(f"{where}: an entity is [label, phrase], two strings; found {pair!r}.")
    return [(label, phrase) for label, phrase in entities]


def score_sentiment_files(gold: Path, predicted: Path) -> ClassificationScores:
    """The scores of a file of predictions against one of gold, JSON Lines of `{"id", "label"}`; other keys are left.

    Raises:
        FormatError: naming file and line, if a line has no label; or a gold label is not one of the three.
        JoinError, SampleError: as `classification_scores`.
    """
    labels = _labels(gold)
    for item, label in labels.items():
        if label in ("<mixed>", "Disagreement"):
            raise FormatError(
                f"Gold has {label!r} for '{item}', which is none of {', '.join(SENTIMENTS)}. "
                "Drop such rows, as preparing slue-voxceleb does."
            )
    return classification_scores(labels, _labels(predicted), SENTIMENTS)


def score_repetition_file(outputs: Path) -> dict[str, float]:
    """`harness.metrics.repetition.score` of JSON Lines of `{"id", "text"}`; other keys are left.

    Raises:
        FormatError: naming file and line, if a line has no text; or if the file is absent or empty.
        SampleError: as `harness.metrics.repetition.score`.
    """
    records = []
    for where, item, line in read_items(outputs):
        if not isinstance(line.get("text"), str):
            raise FormatError(f"{where}: an output has a 'text', a string; found {line.get('text')!r}.")
        records.append({"id": item, "text": line["text"]})
    return repetition.score(records)


def _labels(path: Path) -> dict[str, object]:
    labels = {}
    for where, item, line in read_items(path):
        if "label" not in line:
            raise FormatError(f"{where}: an item has a 'label'; found the keys {', '.join(map(repr, line))}.")
        labels[item] = line["label"]
    return labels


def read_items(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place (`file:line`), id and object of every line of a JSON Lines file; blank lines are skipped.

    An id is a string or a whole number, which is its digits.

    Raises:
        FormatError: naming file and line, if a line is no object, has no id or one that stood before, or if the file
            is absent or has no lines.
    """
    if not path.is_file():
        raise FormatError(f"There is no file {path}.")
    seen: dict[str, str] = {}
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            where = f"{path}:{number}"
            if not raw.strip():
                continue
            item = _object(raw, where)
            name = item.get("id")
            if not isinstance(name, (str, int)) or isinstance(name, bool):
                raise FormatError(f"{where}: an item has an 'id', a string; found {name!r}.")
            if str(name) in seen:
                raise FormatError(f"{where}: id '{name}' stands already on {seen[str(name)]}; ids are unique.")
            seen[str(name)] = where
            yield where, str(name), item
    if not seen:
        raise FormatError(f"{path} holds no items.")


def _object(raw: bytes, where: str) -> dict[str, Any]:
    try:
        item = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: not a line of JSON in UTF-8 ({error}).") from None
    if not isinstance(item, dict):
        raise FormatError(f"{where}: expected an object, found {type(item).__name__}.")
    return item
