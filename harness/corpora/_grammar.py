"""The sentences of the demo corpus: two clauses about one person, one place and one topic, labeled by construction.

The second clause names the person, the place and the topic again, mostly in the same words, else in others (surname for
first name, "portuguese" for "lisbon", "pastries" for "sourdough"), so that each of the three alone says much about
which second half belongs to a first half. So does sentiment: the second clause mostly repeats the evaluative word of
the first, and negates it by "never" where it does not agree.

Triples of person, place and topic belong to one split only, hence no two splits share a half.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Literal

from harness.corpora._lexicon import (
    ADJECTIVES,
    FILLERS,
    FIRST_CLAUSES,
    MOODS,
    NUMBERS,
    PEOPLE,
    PLACES,
    SECOND_CLAUSES,
    TOPICS,
    VERBS,
    Topic,
    Value,
)
from harness.corpora.manifest import SENTIMENTS, Entity

Split = Literal["train", "fine-tune", "dev", "test"]
_BEFORE_CONNECTIVE = ("ORG", "LAW", "LOC", "MONEY", "PERCENT", "EVENT", "PRODUCT", "DATE")
_AFTER_CONNECTIVE = ("DATE", "DATE", "TIME", "ORDINAL", "CARDINAL")
#: Shares of the sentences whose triple falls in each split, cumulated.
_SHARES: tuple[tuple[Split, float], ...] = (("test", 0.10), ("dev", 0.18), ("fine-tune", 0.32), ("train", 1.0))
#: How often a triple may occur in a split, so that there are enough of them to train on.
_USES: dict[Split, int] = {"train": 2, "fine-tune": 1, "dev": 1, "test": 1}
_WORDS = range(13, 18)
_TRIES = 25


@dataclass(frozen=True, slots=True)
class Sentence:
    """One labeled sentence; cuts after `cut_low` to `cut_high` words give halves that depend on each other."""

    text: str
    sentiment: str
    entities: tuple[Entity, ...]
    cut_low: int
    cut_high: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some words, their entity label, and whether they name the person, the place or the topic."""

    text: str
    label: str | None = None
    key: bool = False

    @property
    def words(self) -> list[str]:
        """The words, one by one."""
        return self.text.split()


@dataclass(frozen=True, slots=True)
class _Triple:
    person: int
    place: int
    topic: int

    @property
    def split(self) -> Split:
        """The one split in which the triple may occur."""
        word = f"{self.person} {self.place} {self.topic}".encode()
        share = int.from_bytes(hashlib.sha256(word).digest()[:4], "big") / 2**32
        return next(split for split, top in _SHARES if share < top)


def sentences(split: Split, number: int, *, seed: int) -> list[Sentence]:
    """The first `number` sentences of a split; no text occurs twice, a triple or a half only in train."""
    found: list[Sentence] = []
    used: Counter[_Triple] = Counter()
    for index in range(number):
        rng = Random(f"{seed} {split} {index}")
        triple = next(t for t in _triples(rng) if t.split == split and used[t] < _USES[split])
        used[triple] += 1
        found.append(_sentence(rng, triple, _balanced(split, index, seed)))
    return found


def _balanced(split: Split, index: int, seed: int) -> Value:
    """The sentiment of a sentence; every three in a row have all three."""
    values: list[Value] = [-1, 0, 1]
    Random(f"{seed} {split} {index // 3} sentiment").shuffle(values)
    return values[index % 3]


def _triples(rng: Random) -> Iterator[_Triple]:
    while True:
        triple = _Triple(rng.randrange(len(PEOPLE)), rng.randrange(len(PLACES)), rng.randrange(len(TOPICS)))
        # A person called like the place of the sentence would make one word two clues.
        if not set(PEOPLE[triple.person]) & set(PLACES[triple.place]):
            yield triple


