"""Named entities written into text: inline tags, slue-toolkit's single characters, BIO labels of words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

from harness.corpora.manifest import Entity
from harness.corpora.slue import COMBINED, COMBINED_LABELS, RAW_LABELS
from harness.errors import InputError

#: A label with its phrase.
Mention = tuple[str, str]
#: How mentions are tagged: `inline` as `<PLACE> europe </>`; `raw` and `combined` as `% europe ]`, in the characters
#: that slue-toolkit writes for raw labels and for combined ones.
TagFormat = Literal["inline", "raw", "combined"]

#: What opens a mention in slue-toolkit's texts of raw labels.
RAW_CHARACTERS: Mapping[str, str] = MappingProxyType(dict(zip("!@#$%^&*()~`{}[<>?", RAW_LABELS, strict=True)))
#: What opens a mention in slue-toolkit's texts of combined labels.
COMBINED_CHARACTERS: Mapping[str, str] = MappingProxyType(dict(zip("!@#$%^&", COMBINED_LABELS, strict=True)))
#: What closes a mention.
END_TAG, END_CHARACTER = "</>", "]"

_OPENERS: Mapping[str, Mapping[str, str]] = {"raw": RAW_CHARACTERS, "combined": COMBINED_CHARACTERS}
# A word that is glued to a tag is one all the same: generated text may miss a space.
_INLINE = re.compile(r"(</>|<[^<>/\s]+>)")


def parse_tags(text: str, tags: TagFormat = "inline") -> list[Mention]:
    """The mentions of a tagged text, in order; labels as they are written, phrases with one space between words.

    As in slue-toolkit (`eval/eval_w2v_ner.py`): what opens inside a mention drops it; a mention that is never closed
    is dropped; one without words is ignored, and so is a closing tag outside of any. Words have no tag characters of
    their own there, which stand alone between spaces.

    Raises:
        InputError: if there is no such format.
    """
    found: list[Mention] = []
    label: str | None = None
    phrase: list[str] = []
    for token, kind in _tokens(text, tags):
        if kind == "word":
            phrase.append(token)
        elif kind == "end":
            if label is not None and phrase:
                found.append((label, " ".join(phrase)))
            label = None
        else:
            label, phrase = token, []
    return found


def strip_tags(text: str, tags: TagFormat = "inline") -> str:
    """The words of a tagged text without the tags, one space apart, also those of mentions that `parse_tags` drops.

    Raises:
        InputError: if there is no such format.
    """
    return " ".join(token for token, kind in _tokens(text, tags) if kind == "word")


def _tokens(text: str, tags: TagFormat) -> list[tuple[str, Literal["word", "label", "end"]]]:
    if tags == "inline":
        parts = [part for token in text.split() for part in _INLINE.split(token) if part]
        return [
            (part, "end") if part == END_TAG else (part[1:-1], "label") if _INLINE.fullmatch(part) else (part, "word")
            for part in parts
        ]
    if tags not in _OPENERS:
        raise InputError(f"There is no tag format '{tags}'. Known: {', '.join(get_args(TagFormat))}.")
    labels = _OPENERS[tags]
    return [
        (token, "end") if token == END_CHARACTER else (labels[token], "label") if token in labels else (token, "word")
        for token in text.split()
    ]


def detect_tags(texts: Iterable[str]) -> TagFormat | None:
    """The tag format of some texts of one source, or None where they hold tags of slue-toolkit that could be either.

    Inline tags decide; without them, a character that only slue-toolkit's raw labels have. Where there are just
    characters that both label sets use (`!` is CARDINAL, or LAW), both readings may still score the same: then it is
    `raw`, else None. Texts without tags are `inline`.
    """
    texts = list(texts)
    if any(_INLINE.search(text) for text in texts):
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


def mentions(text: str, entities: Iterable[Entity]) -> list[Mention]:
    """The labels of a corpus's entities with their phrases, as they stand in `text`."""
    return [(e.label, text[e.start : e.start + e.length]) for e in entities]


