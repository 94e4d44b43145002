"""Named entity recognition as slue-toolkit scores it: F1 of (label, phrase) pairs, wherever they stand.

Definitions: Shon et al. 2022 (arXiv 2111.10367), section 3.2, and slue-toolkit's `eval/eval_utils_ner.py`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.corpora.slue import COMBINED
from harness.errors import InputError
from harness.metrics.joining import read_items, same_ids
from harness.metrics.tags import Mention, TagFormat, combined_label, detect_tags, parse_tags


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


def ner_scores(gold: Mapping[str, Iterable[Mention]], predicted: Mapping[str, Iterable[Mention]]) -> NerScores:
    """Scores the mentions of each utterance against the gold ones, joined by id.

    Mentions of an utterance are a multiset: order and position count for nothing, repetition does, and phrases
    compare as exact strings. Raw labels are mapped to combined ones, discarded ones (FAC, EVENT, WORK_OF_ART,
    PRODUCT, LANGUAGE) are left out of gold and prediction alike. A label that is neither raw nor combined is an error
    in gold; in a prediction it is a false positive under its own name.

    Raises:
        InputError: if the ids of gold and prediction differ or there are none, or a gold label is unknown.
    """
    ids = same_ids(gold, predicted)
    pairs = [(i, _gold(i, gold[i]), _combined(predicted[i])) for i in ids]
    return NerScores(
        _score((i, Counter(g), Counter(p)) for i, g, p in pairs),
        _score(
            (i, Counter((label, "") for label, _ in g), Counter((label, "") for label, _ in p)) for i, g, p in pairs
        ),
    )


def micro_f1(sums: ArrayLike) -> NDArray[np.float64]:
    """Micro F1, (…,) in [0, 1], of summed counts (…, 3) in the order tp, gold, predicted; 0 where all are 0.

    The statistic for `harness.stats.bootstrap_sums_ci`.
    """
    counts = np.asarray(sums, dtype=np.float64)
    tp, total = counts[..., 0], counts[..., 1] + counts[..., 2]
    return np.divide(2 * tp, total, out=np.zeros_like(tp), where=total > 0)


def _gold(utterance: str, mentions: Iterable[Mention]) -> list[Mention]:
    found = list(mentions)
    try:
        for label, _ in found:
            combined_label(label)
    except InputError as error:
        raise InputError(f"Gold of utterance '{utterance}': {error}") from None
    return _combined(found)


def _combined(mentions: Iterable[Mention]) -> list[Mention]:
    mapped = ((COMBINED.get(label, label), phrase) for label, phrase in mentions)
    return [(label, phrase) for label, phrase in mapped if label is not None]


def _score(utterances: Iterable[tuple[str, Counter[Mention], Counter[Mention]]]) -> MentionScores:
    tp: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    counts = {}
    for utterance, g, p in utterances:
        both = g & p
        for total, found in ((tp, both), (gold, g), (predicted, p)):
            for (label, _), count in found.items():
                total[label] += count
        counts[utterance] = Counts(both.total(), g.total(), p.total())
    by_label = {label: Counts(tp[label], gold[label], predicted[label]) for label in sorted(gold | predicted)}
    per_label = {label: c.prf for label, c in by_label.items()}
    micro = Counts(tp.total(), gold.total(), predicted.total()).prf
    return MentionScores(micro, _macro(list(per_label.values())), per_label, by_label, counts)


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
        InputError: if there are no utterances, or gold and prediction differ in number of utterances or of words.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support  # imports scikit-learn: 1 s

    if len(gold) != len(predicted) or not gold:
        raise InputError(f"BIO labels of the same ≥ 1 utterances are compared; found {len(gold)} and {len(predicted)}.")
    for index, (g, p) in enumerate(zip(gold, predicted, strict=True)):
        if len(g) != len(p):
            raise InputError(f"Utterance {index} has {len(g)} gold labels and {len(p)} predicted ones; words differ.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels without predictions, for which it is told to say 0
        precision, recall, f1, _ = precision_recall_fscore_support(
            [list(g) for g in gold], [list(p) for p in predicted], average="micro", zero_division=0
        )
    return PRF(float(precision), float(recall), float(f1))


def score_files(gold: Path, predicted: Path, *, tags: TagFormat | None = None) -> NerScores:
    """The scores of a file of predictions against one of gold, both read by `read_mentions`.

    Raises:
        InputError: as `read_mentions` and `ner_scores`.
    """
    return ner_scores(read_mentions(gold, tags=tags), read_mentions(predicted, tags=tags))


def read_mentions(path: Path, *, tags: TagFormat | None = None) -> dict[str, list[Mention]]:
    """The mentions of each utterance of a JSON Lines file, by id.

    A line is `{"id", "entities": [[label, phrase], …]}` or `{"id", "text": "tagged text"}`; where it has both, its
    entities count. Other keys are left alone.

    Args:
        path: the file.
        tags: how texts are tagged; None finds out from all texts of the file.

    Raises:
        InputError: naming file and line, if a line is none of the two; or if texts may be tagged in raw or combined
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
            raise InputError(
                f"{where}: expected 'entities', a list of [label, phrase], or 'text', a tagged text; found the keys "
                f"{', '.join(map(repr, item))}."
            )
    found = tags or detect_tags(texts.values())
    if found is None:
        raise InputError(
            f"{path}: its tags are characters that slue-toolkit uses for raw labels and for combined ones, such as "
            "'!' for CARDINAL or for LAW. Say which they are: --tags raw or --tags combined."
        )
    return listed | {utterance: parse_tags(text, found) for utterance, text in texts.items()}


def _pairs(entities: object, where: str) -> list[Mention]:
    if not isinstance(entities, list):
        raise InputError(f"{where}: 'entities' is a list of [label, phrase]; found {entities!r}.")
    for pair in entities:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise InputError(f"{where}: an entity is [label, phrase], two strings; found {pair!r}.")
    return [(label, phrase) for label, phrase in entities]