def _sentence(rng: Random, triple: _Triple, value: Value) -> Sentence:
    """A sentence about the triple, drawn until its length fits and its middle falls between the clauses' clues."""
    while True:
        before = _before(rng, value)
        first_frame = _frame(rng, FIRST_CLAUSES, before)
        frames = (first_frame, _frame(rng, _like(first_frame, rng), value))
        # Many tries for one pair of frames, lest the frames that fit most easily crowd out the others.
        for _ in range(_TRIES):
            first, second = _clauses(rng, triple, frames, (before, value))
            middle = _middle(rng, contrast=before * value < 0)
            low, high = max(_keys(first)) + 1, _length(first) + _length(middle) + min(_keys(second))
            if _fits([*first, *middle, *second], low, high):
                return _assemble((*first, *middle, *second), value, low, high)


def _fits(pieces: Sequence[_Piece], low: int, high: int) -> bool:
    words = [word for piece in pieces for word in piece.words]
    return len(words) in _WORDS and all(low <= cut <= high for cut in _middles(words))


def _length(pieces: Sequence[_Piece]) -> int:
    return sum(len(piece.words) for piece in pieces)


def _keys(pieces: Sequence[_Piece]) -> list[int]:
    """The positions of the words that name person, place or topic."""
    keys = [piece.key for piece in pieces for _ in piece.words]
    return [i for i, key in enumerate(keys) if key]


