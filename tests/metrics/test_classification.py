import random

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from harness.corpora.manifest import SENTIMENTS
from harness.errors import FormatError, JoinError
from harness.metrics.classification import accuracy, classification_scores, macro_f1, unparsable

GOLD = ["Negative", "Neutral", "Neutral", "Positive", "Positive", "Positive"]
PREDICTED = ["Negative", "Neutral", "Positive", "Positive", "Neutral", "no idea"]


def named(labels):
    return {f"u{k}": label for k, label in enumerate(labels)}


def test_worked_by_hand():
    """Negative 1 of 1, Neutral 1 of 2 predicted and 2 gold, Positive 1 of 2 predicted and 3 gold.

    P = 1, 1/2, 1/2; R = 1, 1/2, 1/3; F1 = 1, 1/2, 2/5: macro 2/3, 11/18, 19/30. 3 of 6 are right, 1 is unparsable.
    """
    found = classification_scores(named(GOLD), named(PREDICTED), SENTIMENTS)
    assert found.to_json() == {
        "macro_f1": pytest.approx(100 * 19 / 30),
        "macro_precision": pytest.approx(100 * 2 / 3),
        "macro_recall": pytest.approx(100 * 11 / 18),
        "accuracy": 50.0,
        "per_class": {
            "Negative": {"precision": 100.0, "recall": 100.0, "f1": 100.0},
            "Neutral": {"precision": 50.0, "recall": 50.0, "f1": 50.0},
            "Positive": {"precision": 50.0, "recall": pytest.approx(100 / 3), "f1": 40.0},
        },
        "unparsable": pytest.approx(100 / 6),
    }
    assert found.confusion.tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]]
    assert [c.support for c in found.per_class.values()] == [1, 2, 3]


def test_perfect_and_always_wrong():
    assert classification_scores(named(GOLD), named(GOLD), SENTIMENTS).macro_f1 == 100
    wrong = classification_scores(named(["Neutral"]), named([None]), SENTIMENTS)
    assert (wrong.macro_f1, wrong.accuracy, wrong.unparsable) == (0, 0, 100)


def test_classes_that_are_nowhere_count_as_zero():
    """Always Neutral on 3 of 4: F1 = 2 · 3 / (3 + 4) = 6/7, over three classes 2/7."""
    found = classification_scores(
        named(["Neutral", "Neutral", "Neutral", "Positive"]), named(["Neutral"] * 4), SENTIMENTS
    )
    assert found.macro_f1 == pytest.approx(100 * 2 / 7)
    assert found.per_class["Negative"].f1 == 0


@pytest.mark.parametrize("label", ["neutral", " Neutral", "", None, 1, ["Neutral"], {"Neutral": 1}])
def test_only_the_exact_label_is_parsable(label):
    assert classification_scores(named(["Neutral"]), {"u0": label}, SENTIMENTS).unparsable == 100


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("strange", [False, True])
def test_equals_scikit_learn(seed, strange):
    draws = random.Random(seed)
    classes = SENTIMENTS if seed else SENTIMENTS[:2]  # with seed 0, one class is nowhere
    gold = draws.choices(classes, [1, 6, 3][: len(classes)], k=80)
    predicted = [g if draws.random() < 0.4 else draws.choice([*classes, "?"] if strange else classes) for g in gold]
    found = classification_scores(named(gold), named(predicted), SENTIMENTS)
    options = {"labels": list(SENTIMENTS), "average": "macro", "zero_division": 0}
    assert found.macro_f1 == pytest.approx(100 * f1_score(gold, predicted, **options), abs=1e-12)
    assert found.macro_precision == pytest.approx(100 * precision_score(gold, predicted, **options), abs=1e-12)
    assert found.macro_recall == pytest.approx(100 * recall_score(gold, predicted, **options), abs=1e-12)
    each = f1_score(gold, predicted, **(options | {"average": None}))
    assert [c.f1 for c in found.per_class.values()] == pytest.approx(list(100 * each), abs=1e-12)


def test_many_confusion_matrices_at_once():
    found = classification_scores(named(GOLD), dict(reversed(named(PREDICTED).items())), SENTIMENTS)
    assert macro_f1(found.confusion) == pytest.approx(found.macro_f1, abs=1e-12)
    parts = [
        classification_scores(named(GOLD[at]), named(PREDICTED[at]), SENTIMENTS) for at in (slice(3), slice(3, None))
    ]
    stack = np.stack([part.confusion for part in parts])
    assert (stack.sum(axis=0) == found.confusion).all()
    for statistic in (macro_f1, accuracy, unparsable):
        assert statistic(stack) == pytest.approx([getattr(part, statistic.__name__) for part in parts])


def test_labels_may_be_any():
    """b is right once of two, predicted twice: P = R = 1/2; a is never right."""
    found = classification_scores({"1": "a", "2": "b", "3": "b"}, {"1": "b", "2": "b", "3": "c"}, ["a", "b"])
    assert {name: (c.precision, c.recall, c.support) for name, c in found.per_class.items()} == {
        "a": (0, 0, 1),
        "b": (50, 50, 2),
    }


def test_a_gold_label_that_is_no_class_is_an_error():
    with pytest.raises(FormatError, match=r"'<mixed>' for 'u0', which is none of Negative, Neutral, Positive"):
        classification_scores(named(["<mixed>"]), named(["Neutral"]), SENTIMENTS)


def test_differing_ids_are_an_error():
    with pytest.raises(JoinError, match=r"1 of gold have no prediction \(u1\)"):
        classification_scores(named(GOLD[:2]), named(GOLD[:1]), SENTIMENTS)
