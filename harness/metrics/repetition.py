"""How much outputs repeat themselves, one another and their prompts; in per cent, on lower-case words.

Definitions of Lakhotia et al. 2021 (Generative Spoken Language Modeling from Raw Audio, arXiv 2102.01192), as computed
by fairseq's `examples/textless_nlp/gslm/metrics/asr_metrics/self_auto_bleu.py`. Other tools define auto-BLEU otherwise:
"a a a" has 0 here, since no bigram of it stands beside another one without overlap, and 100 elsewhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from harness.errors import JoinError, SampleError

Words = Sequence[str]
#: N-grams that auto-BLEU and self-BLEU look at, each order with the same weight.
_ORDERS = (1, 2)


def words_of(text: str) -> list[str]:
    """The lower-case words of a text, split at white space."""
    return text.lower().split()


def auto_bleu(words: Words) -> float:
    """How much one output repeats itself, 0 to 100; lower is more varied.

    For n = 1, 2 the share of its n-grams that occur again among the n-grams entirely to their left or entirely to
    their right; the geometric mean of the two shares. 0 for a single word or none.
    """
    if len(words) < max(_ORDERS):
        return 0.0
    shares = []
    for n in _ORDERS:
        grams = list(_ngrams(words, n))
        first = {gram: place for place, gram in reversed(list(enumerate(grams)))}
        last = {gram: place for place, gram in enumerate(grams)}
        again = sum(first[gram] <= place - n or last[gram] >= place + n for place, gram in enumerate(grams))
        shares.append(again / len(grams))
    return 100 * math.prod(shares) ** (1 / len(_ORDERS))


def self_bleu(outputs: Sequence[Words]) -> list[float]:
    """How much each output repeats the others, 0 to 100; lower is more varied (Zhu et al. 2018, arXiv 1802.01886).

    BLEU-2 with all other outputs as references (Papineni et al. 2002): for n = 1, 2 the share of its n-grams that
    others hold, each counted at most as often as the one that holds most of it; the geometric mean of the two shares,
    without brevity penalty and without smoothing: 0 where a share is 0, hence for fewer than two words.

    Raises:
        SampleError: if there are fewer than two outputs.
    """
    if len(outputs) < 2:
        raise SampleError(f"Self-BLEU compares each output with the others; found {len(outputs)} in all.")
    shares = []
    for n in _ORDERS:
        counts = [Counter(_ngrams(words, n)) for words in outputs]
        most = _two_largest(counts)
        clipped = [sum(min(count, _among_others(most[gram], i)) for gram, count in own.items())
                   for i, own in enumerate(counts)]  # fmt: skip
        shares.append([c / max(1, own.total()) for c, own in zip(clipped, counts, strict=True)])
    return [100 * math.prod(pair) ** (1 / len(_ORDERS)) for pair in zip(*shares, strict=True)]


def vert(outputs: Sequence[Words]) -> float:
    """√(mean self-BLEU × mean auto-BLEU), 0 to 100; lower is more varied.

    Raises:
        SampleError: if there are fewer than two outputs.
    """
    among = self_bleu(outputs)
    within = [auto_bleu(words) for words in outputs]
    return math.sqrt(sum(among) / len(among) * sum(within) / len(within))


def distinct(outputs: Sequence[Words], n: int = 2) -> float:
    """Distinct n-grams as a share of all n-grams of all outputs, in (0, 100]; higher is more varied.

    Li et al. 2016 (arXiv 1510.03055). It falls as outputs get more, so compare equally many.

    Raises:
        SampleError: if no output has n words.
    """
    grams = [gram for words in outputs for gram in _ngrams(words, n)]
    if not grams:
        raise SampleError(f"Distinct-{n} needs an output of {n} words or more; none of the {len(outputs)} has them.")
    return 100 * len(set(grams)) / len(grams)


def copied_subsequence(words: Words, prompt: Words) -> float:
    """Words of the longest common subsequence with the prompt as a share of the output's words, 0 to 100.

    Raises:
        SampleError: if the output is empty.
    """
    if not words:
        raise SampleError("An empty output copies nothing; leave it out and count it as empty.")
    row = [0] * (len(prompt) + 1)
    for word in words:
        before = 0
        for place, other in enumerate(prompt, 1):
            before, row[place] = row[place], before + 1 if word == other else max(row[place], row[place - 1])
    return 100 * row[-1] / len(words)


def copied_ngrams(words: Words, prompt: Words, n: int = 2) -> float:
    """The share of the output's n-grams that the prompt holds, 0 to 100.

    Raises:
        SampleError: if the output has fewer than n words.
    """
    held = set(_ngrams(prompt, n))
    own = list(_ngrams(words, n))
    if not own:
        raise SampleError(f"An output of {len(words)} words has no {n}-gram that it could have copied.")
    return 100 * sum(gram in held for gram in own) / len(own)


def score(outputs: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """`auto_bleu` and `self_bleu` (means over outputs), `vert` and `distinct_2`, in per cent.

    Args:
        outputs: records with `id` and `text`; empty texts count as outputs without words.

    Raises:
        JoinError: if an id occurs twice.
        SampleError: if there are fewer than two outputs, or no output has two words.
    """
    if repeated := [i for i, count in Counter(o["id"] for o in outputs).items() if count > 1]:
        raise JoinError(f"The id '{repeated[0]}' stands for more than one of {len(outputs)} outputs; ids are unique.")
    words = [words_of(output["text"]) for output in outputs]
    among = self_bleu(words)
    return {
        "auto_bleu": sum(map(auto_bleu, words)) / len(words),
        "self_bleu": sum(among) / len(among),
        "vert": vert(words),
        "distinct_2": distinct(words),
    }


def _ngrams(words: Words, n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(n)), strict=False)


def _two_largest(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """By n-gram: the largest count in one output, which output that is, and the largest count in any other."""
    most: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for owner, own in enumerate(counts):
        for gram, count in own.items():
            largest, where, second = most.get(gram, (0, -1, 0))
            most[gram] = (count, owner, largest) if count > largest else (largest, where, max(second, count))
    return most


def _among_others(most: tuple[int, int, int], output: int) -> int:
    largest, where, second = most
    return second if where == output else largest
