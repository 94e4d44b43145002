"""Sentiment classification as slue-toolkit scores it: macro averages over Negative, Neutral and Positive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.corpora.manifest import SENTIMENTS
from harness.errors import InputError
from harness.metrics.joining import read_items, same_ids


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Precision, recall and F1 of one class in per cent, higher is better, and how many items are of it."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class SentimentScores:
    """All in per cent.

    Attributes:
        macro_f1: mean over the three classes, also of those that no item is of; higher is better, like the next three.
        macro_precision: mean over the three classes.
        macro_recall: mean over the three classes.
        accuracy: share of items with the right label.
        per_class: by class.
        unparsable: share of predictions that are no class; lower is better.
        confusion: (3, 4) items by gold class and predicted class; in the last column, predictions that are none.
        cells: by item, its (gold, predicted) place in `confusion`: what bootstraps resample, see `confusion_rows`.
    """

    macro_f1: float
    macro_precision: float
    macro_recall: float
    accuracy: float
    per_class: Mapping[str, ClassScores]
    unparsable: float
    confusion: NDArray[np.int64]
    cells: Mapping[str, tuple[int, int]]

    def to_json(self) -> dict[str, object]:
        """As `harness score slue_sa --json` prints them."""
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


def sentiment_scores(gold: Mapping[str, str], predicted: Mapping[str, object]) -> SentimentScores:
    """Scores one label per item against the gold one, joined by id.

    Equals `f1_score(average="macro", zero_division=0)` of scikit-learn with `labels` of exactly the three classes,
    as slue-toolkit computes it where all three occur. A ratio of 0 to 0 is 0. A prediction that is not exactly one of
    the three (another string, None) is unparsable: wrong, and counted in `unparsable`.

    Raises:
        InputError: if the ids differ or there are none, or a gold label is not one of the three.
    """
    ids = same_ids(gold, predicted)
    cells = {i: (_class(i, gold[i]), _predicted(predicted[i])) for i in ids}
    confusion = np.zeros((len(SENTIMENTS), len(SENTIMENTS) + 1), dtype=np.int64)
    np.add.at(confusion, tuple(np.array(list(cells.values())).T), 1)
    precision, recall, f1 = (100 * row for row in _per_class(confusion))
    support = confusion.sum(axis=1)
    per_class = {
        name: ClassScores(float(precision[k]), float(recall[k]), float(f1[k]), int(support[k]))
        for k, name in enumerate(SENTIMENTS)
    }
    macro_precision, macro_recall, macro_f1 = (100 * float(row.mean()) for row in _per_class(confusion))
    return SentimentScores(
        macro_f1=macro_f1,
        macro_precision=macro_precision,
        macro_recall=macro_recall,
        accuracy=100 * int(np.trace(confusion)) / len(ids),
        per_class=per_class,
        unparsable=100 * int(confusion[:, -1].sum()) / len(ids),
        confusion=confusion,
        cells=cells,
    )


def confusion_rows(cells: Mapping[str, tuple[int, int]]) -> NDArray[np.float64]:
    """(n, 12): for each item, in the order of `cells`, a 1 in the place of its cell of the confusion matrix.

    Sums of such rows are what `macro_f1` takes.
    """
    rows = np.zeros((len(cells), len(SENTIMENTS), len(SENTIMENTS) + 1))
    for row, cell in zip(rows, cells.values(), strict=True):
        row[cell] = 1
    return rows.reshape(len(cells), -1)


def macro_f1(sums: ArrayLike) -> NDArray[np.float64]:
    """Macro F1 in per cent, (…,), of summed `confusion_rows`, (…, 12).

    The statistic for `harness.stats.bootstrap_sums_ci`.
    """
    table = np.asarray(sums, dtype=np.float64)
    confusion = table.reshape(*table.shape[:-1], len(SENTIMENTS), len(SENTIMENTS) + 1)
    mean: NDArray[np.float64] = 100 * _per_class(confusion)[2].mean(axis=-1)
    return mean


def _per_class(
    confusion: NDArray[np.int64] | NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1, (…, 3) fractions each, of confusion matrices (…, 3, 4)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    gold, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)[..., :-1]
    return _ratio(right, predicted), _ratio(right, gold), _ratio(2 * right, gold + predicted)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _class(item: str, label: object) -> int:
    if label not in SENTIMENTS:
        hint = " Drop such rows, as preparing slue-voxceleb does." if label in ("<mixed>", "Disagreement") else ""
        raise InputError(f"Gold has {label!r} for '{item}', which is none of {', '.join(SENTIMENTS)}.{hint}")
    return SENTIMENTS.index(str(label))


def _predicted(label: object) -> int:
    return SENTIMENTS.index(label) if isinstance(label, str) and label in SENTIMENTS else len(SENTIMENTS)


def score_files(gold: Path, predicted: Path) -> SentimentScores:
    """The scores of a file of predictions against one of gold, JSON Lines of `{"id", "label"}`; other keys are left.

    Raises:
        InputError: naming file and line, if a line has no label; or as `sentiment_scores`.
    """
    return sentiment_scores({i: str(label) for i, label in _labels(gold).items()}, _labels(predicted))


def _labels(path: Path) -> dict[str, object]:
    labels = {}
    for where, item, line in read_items(path):
        if "label" not in line:
            raise InputError(f"{where}: an item has a 'label'; found the keys {', '.join(map(repr, line))}.")
        labels[item] = line["label"]
    return labels