def format_tags(text: str, entities: Iterable[Entity], tags: TagFormat = "inline") -> str:
    """The text with its entities tagged: what a model is trained to write.

    `inline` and `combined` map raw labels to combined ones and leave discarded entities untagged; `raw` keeps all.
    `parse_tags` gives back what was tagged.

    Args:
        text: words one space apart, none of which is a tag; normalized text of SLUE is such.
        entities: raw or combined labels, on whole words, not overlapping.
        tags: the format.

    Raises:
        InputError: if entities overlap, begin or end inside a word or outside the text, carry a label that the
            format has no tag for, or if the text holds a tag already.
    """
    if any(kind != "word" for _, kind in _tokens(text, tags)):
        raise InputError(f"The text holds tags already: {text!r}.")
    words = text.split()
    for first, last, label in reversed(word_spans(text, entities)):
        tag = _opening(label, tags)
        if tag is not None:
            words[first:last] = [tag, *words[first:last], END_TAG if tags == "inline" else END_CHARACTER]
    return " ".join(words)


def combined_label(label: str) -> str | None:
    """The label that a raw or combined label is scored as, None if it is discarded.

    Raises:
        InputError: if it is neither raw nor combined.
    """
    if label not in COMBINED and label not in COMBINED_LABELS:
        raise InputError(
            f"There is no entity label '{label}'. Raw labels are {', '.join(RAW_LABELS)}; "
            f"combined ones {', '.join(COMBINED_LABELS)}."
        )
    return COMBINED.get(label, label)


def _opening(label: str, tags: TagFormat) -> str | None:
    combined = combined_label(label)
    written = label if tags == "raw" else combined
    if written is None:
        return None
    if tags == "inline":
        return f"<{written}>"
    characters = {name: character for character, name in _OPENERS[tags].items()}
    if written not in characters:
        raise InputError(f"The tag format '{tags}' has no character for '{label}', which is a combined label.")
    return characters[written]


def word_spans(text: str, entities: Iterable[Entity]) -> list[tuple[int, int, str]]:
    """First word, last word + 1 and label of each entity, in order of position; words are those of `text.split()`.

    Raises:
        InputError: if the words of the text are not one space apart, or entities overlap or are not whole words of it.
    """
    words = text.split()
    if " ".join(words) != text:
        raise InputError(f"The words of a text must stand one space apart; found {text!r}.")
    starts, ends, position = {}, {}, 0
    for index, word in enumerate(words):
        starts[position], ends[position + len(word)] = index, index + 1
        position += len(word) + 1
    spans: list[tuple[int, int, str]] = []
    for entity in sorted(entities, key=lambda e: e.start):
        end = entity.start + entity.length
        if entity.start not in starts or end not in ends or ends[end] <= starts[entity.start]:
            raise InputError(f"The {entity.label} {text[entity.start : end]!r} is not whole words of {text!r}.")
        if spans and starts[entity.start] < spans[-1][1]:
            raise InputError(f"The {entity.label} {text[entity.start : end]!r} overlaps another entity of {text!r}.")
        spans.append((starts[entity.start], ends[end], entity.label))
    return spans


def bio_labels(text: str, entities: Iterable[Entity]) -> list[str]:
    """One BIO label per word of the text (`B-PLACE`, `I-PLACE`, `O`): combined labels, discarded entities are `O`.

    Raises:
        InputError: as `word_spans`, or if a label is neither raw nor combined.
    """
    labels = ["O"] * len(text.split())
    for first, last, label in word_spans(text, entities):
        combined = combined_label(label)
        if combined is not None:
            labels[first:last] = [f"B-{combined}", *[f"I-{combined}"] * (last - first - 1)]
    return labels


def bio_mentions(words: Sequence[str], labels: Sequence[str]) -> list[Mention]:
    """The mentions that BIO labels make of words; an `I-` after another label, or after none, opens one as `B-` does.

    Raises:
        InputError: if there are not as many labels as words, or one is neither `O` nor begins with `B-` or `I-`.
    """
    if len(words) != len(labels):
        raise InputError(f"BIO labels come one for each word; found {len(labels)} for {len(words)} words.")
    found: list[tuple[str, list[str]]] = []
    previous = "O"
    for word, label in zip(words, labels, strict=True):
        if label != "O" and label[:2] not in ("B-", "I-"):
            raise InputError(f"A BIO label is O, B-<label> or I-<label>; found '{label}'.")
        if label.startswith("I-") and previous[2:] == label[2:]:
            found[-1][1].append(word)
        elif label != "O":
            found.append((label[2:], [word]))
        previous = label
    return [(label, " ".join(phrase)) for label, phrase in found]
