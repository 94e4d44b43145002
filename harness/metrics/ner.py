"""Named entity recognition by F1 of (label, phrase) pairs, wherever they stand, as slue-toolkit scores it.

Definitions: Shon et al. 2022 (arXiv 2111.10367), section 3.2, and slue-toolkit's `eval/eval_utils_ner.py`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import FormatError, JoinError
from harness.metrics.joining import same_ids
from harness.metrics.ratios import ratio
from harness.metrics.tags import Mention

Floats = NDArray[np.float64]
#: What each label is scored as; None where mentions of it are left out.
LabelMap = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class PRF:
    """Precision, recall and F1, fractions in [0, 1], higher is better; a ratio of 0 to 0 is 0."""

    precision: float
    recall: float
    f1: float

    def to_json(self) -> dict[str, float]:
        """The three by name."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many mentions are in both gold and prediction (`tp`), in gold, in the prediction."""

    tp: int
    gold: int
    predicted: int

    @property
    def prf(self) -> PRF:
        """The scores of these counts."""
        precision, recall = _ratio(self.tp, self.predicted), _ratio(self.tp, self.gold)
        # In slue-toolkit's order of operations, so that the last digit is its.
        return PRF(precision, recall, _ratio(2 * precision * recall, precision + recall))


@dataclass(frozen=True, slots=True)
class MentionScores:
    """What one measure says of all utterances.

    Attributes:
        micro: the scores of the counts summed over utterances and labels.
        macro: means over the labels in gold or prediction of their scores; 0 where there is no label.
        per_label: the scores of each label in gold or prediction, in alphabetical order.
        label_counts: the counts that `per_label` is of.
        counts: by utterance, over all labels: what bootstraps of `micro` resample.
    """

    micro: PRF
    macro: PRF
    per_label: Mapping[str, PRF]
    label_counts: Mapping[str, Counts]
    counts: Mapping[str, Counts]

    def to_json(self) -> dict[str, object]:
        """`micro`, `macro` and `per_label` as `harness score slue_ner --json` prints them."""
        return {
            "micro": self.micro.to_json(),
            "macro": self.macro.to_json(),
            "per_label": {label: prf.to_json() for label, prf in self.per_label.items()},
        }


@dataclass(frozen=True, slots=True)
class NerScores:
    """`f1` compares pairs of label and phrase; `label_f1` compares labels alone."""

    f1: MentionScores
    label_f1: MentionScores

    def to_json(self) -> dict[str, object]:
        """Both measures as `harness score slue_ner --json` prints them."""
        return {"f1": self.f1.to_json(), "label_f1": self.label_f1.to_json()}


def ner_scores(
    gold: Mapping[str, Iterable[Mention]], predicted: Mapping[str, Iterable[Mention]], labels: LabelMap
) -> NerScores:
    """Scores the mentions of each utterance against the gold ones, joined by id.

    Mentions of an utterance are a multiset: order and position count for nothing, repetition does, and phrases
    compare as exact strings. A label that `labels` does not know is an error in gold; in a prediction it is a false
    positive under its own name.

    Args:
        gold: mentions by utterance.
        predicted: the same, of the same utterances.
        labels: what each label is scored as, in gold and prediction alike; None leaves its mentions out of both.

    Raises:
        JoinError: if the ids of gold and prediction differ.
        SampleError: if there are none.
        FormatError: if a gold label is unknown.
    """
    ids = same_ids(gold, predicted)
    pairs = [(i, _gold(i, gold[i], labels), _mapped(predicted[i], labels)) for i in ids]
    phrases = _score((i, mention_counts(g, p)) for i, g, p in pairs)
    return NerScores(phrases, _score((i, label_counts(g, p)) for i, g, p in pairs))


def mention_counts(gold: Iterable[Mention], predicted: Iterable[Mention]) -> dict[str, Counts]:
    """The counts of one utterance by label, of labels in gold or prediction: multisets of (label, phrase) compared."""
    g, p = Counter(gold), Counter(predicted)
    by_label = [_of_labels(side) for side in (g & p, g, p)]
    return {label: Counts(*(side[label] for side in by_label)) for label in by_label[1] | by_label[2]}


def label_counts(gold: Iterable[Mention], predicted: Iterable[Mention]) -> dict[str, Counts]:
    """As `mention_counts`, with labels compared alone, whatever their phrases."""
    return mention_counts(_without_phrases(gold), _without_phrases(predicted))


