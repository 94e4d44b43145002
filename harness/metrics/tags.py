"""Named entities written into text: inline tags, tags of single characters, BIO labels of words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from harness.corpora.manifest import Entity
from harness.errors import FormatError, JoinError

#: A label with its phrase.
Mention = tuple[str, str]
#: What opens a mention where tags are single characters: labels by character, as `% europe ]` for {"%": "PLACE"}.
Characters = Mapping[str, str]
#: What closes a mention: an inline one, as `<PLACE> europe </>`, and one of characters.
END_TAG, END_CHARACTER = "</>", "]"

# A word that is glued to a tag is one all the same: generated text may miss a space.
_INLINE = re.compile(r"(</>|<[^<>/\s]+>)")


def parse_tags(text: str, characters: Characters | None = None) -> list[Mention]:
    """The mentions of a tagged text, in order; labels as they are written, phrases with one space between words.

    As in slue-toolkit (`eval/eval_w2v_ner.py`): what opens inside a mention drops it; a mention that is never closed
    is dropped; one without words is ignored, and so is a closing tag outside of any. Words have no tag characters of
    their own there, which stand alone between spaces.

    Args:
        text: tagged.
        characters: that open mentions; None for inline tags.
    """
    found: list[Mention] = []
    label: str | None = None
    phrase: list[str] = []
    for token, kind in _tokens(text, characters):
        if kind == "word":
            phrase.append(token)
        elif kind == "end":
            if label is not None and phrase:
                found.append((label, " ".join(phrase)))
            label = None
        else:
            label, phrase = token, []
    return found


def strip_tags(text: str, characters: Characters | None = None) -> str:
    """The words of a tagged text without the tags, one space apart, also those of mentions that `parse_tags` drops."""
    return " ".join(token for token, kind in _tokens(text, characters) if kind == "word")


def has_inline_tags(text: str) -> bool:
    """Whether a text holds anything that `parse_tags` reads as an inline tag."""
    return _INLINE.search(text) is not None


def _tokens(text: str, characters: Characters | None) -> list[tuple[str, Literal["word", "label", "end"]]]:
    if characters is None:
        parts = [part for token in text.split() for part in _INLINE.split(token) if part]
        return [
            (part, "end") if part == END_TAG else (part[1:-1], "label") if _INLINE.fullmatch(part) else (part, "word")
            for part in parts
        ]
    return [
        (token, "end")
        if token == END_CHARACTER
        else (characters[token], "label")
        if token in characters
        else (token, "word")
        for token in text.split()
    ]


def mentions(text: str, entities: Iterable[Entity]) -> list[Mention]:
    """The labels of a corpus's entities with their phrases, as they stand in `text`."""
    return [(e.label, text[e.start : e.start + e.length]) for e in entities]


def format_tags(text: str, entities: Iterable[Entity], characters: Characters | None = None) -> str:
    """The text with its entities tagged under their labels; `parse_tags` gives back what was tagged.

    Args:
        text: words one space apart, none of which is a tag; normalized text of SLUE is such.
        entities: on whole words, not overlapping.
        characters: that open mentions; None for inline tags.

    Raises:
        FormatError: if entities overlap, begin or end inside a word or outside the text, carry a label that no
            character stands for, or if the text holds a tag already.
    """
    if any(kind != "word" for _, kind in _tokens(text, characters)):
        raise FormatError(f"The text holds tags already: {text!r}.")
    words = text.split()
    for first, last, label in reversed(word_spans(text, entities)):
        words[first:last] = [
            _opening(label, characters),
            *words[first:last],
            END_TAG if characters is None else END_CHARACTER,
        ]
    return " ".join(words)


def _opening(label: str, characters: Characters | None) -> str:
    if characters is None:
        return f"<{label}>"
    for character, name in characters.items():
        if name == label:
            return character
    raise FormatError(
        f"There is no character for the label '{label}'; there are ones for {', '.join(characters.values())}."
    )


def word_spans(text: str, entities: Iterable[Entity]) -> list[tuple[int, int, str]]:
    """First word, last word + 1 and label of each entity, in order of position; words are those of `text.split()`.

    Raises:
        FormatError: if the words of the text are not one space apart, or entities overlap or are not whole words of it.
    """
    words = text.split()
    if " ".join(words) != text:
        raise FormatError(f"The words of a text must stand one space apart; found {text!r}.")
    starts, ends, position = {}, {}, 0
    for index, word in enumerate(words):
        starts[position], ends[position + len(word)] = index, index + 1
        position += len(word) + 1
    spans: list[tuple[int, int, str]] = []
    for entity in sorted(entities, key=lambda e: e.start):
        end = entity.start + entity.length
        if entity.start not in starts or end not in ends or ends[end] <= starts[entity.start]:
            raise FormatError(f"The {entity.label} {text[entity.start : end]!r} is not whole words of {text!r}.")
        if spans and starts[entity.start] < spans[-1][1]:
            raise FormatError(f"The {entity.label} {text[entity.start : end]!r} overlaps another entity of {text!r}.")
        spans.append((starts[entity.start], ends[end], entity.label))
    return spans


def bio_labels(tagged: str) -> list[str]:
    """One BIO label per word of a text with inline tags: `B-PLACE`, `I-PLACE`, `O`."""
    labels: list[str] = []
    inside, first = "", False
    for token, kind in _tokens(tagged, None):
        if kind == "word":
            labels.append(f"{'B' if first else 'I'}-{inside}" if inside else "O")
            first = False
        else:
            inside, first = ("" if kind == "end" else token), kind == "label"
    return labels


def bio_mentions(words: Sequence[str], labels: Sequence[str]) -> list[Mention]:
    """The mentions that BIO labels make of words; an `I-` after another label, or after none, opens one as `B-` does.

    Raises:
        JoinError: if there are not as many labels as words.
        FormatError: if a label is neither `O` nor begins with `B-` or `I-`.
    """
    if len(words) != len(labels):
        raise JoinError(f"BIO labels come one for each word; found {len(labels)} for {len(words)} words.")
    found: list[tuple[str, list[str]]] = []
    previous = "O"
    for word, label in zip(words, labels, strict=True):
        if label != "O" and label[:2] not in ("B-", "I-"):
            raise FormatError(f"A BIO label is O, B-<label> or I-<label>; found '{label}'.")
        if label.startswith("I-") and previous[2:] == label[2:]:
            found[-1][1].append(word)
        elif label != "O":
            found.append((label[2:], [word]))
        previous = label
    return [(label, " ".join(phrase)) for label, phrase in found]