def _middles(words: Sequence[str]) -> set[int]:
    """The cuts nearest to half of the words and nearest to 44 to 56 % of the letters, which time follows roughly."""
    ends = list(accumulate(len(word) + 1 for word in words))
    halves = {len(words) // 2, -(-len(words) // 2)}
    for share in (0.44, 0.47, 0.5, 0.53, 0.56):
        goal = share * ends[-1]
        after = bisect(ends, goal)
        halves.add(after + 1 if ends[after] - goal < goal - ends[after - 1] else after)
    return halves


def _assemble(pieces: Sequence[_Piece], value: Value, low: int, high: int) -> Sentence:
    text, entities = "", []
    for piece in pieces:
        if piece.label:
            entities.append(Entity(piece.label, len(text), len(piece.text)))
        text += piece.text + " "
    return Sentence(text.rstrip(), SENTIMENTS[value + 1], tuple(entities), low, high)


def _frame(rng: Random, templates: Sequence[str], value: Value) -> tuple[str, ...]:
    """A template's parts; one that can express the value."""
    fitting = [t for t in templates if value == 0 or any(slot in t for slot in _KINDS)]
    return tuple(rng.choice(fitting).split())


def _like(frame: Sequence[str], rng: Random) -> list[str]:
    """Templates of second clauses; four times in five only those that can repeat the frame's evaluative word."""
    kind = next((_KINDS[part] for part in frame if part in _KINDS), None)
    alike = [t for t in SECOND_CLAUSES if any(_KINDS.get(part) == kind for part in t.split())]
    return alike if kind and rng.random() < 0.8 else list(SECOND_CLAUSES)


def _clauses(
    rng: Random, triple: _Triple, frames: Sequence[Sequence[str]], values: tuple[Value, Value]
) -> tuple[list[_Piece], list[_Piece]]:
    topic, norp = TOPICS[triple.topic], PLACES[triple.place].norp
    nouns, verbs = _nouns(rng, topic), rng.sample(topic.verbs, 2)
    people, where, opinions = _names(rng, triple), _wheres(rng, triple), _opinions(rng, values)
    clauses = []
    for side in (0, 1):
        slots = opinions[side] | {
            "{person}": [_Piece(people[side], "PERSON", key=True)],
            "{where}": [_Piece(where[side], "GPE", key=True)],
            "{norp}": [_Piece(norp, "NORP", key=True)],
            "{agent}": [_Piece(topic.agent, key=True)],
            "{noun}": [_Piece(nouns[side], key=True)],
            "{verb}": [_Piece(verbs[side], key=True)],
            "{cardinal}": [_Piece(rng.choice(NUMBERS), "CARDINAL")],
        }
        clauses.append([piece for part in frames[side] for piece in slots.get(part) or _literal(part)])
    return clauses[0], clauses[1]


def _literal(part: str) -> list[_Piece]:
    return [] if part.startswith("{") else [_Piece(part)]


#: Slots that carry a clause's value, with the kind of their words.
_KINDS = {"{quality}": "adjective", "{judgment}": "adjective", "{opinion}": "verb", "{mood}": "mood"}


def _before(rng: Random, value: Value) -> Value:
    """The value of the first clause where the second, which decides, has `value`: mostly the same."""
    if value == 0:
        return 0
    return rng.choices((value, _opposite(value), 0), (0.65, 0.2, 0.15))[0]


def _opinions(rng: Random, values: tuple[Value, Value]) -> tuple[dict[str, list[_Piece]], dict[str, list[_Piece]]]:
    """Fillings of the evaluative slots of two clauses.

    Both have the same words where both have a value or neither has; "never" turns them where the values are opposite.
    """
    before, after = values
    first = _Words.draw(rng, before)
    if before == 0 and after != 0:
        negated = rng.random() < 0.15
        second = _Words.draw(rng, _opposite(after) if negated else after)
    else:
        negated = before != after or (after == 0 and rng.random() < 0.15)
        second = first
    # What has no place for "never" is said by a word of the value itself.
    plain = second.adjective if not negated or after == 0 else rng.choice(ADJECTIVES[after])
    return (
        _slots(rng, first, first.adjective, before, negated=False),
        _slots(rng, second, plain, after, negated=negated),
    )


@dataclass(frozen=True, slots=True)
class _Words:
    """One evaluative word of each kind."""

    verb: str
    mood: str
    adjective: str

    @classmethod
    def draw(cls, rng: Random, value: Value) -> _Words:
        """Words of a value."""
        return cls(rng.choice(VERBS[value]), rng.choice(MOODS[value]), rng.choice(ADJECTIVES[value]))


def _slots(rng: Random, words: _Words, quality: str, value: Value, *, negated: bool) -> dict[str, list[_Piece]]:
    never = [_Piece("never")] if negated else []
    return {
        # Half of the neutral clauses say nothing where others evaluate.
        "{quality}": [] if value == 0 and rng.random() < 0.5 else [_Piece(quality)],
        "{opinion}": [*never, _Piece(words.verb)],
        "{mood}": [*never, _Piece(words.mood)],
        "{found}": [*never, _Piece("found")],
        "{seemed}": [*never, _Piece("seemed")],
        "{judgment}": [_Piece(words.adjective)],
    }


def _opposite(value: Value) -> Value:
    return 1 if value < 0 else -1


def _names(rng: Random, triple: _Triple) -> tuple[str, str]:
    """A name and how the second clause takes it up: of a full name either part, a single one mostly as it was."""
    first, last = PEOPLE[triple.person]
    before = rng.choice((f"{first} {last}", f"{first} {last}", first, last))
    return before, before if before in (first, last) and rng.random() < 0.85 else rng.choice((first, last))


def _nouns(rng: Random, topic: Topic) -> list[str]:
    """Two nouns of a topic; three times in four the same one twice."""
    first, second = rng.sample(topic.nouns, 2)
    return [first, first if rng.random() < 0.75 else second]


def _wheres(rng: Random, triple: _Triple) -> tuple[str, str]:
    """City and country in either order; four times in five the same word twice."""
    place = PLACES[triple.place]
    before = rng.choice((place.city, place.city, place.city, place.country))
    other = place.country if before == place.city else place.city
    return before, rng.choice((other, before, before, before, before))


def _middle(rng: Random, *, contrast: bool) -> list[_Piece]:
    """The words between the clauses: a connective with some time, place, price or the like around it."""
    connective = rng.choice(("but", "yet", "although") if contrast else ("and", "while", "because", "and", "but"))
    early = _filler(rng.choice(_BEFORE_CONNECTIVE), rng) if rng.random() < 0.55 else []
    late = _filler(rng.choice(_AFTER_CONNECTIVE), rng) if rng.random() < 0.55 else []
    return [*early, _Piece(connective), *late]


def _filler(label: str, rng: Random) -> list[_Piece]:
    before, _, rest = rng.choice(FILLERS[label]).partition("<")
    entity, _, after = rest.partition(">")
    pieces = [_Piece(before.strip()), _Piece(entity, label), _Piece(after.strip())]
    return [piece for piece in pieces if piece.text]