def precision(counts: ArrayLike) -> Floats:
    """(…,) in [0, 1] of counts (…, 3) in the order tp, gold, predicted; higher is better; 0 without predictions."""
    table = np.asarray(counts, dtype=np.float64)
    return ratio(table[..., 0], table[..., 2])


def recall(counts: ArrayLike) -> Floats:
    """(…,) in [0, 1] of counts (…, 3) in the order tp, gold, predicted; higher is better; 0 without gold."""
    table = np.asarray(counts, dtype=np.float64)
    return ratio(table[..., 0], table[..., 1])


def micro_f1(counts: ArrayLike) -> Floats:
    """F1, (…,) in [0, 1], of counts (…, 3) in the order tp, gold, predicted; higher is better; 0 where all are 0.

    Of counts summed over labels and utterances it is micro F1: a statistic for `harness.stats.bootstrap_sums_ci`.
    """
    table = np.asarray(counts, dtype=np.float64)
    return ratio(2 * table[..., 0], table[..., 1] + table[..., 2])


def macro_f1(counts: ArrayLike) -> Floats:
    """(…,) in [0, 1]: mean of F1 over the labels in gold or prediction, of counts (…, labels, 3); 0 without any."""
    table = np.asarray(counts, dtype=np.float64)
    present = (table[..., 1] + table[..., 2] > 0).sum(axis=-1)
    return ratio(micro_f1(table).sum(axis=-1), present)


def _gold(utterance: str, mentions: Iterable[Mention], labels: LabelMap) -> list[Mention]:
    found = list(mentions)
    for label, _ in found:
        if label not in labels:
            raise FormatError(
                f"Gold of utterance '{utterance}': There is no entity label '{label}'. Known: {', '.join(labels)}."
            )
    return _mapped(found, labels)


def _mapped(mentions: Iterable[Mention], labels: LabelMap) -> list[Mention]:
    mapped = ((labels.get(label, label), phrase) for label, phrase in mentions)
    return [(label, phrase) for label, phrase in mapped if label is not None]


def _without_phrases(mentions: Iterable[Mention]) -> list[Mention]:
    return [(label, "") for label, _ in mentions]


def _of_labels(mentions: Counter[Mention]) -> Counter[str]:
    out: Counter[str] = Counter()
    for (label, _), number in mentions.items():
        out[label] += number
    return out


def _score(utterances: Iterable[tuple[str, Mapping[str, Counts]]]) -> MentionScores:
    found = dict(utterances)
    names = sorted({label for counts in found.values() for label in counts})
    by_label = {label: _sum(counts[label] for counts in found.values() if label in counts) for label in names}
    per_label = {label: c.prf for label, c in by_label.items()}
    counts = {utterance: _sum(own.values()) for utterance, own in found.items()}
    return MentionScores(_sum(by_label.values()).prf, _macro(list(per_label.values())), per_label, by_label, counts)


def _sum(counts: Iterable[Counts]) -> Counts:
    rows = [(c.tp, c.gold, c.predicted) for c in counts]
    return Counts(*(sum(column) for column in zip(*rows, strict=True))) if rows else Counts(0, 0, 0)


def _macro(scores: Sequence[PRF]) -> PRF:
    return PRF(*(_ratio(fsum(getattr(s, name) for s in scores), len(scores)) for name in ("precision", "recall", "f1")))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def seqeval_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> PRF:
    """Micro scores of BIO labels on the gold words as seqeval gives them, for comparison only.

    seqeval compares positions, where `ner_scores` compares phrases: a mention in another place than the gold one is
    right here only if its phrase stands in both places, and a transcript of other words than the gold ones cannot be
    scored at all. On gold words the two agree, except in utterances in which a phrase occurs more than once.

    Args:
        gold: per utterance, one label per word, as `harness.metrics.tags.bio_labels` makes them.
        predicted: the same of the prediction, on the same words.

    Raises:
        JoinError: if there are no utterances, or gold and prediction differ in number of utterances or of words.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support  # imports scikit-learn: 1 s

    if len(gold) != len(predicted) or not gold:
        raise JoinError(f"BIO labels of the same ≥ 1 utterances are compared; found {len(gold)} and {len(predicted)}.")
    for index, (g, p) in enumerate(zip(gold, predicted, strict=True)):
        if len(g) != len(p):
            raise JoinError(f"Utterance {index} has {len(g)} gold labels and {len(p)} predicted ones; words differ.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels without predictions, for which 0 is asked for
        precision, recall, f1, _ = precision_recall_fscore_support(
            [list(g) for g in gold], [list(p) for p in predicted], average="micro", zero_division=0
        )
    return PRF(float(precision), float(recall), float(f1))
