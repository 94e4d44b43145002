"""Classification: precision, recall and F1 by class from confusion matrices, their macro averages.

Confusion matrices are `(…, C, C + 1)`: items by gold class and predicted class; the last column is of predictions that
are no class at all. A ratio of 0 to 0 is 0, so that a class that is nowhere counts as 0 in macro averages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import FormatError
from harness.metrics.joining import same_ids
from harness.metrics.ratios import ratio

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Precision, recall and F1 of one class in per cent, higher is better, and how many items are of it."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class ClassificationScores:
    """All in per cent.

    Attributes:
        macro_f1: mean over the classes, also of those that no item is of; higher is better, like the next three.
        macro_precision: mean over the classes.
        macro_recall: mean over the classes.
        accuracy: share of items with the right label.
        per_class: by class.
        unparsable: share of predictions that are no class; lower is better.
        confusion: (C, C + 1) items by gold class and predicted class; in the last column, predictions that are none.
    """

    macro_f1: float
    macro_precision: float
    macro_recall: float
    accuracy: float
    per_class: Mapping[str, ClassScores]
    unparsable: float
    confusion: NDArray[np.int64]

    def to_json(self) -> dict[str, object]:
        """All but the confusion matrix, as `harness score slue_sa --json` prints them."""
        return {
            "macro_f1": self.macro_f1,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "accuracy": self.accuracy,
            "per_class": {
                name: {"precision": c.precision, "recall": c.recall, "f1": c.f1} for name, c in self.per_class.items()
            },
            "unparsable": self.unparsable,
        }


def classification_scores(
    gold: Mapping[str, object], predicted: Mapping[str, object], labels: Sequence[str]
) -> ClassificationScores:
    """Scores one label per item against the gold one, joined by id.

    Equals `f1_score(average="macro", zero_division=0)` of scikit-learn with `labels` of exactly these classes, as
    slue-toolkit computes it for sentiment where all three occur. A prediction that is not exactly one of the labels
    (another string, None) is unparsable: wrong, and counted in `unparsable`.

    Args:
        gold: label by item.
        predicted: the same, of the same items.
        labels: the C classes.

    Raises:
        JoinError: if the ids differ.
        SampleError: if there are none.
        FormatError: if a gold label is not one of the classes.
    """
    ids = same_ids(gold, predicted)
    confusion = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    for i in ids:
        confusion[_gold_class(i, gold[i], labels), predicted_class(predicted[i], labels)] += 1
    by_class = zip(100 * precisions(confusion), 100 * recalls(confusion), 100 * f1s(confusion), strict=True)
    support = confusion.sum(axis=1)
    per_class = {
        name: ClassScores(float(p), float(r), float(f), int(n))
        for name, (p, r, f), n in zip(labels, by_class, support, strict=True)
    }
    return ClassificationScores(
        macro_f1=float(macro_f1(confusion)),
        macro_precision=100 * float(precisions(confusion).mean()),
        macro_recall=100 * float(recalls(confusion).mean()),
        accuracy=float(accuracy(confusion)),
        per_class=per_class,
        unparsable=float(unparsable(confusion)),
        confusion=confusion,
    )


def predicted_class(label: object, labels: Sequence[str]) -> int:
    """The column of a prediction in a confusion matrix: its place among the labels; C if it is none of them."""
    return labels.index(label) if isinstance(label, str) and label in labels else len(labels)


def precisions(confusion: ArrayLike) -> Floats:
    """(…, C) in [0, 1], higher is better: of the items predicted to be of a class, the share that are."""
    matrix = np.asarray(confusion)
    return ratio(_right(matrix), matrix.sum(axis=-2)[..., :-1])


def recalls(confusion: ArrayLike) -> Floats:
    """(…, C) in [0, 1], higher is better: of the items of a class, the share predicted to be."""
    matrix = np.asarray(confusion)
    return ratio(_right(matrix), matrix.sum(axis=-1))


def f1s(confusion: ArrayLike) -> Floats:
    """(…, C) in [0, 1], higher is better: harmonic means of precision and recall."""
    matrix = np.asarray(confusion)
    return ratio(2 * _right(matrix), matrix.sum(axis=-1) + matrix.sum(axis=-2)[..., :-1])


def macro_f1(confusion: ArrayLike) -> Floats:
    """(…,) in per cent, higher is better: mean of `f1s`."""
    return np.asarray(100 * f1s(confusion).mean(axis=-1))


def accuracy(confusion: ArrayLike) -> Floats:
    """(…,) in per cent, higher is better: share of items with the right class."""
    matrix = np.asarray(confusion)
    return ratio(100 * np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def unparsable(confusion: ArrayLike) -> Floats:
    """(…,) in per cent, lower is better: share of predictions that are no class."""
    matrix = np.asarray(confusion)
    return ratio(100 * matrix[..., -1].sum(axis=-1), matrix.sum(axis=(-2, -1)))


def _right(matrix: NDArray[np.int64] | Floats) -> Floats:
    return np.asarray(np.diagonal(matrix, axis1=-2, axis2=-1), dtype=np.float64)


def _gold_class(item: str, label: object, labels: Sequence[str]) -> int:
    if label not in labels:
        raise FormatError(f"Gold has {label!r} for '{item}', which is none of {', '.join(labels)}.")
    return labels.index(str(label))
