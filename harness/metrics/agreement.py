"""How far generated text agrees with a reference: BLEU, chrF, word errors, and which reference it resembles most."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jiwer
import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from harness.errors import SampleError
from harness.metrics.repetition import words_of

Floats = NDArray[np.float64]

_ORDERS = 4
_BLEU = BLEU(tokenize="none", effective_order=True)
_CHRF = CHRF()


def bleu_counts(text: str, reference: str) -> list[float]:
    """What BLEU sums over outputs: n-grams that match and n-grams in all, for n = 1 … 4, then both lengths in words.

    Counted by sacrebleu (Post 2018, arXiv 1804.08771), words as they stand.
    """
    found = _BLEU.sentence_score(text, [reference])
    return [*map(float, found.counts), *map(float, found.totals), float(found.sys_len), float(found.ref_len)]


def corpus_bleu(sums: Floats) -> Floats:
    """BLEU, 0 to 100, of sums of `bleu_counts` `(…, 10)`; higher is closer.

    As sacrebleu's `corpus_bleu` with its default smoothing (`exp`: the k-th order without a match counts as 2⁻ᵏ
    matches). NaN where the outputs have no 4-gram in all.
    """
    matches, totals = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    length, wanted = sums[..., -2], sums[..., -1]
    smoothed = np.where(matches > 0, matches, 0.5 ** np.cumsum(matches == 0, axis=-1))
    with np.errstate(all="ignore"):
        precision = np.exp(np.log(smoothed / totals).mean(-1))
        brevity = np.exp(np.minimum(0.0, 1 - wanted / length))
        found = 100 * precision * brevity
    none = (matches.sum(-1) == 0) & (totals[..., -1] > 0)
    return np.asarray(np.where(totals[..., -1] > 0, np.where(none, 0.0, found), np.nan))


def chrf(text: str, reference: str) -> float:
    """chrF2 of one output, 0 to 100; higher is closer (Popović 2015), by sacrebleu."""
    return float(_CHRF.sentence_score(text, [reference]).score)


def word_errors(text: str, reference: str) -> tuple[int, int]:
    """Substitutions, deletions and insertions together, and the reference's words: WER is the ratio of their sums.

    Raises:
        SampleError: if the reference is empty.
    """
    return _errors(jiwer.process_words, text, reference)


def character_errors(text: str, reference: str) -> tuple[int, int]:
    """As `word_errors`, in characters.

    Raises:
        SampleError: if the reference is empty.
    """
    return _errors(jiwer.process_characters, text, reference)


def error_rate(sums: Floats) -> Floats:
    """100 · errors / words of sums `(…, 2)`, ≥ 0, in per cent; lower is closer. NaN without words."""
    with np.errstate(all="ignore"):
        return np.asarray(100 * sums[..., 0] / sums[..., 1])


def resemblance(texts: Sequence[str], references: Sequence[str]) -> Floats:
    """How alike each text and each reference are, `(texts, references)`, 0 to 1: Dice's 2 |A ∩ B| / (|A| + |B|).

    A and B are the sets of lower-case words and pairs of adjacent words. An empty text resembles nothing.
    """
    grams = [_grams(text) for text in (*texts, *references)]
    place = {gram: i for i, gram in enumerate(sorted(set().union(*grams)))}
    table = np.zeros((len(grams), len(place)))
    for row, own in zip(table, grams, strict=True):
        row[[place[gram] for gram in own]] = 1.0
    first, second = table[: len(texts)], table[len(texts) :]
    sizes = first.sum(1)[:, None] + second.sum(1)[None]
    return np.asarray(2 * (first @ second.T) / np.maximum(sizes, 1.0))


def _grams(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {(word,) for word in words} | set(itertools.pairwise(words))


def _errors(process: object, text: str, reference: str) -> tuple[int, int]:
    if not reference.strip():
        raise SampleError(f"An empty reference has no error rate; compared with '{text}'.")
    found = process(reference, text)  # type: ignore[operator]
    errors = found.substitutions + found.deletions + found.insertions
    return int(errors), int(errors - found.insertions + found.hits)
