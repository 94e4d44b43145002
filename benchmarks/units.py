"""How predictable units are, and how well they tell words apart: what feature settings and cluster counts buy.

    python benchmarks/units.py n_clusters=30 features.rate_hz=50 features.smooth=2
    python benchmarks/units.py n_clusters=50 features.rate_hz=25 features.smooth=1

Trains a speech tokenizer on utterances of `demo:train` and prints, for utterances that it has not seen:

- subwords per utterance;
- nats per word: cross-entropy of a Witten-Bell trigram model of subwords, and of a 6-gram model of units;
- word accuracy: how often naive Bayes over unit 1- to 3-grams names a word from the units of its time span.

Fewer nats at equal accuracy mean that units follow the words more and the recording less.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from harness.config import build, merge, parse_settings
from harness.corpora.corpus import open_corpus
from harness.corpora.manifest import Utterance
from harness.segments import AudioSpan, UnitSpan
from harness.speech.config import TokenizerConfig
from harness.speech.tokenizer import SpeechTokenizer
from harness.speech.units import unit_to_char

BASE = parse_settings(
    ["features.kind=mfcc", "features.n_mfcc=9", "features.taper=0.1", "subwords=bpe", "vocab_size=2000"]
)


def main() -> None:
    """Prints a row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="fields of TokenizerConfig")
    parser.add_argument("--utterances", type=int, default=1600, help="an eighth of them is held out (default: 1600)")
    a = parser.parse_args()
    config = build(TokenizerConfig, merge(BASE, parse_settings(a.settings)), where="settings")
    corpus = open_corpus("demo", "train")
    utterances = corpus.utterances[: a.utterances]
    audio = [AudioSpan(corpus.audio_path(u)) for u in utterances]
    cut = len(audio) * 7 // 8
    tokenizer = SpeechTokenizer.train(audio[:cut], config, seed=0)
    spans = tokenizer.encode(audio)
    units = [s.units for s in spans]
    subwords = [tuple(tokenizer.subwords(s)) for s in spans]
    held_out = len(utterances) - cut
    num_words = sum(len(u.words or ()) for u in utterances[cut:])
    print(f"{' '.join(a.settings) or 'base'}")
    print(f"subwords/utterance  {sum(map(len, subwords[cut:])) / held_out:.1f}")
    for name, rows, order, size in (
        ("6-gram of units", units, 6, config.n_clusters),
        ("3-gram of subwords", subwords, 3, tokenizer.vocab_size),
    ):
        print(f"nats/word, {name}  {cross_entropy(rows[:cut], rows[cut:], order, size) / num_words:.2f}")
    print(f"word accuracy  {word_accuracy(utterances, spans, cut):.3f}")


def cross_entropy(train: Sequence[Sequence[int]], test: Sequence[Sequence[int]], order: int, size: int) -> float:
    """Nats of `test` under a model of `train` interpolated down to uniform (Witten and Bell 1991)."""
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for row in train:
        for i, token in enumerate(row):
            for n in range(min(order, i + 1)):
                counts[tuple(row[i - n : i])][token] += 1
    totals = {context: seen.total() for context, seen in counts.items()}
    nats = 0.0
    for row in test:
        for i, token in enumerate(row):
            p = 1 / size
            for n in range(min(order, i + 1)):
                seen = counts.get(tuple(row[i - n : i]))
                if seen:
                    p = (seen[token] + len(seen) * p) / (totals[tuple(row[i - n : i])] + len(seen))
            nats -= math.log(p)
    return nats


def word_accuracy(utterances: Sequence[Utterance], spans: Sequence[UnitSpan], cut: int) -> float:
    """Share of held-out words that naive Bayes names right."""
    names: list[list[str]] = [[], []]
    spelled: list[list[str]] = [[], []]
    for i, (utterance, span) in enumerate(zip(utterances, spans, strict=True)):
        for word in utterance.words or ():
            units = span.cut(word.start, word.end).units
            names[i >= cut].append(word.word)
            spelled[i >= cut].append("".join(map(unit_to_char, units)))
    vectorizer = CountVectorizer(analyzer="char", ngram_range=(1, 3), binary=True)
    model = MultinomialNB(alpha=0.05).fit(vectorizer.fit_transform(spelled[0]), names[0])
    return float(model.score(vectorizer.transform(spelled[1]), names[1]))


if __name__ == "__main__":
    main()
