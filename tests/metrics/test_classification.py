import json
import random

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from harness.corpora.manifest import SENTIMENTS
from harness.errors import InputError
from harness.metrics.classification import confusion_rows, macro_f1, score_files, sentiment_scores

GOLD = ["Negative", "Neutral", "Neutral", "Positive", "Positive", "Positive"]
PREDICTED = ["Negative", "Neutral", "Positive", "Positive", "Neutral", "no idea"]


def named(labels):
    return {f"u{k}": label for k, label in enumerate(labels)}


def test_worked_by_hand():
    """Negative 1 of 1, Neutral 1 of 2 predicted and 2 gold, Positive 1 of 2 predicted and 3 gold.

    P = 1, 1/2, 1/2; R = 1, 1/2, 1/3; F1 = 1, 1/2, 2/5: macro 2/3, 11/18, 19/30. 3 of 6 are right, 1 is unparsable.
    """
    found = sentiment_scores(named(GOLD), named(PREDICTED))
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
    assert sentiment_scores(named(GOLD), named(GOLD)).macro_f1 == 100
    wrong = sentiment_scores(named(["Neutral"]), named([None]))
    assert (wrong.macro_f1, wrong.accuracy, wrong.unparsable) == (0, 0, 100)


def test_classes_that_are_nowhere_count_as_zero():
    """Always Neutral on 3 of 4: F1 = 2 · 3 / (3 + 4) = 6/7, over three classes 2/7."""
    found = sentiment_scores(named(["Neutral", "Neutral", "Neutral", "Positive"]), named(["Neutral"] * 4))
    assert found.macro_f1 == pytest.approx(100 * 2 / 7)
    assert found.per_class["Negative"].f1 == 0


@pytest.mark.parametrize("label", ["neutral", " Neutral", "", None, 1, ["Neutral"], {"Neutral": 1}])
def test_only_the_exact_label_is_parsable(label):
    assert sentiment_scores(named(["Neutral"]), {"u0": label}).unparsable == 100


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("strange", [False, True])
def test_equals_scikit_learn(seed, strange):
    draws = random.Random(seed)
    classes = SENTIMENTS if seed else SENTIMENTS[:2]  # with seed 0, one class is nowhere
    gold = draws.choices(classes, [1, 6, 3][: len(classes)], k=80)
    predicted = [g if draws.random() < 0.4 else draws.choice([*classes, "?"] if strange else classes) for g in gold]
    found = sentiment_scores(named(gold), named(predicted))
    options = {"labels": list(SENTIMENTS), "average": "macro", "zero_division": 0}
    assert found.macro_f1 == pytest.approx(100 * f1_score(gold, predicted, **options), abs=1e-12)
    assert found.macro_precision == pytest.approx(100 * precision_score(gold, predicted, **options), abs=1e-12)
    assert found.macro_recall == pytest.approx(100 * recall_score(gold, predicted, **options), abs=1e-12)
    each = f1_score(gold, predicted, **(options | {"average": None}))
    assert [c.f1 for c in found.per_class.values()] == pytest.approx(list(100 * each), abs=1e-12)


def test_sums_of_rows_give_macro_f1_again():
    found = sentiment_scores(named(GOLD), dict(reversed(named(PREDICTED).items())))
    rows = confusion_rows(found.cells)
    assert rows.shape == (6, 12)
    assert macro_f1(rows.sum(axis=0)) == pytest.approx(found.macro_f1, abs=1e-12)
    halves = macro_f1(np.stack([rows[:3].sum(axis=0), rows[3:].sum(axis=0)]))
    firsts = [dict(list(named(labels).items())[:3]) for labels in (GOLD, PREDICTED)]
    assert halves[0] == pytest.approx(sentiment_scores(*firsts).macro_f1)


@pytest.mark.parametrize("label", ["<mixed>", "Disagreement"])
def test_dropped_labels_are_no_gold(label):
    with pytest.raises(InputError, match=rf"'{label}' for 'u0', which is none of Negative, .* Drop such rows"):
        sentiment_scores(named([label]), named(["Neutral"]))


def test_differing_ids_are_an_error():
    with pytest.raises(InputError, match=r"1 of gold have no prediction \(u1\)"):
        sentiment_scores(named(GOLD[:2]), named(GOLD[:1]))


def test_files(tmp_path):
    for name, labels in (("gold", GOLD), ("predicted", PREDICTED)):
        lines = [json.dumps({"id": i, "label": label, "more": 1}) for i, label in named(labels).items()]
        (tmp_path / name).write_text("\n".join(lines), "utf-8")
    found = score_files(tmp_path / "gold", tmp_path / "predicted")
    assert found.to_json() == sentiment_scores(named(GOLD), named(PREDICTED)).to_json()
    (tmp_path / "bad").write_text('{"id": "u0", "sentiment": "Neutral"}')
    with pytest.raises(InputError, match=r"bad:1: an item has a 'label'; found the keys 'id', 'sentiment'"):
        score_files(tmp_path / "gold", tmp_path / "bad")
