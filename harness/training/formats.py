"""The four sequence formats: speech, text, concatenated (CST) and alternating (AST)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.errors import CorpusError
from harness.segments import Modality, UnitSpan, modalities_of
from harness.training.recipe import Format
from harness.training.vocabulary import EOS, START, SWITCH_TO, Vocabulary

_OTHER: dict[Modality, Modality] = {"speech": "text", "text": "speech"}


@dataclass(frozen=True, slots=True)
class PairedUtterance:
    """An utterance ready to be formatted: its units frame by frame, its words, and where each word starts."""

    id: str
    units: UnitSpan
    words: tuple[str, ...]
    #: Start of each word in seconds; empty where the corpus has no alignment (then AST is impossible).
    starts_s: tuple[float, ...]

    def can_be(self, kind: Format) -> bool:
        """Whether it has what a format needs: word times for AST."""
        return kind != "ast" or self.aligned

    @property
    def aligned(self) -> bool:
        """Whether every word has its time."""
        return len(self.starts_s) == len(self.words)

    def cut(self, first: int, last: int) -> UnitSpan:
        """Units of words `first … last - 1`; silence goes to the word before it, at the edges to the outer word."""
        start = 0.0 if first == 0 else self.starts_s[first]
        end = None if last == len(self.words) else self.starts_s[last]
        return self.units.cut(start, end)


class Formatter:
    """Turns utterances into token ids under one vocabulary.

    Args:
        vocabulary: of the checkpoint.
        speech_subwords: units to subword ids, from 0.
        text_subwords: words to subword ids, from 0.
        max_span_words: AST spans last 1 to so many words.
        prompt_dropout: probability that a document loses its beginning: speech and text what comes before a random
            word, AST what comes before the first switch, CST its first half and what comes before a random word of the
            second. It teaches the likelihood of a continuation without its prompt, in the contexts that
            `Model.encode_prior` makes.
        cst_direction: which half of CST comes first: drawn per sample, or always speech (`u2t`) or text (`t2u`).
        cst_part: probability that CST takes a run of words, often the last ones, in place of the whole utterance.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        speech_subwords: Callable[[UnitSpan], Sequence[int]],
        text_subwords: Callable[[str], Sequence[int]],
        *,
        max_span_words: int,
        prompt_dropout: float = 0.0,
        cst_direction: Literal["both", "u2t", "t2u"] = "both",
        cst_part: float = 0.0,
    ) -> None:
        self.vocabulary = vocabulary
        self._speech_subwords, self._text_subwords = speech_subwords, text_subwords
        self.max_span_words = max_span_words
        self.prompt_dropout = prompt_dropout
        self.cst_direction, self.cst_part = cst_direction, cst_part

    def keeping_beginnings(self) -> Formatter:
        """The same without prompt dropout, for validation: every document whole."""
        return Formatter(
            self.vocabulary,
            self._speech_subwords,
            self._text_subwords,
            max_span_words=self.max_span_words,
            cst_direction=self.cst_direction,
        )

    def format(self, utterance: PairedUtterance, kind: Format, rng: np.random.Generator) -> list[int]:
        """One document in the given format, from its start token to `</s>`.

        Raises:
            CorpusError: for AST without word times.
        """
        # Nothing is drawn where nothing can be dropped, so that without dropout documents are what they always were.
        dropped = self.prompt_dropout > 0 and bool(rng.random() < self.prompt_dropout)
        if kind == "ast":
            body = self._alternating(utterance, rng, dropped)
        elif kind == "cst":
            first = self._first_of_cst(rng)
            second = _OTHER[first]
            if self.cst_part > 0 and utterance.aligned and rng.random() < self.cst_part:
                words = draw_run(len(utterance.words), rng)
                halves = (self._span(utterance, modality, *words) for modality in (first, second))
                return [START[first], *next(halves), SWITCH_TO[second], *next(halves), EOS]
            prompt = [] if dropped else self._span(utterance, first, 0, len(utterance.words))
            body = [START[first], *prompt, SWITCH_TO[second], *self._rest(utterance, second, dropped, rng)]
        else:
            body = [START[kind], *self._rest(utterance, kind, dropped, rng)]
        return [*body, EOS]

    def _first_of_cst(self, rng: np.random.Generator) -> Modality:
        if self.cst_direction == "both":
            return "speech" if rng.random() < 0.5 else "text"
        return modalities_of(self.cst_direction)[0]

    def _rest(
        self, utterance: PairedUtterance, modality: Modality, dropped: bool, rng: np.random.Generator
    ) -> list[int]:
        """The whole utterance, or of one that loses its beginning all from a random later word on."""
        cuttable = len(utterance.words) > 1 and (modality == "text" or utterance.aligned)
        first = int(rng.integers(1, len(utterance.words))) if dropped and cuttable else 0
        return self._span(utterance, modality, first, len(utterance.words))

    def _span(self, utterance: PairedUtterance, modality: Modality, first: int, last: int) -> list[int]:
        whole = first == 0 and last == len(utterance.words)
        ids = (
            self._speech_subwords(utterance.units if whole else utterance.cut(first, last))
            if modality == "speech"
            else self._text_subwords(" ".join(utterance.words[first:last]))
        )
        offset = self.vocabulary.offset(modality)
        return [offset + i for i in ids]

    def _alternating(self, utterance: PairedUtterance, rng: np.random.Generator, dropped: bool) -> list[int]:
        if not utterance.aligned:
            raise CorpusError(
                f"Utterance '{utterance.id}' has no word times, which alternating sequences need; give the corpus "
                "alignments (see 'words' in docs/data.md) or set the mixture's ast weight to 0."
            )
        modality: Modality = "speech" if rng.random() < 0.5 else "text"
        ids = [START[modality]]
        spans = draw_spans(len(utterance.words), self.max_span_words, rng)
        for i, (first, last) in enumerate(spans):
            if i:
                modality = _OTHER[modality]
                ids.append(SWITCH_TO[modality])
            if i or not dropped or len(spans) == 1:
                ids += self._span(utterance, modality, first, last)
        return ids


def draw_run(num_words: int, rng: np.random.Generator) -> tuple[int, int]:
    """A run of words `[first, last)`, half of the time the last ones, else all of one word or more equally likely.

    The last ones because continuations are: a transcriber that hears an end mostly after whole utterances takes every
    run that ends like one for a whole.
    """
    if rng.random() < 0.5:
        return int(rng.integers(num_words)), num_words
    first, last = sorted(rng.choice(num_words + 1, size=2, replace=False).tolist())
    return first, last


def draw_spans(num_words: int, max_span_words: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Consecutive spans `[first, last)` that cover all words, lengths uniform on 1 … `max_span_words`."""
    spans, first = [], 0
    while first < num_words:
        last = min(num_words, first + int(rng.integers(1, max_span_words + 1)))
        spans.append((first, last))
        first = last
    return spans
