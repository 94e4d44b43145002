"""Cells of the transfer matrix: what is compared with what, over which seeds."""

from dataclasses import replace

import numpy as np
import pytest

from harness.metrics.ratios import ratio
from harness.results import Item
from harness.stats import Arm, seeded_ci
from harness.tasks._cells import CellPredictions, compare, is_trained


def items(values, cell="train_text.test_text"):
    """Of `{seed: {utterance: (gold, predicted)}}`; every utterance has a speaker of its own."""
    return [
        Item(
            f"{seed}/{u}",
            group=f"speaker of {u}",
            reference=gold,
            output=predicted,
            extra={"cell": cell, "seed": seed, "utterance": u},
        )
        for seed, row in values.items()
        for u, (gold, predicted) in row.items()
    ]


def right(predicted, gold):
    return [100.0 * (predicted == gold), 1.0]


def share(sums):
    return ratio(sums[..., 0], sums[..., 1])


def table(values, **rest):
    return CellPredictions.of(items(values, **rest), right)


def test_a_table_holds_the_utterances_that_all_seeds_have():
    found = table({1: {"b": (1, 1), "a": (0, 1), "c": (2, 2)}, 0: {"a": (0, 0), "b": (1, 1)}})
    assert found.utterances == ["a", "b"]
    assert found.groups == [("speaker of a",), ("speaker of b",)]
    assert found.ids == [["0/a", "0/b"], ["1/a", "1/b"]]
    assert found.gold == [0, 1]
    assert found.predicted == [[0, 1], [1, 1]]
    np.testing.assert_array_equal(share(found.sums), [100, 50])


def test_cells_are_compared_on_the_utterances_that_both_have():
    ours = table({0: {"a": (0, 0), "b": (0, 1), "c": (0, 0)}})
    other = table({0: {"b": (0, 0), "c": (0, 1), "d": (0, 0)}})
    common = ours.common(other)
    assert common == other.common(ours) == {"b", "c"}
    assert ours.only(common).utterances == other.only(common).utterances == ["b", "c"]
    assert share(ours.only(common).sums) == [50]
    metric = compare(
        [(ours.only({"b"}), share), (other.only({"b"}), share)], lambda a, b: a - b, 0, True, (-100.0, 100.0), 0.0
    )
    assert metric.value == -100


def test_groups_of_two_factors_are_kept():
    rows = [replace(i, group=("m1", "rain")) for i in items({0: {"a": (0, 0)}})]
    assert CellPredictions.of(rows, right).groups == [("m1", "rain")]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("train_text.test_speech", True), ("cascade.test_speech", True), ("majority.test", False), ("words.test", False)],
)
def test_predictions_of_trained_models_depend_on_seeds(cell, expected):
    assert is_trained(cell) is expected
    assert table({0: {"a": (0, 0)}}, cell=cell).is_trained is expected


def scores(seeds):
    """Of 24 utterances: seed s is right in the first 12 + s."""
    return {s: {f"u{k:02}": (0, int(k >= 12 + s)) for k in range(24)} for s in range(seeds)}


def test_intervals_are_those_over_seeds():
    """Scores 50, 54.17 and 58.33, each with an interval that three seeds' t test gives; of one seed, of its weights."""
    three, one = table(scores(3)), table(scores(1))
    metric = compare([(three, share)], lambda mean: mean, 0, True, (0.0, 100.0), 33.3)
    arm = Arm.of_means(three.counts[..., 0])
    expected = seeded_ci([arm], three.groups, seed=0, support=(0.0, 100.0))
    assert metric.value == pytest.approx(13 / 24 * 100)
    assert metric.ci95 == pytest.approx(expected.bounds)
    assert (metric.given, metric.support, metric.chance) == ((), (0.0, 100.0), 33.3)
    assert compare([(one, share)], lambda mean: mean, 0, True, (0.0, 100.0), None).given == ("weights",)


def test_a_baseline_has_no_seeds_that_could_be_missing():
    majority = table(scores(1), cell="majority.test")
    assert compare([(majority, share)], lambda mean: mean, 0, True, (0.0, 100.0), None).given == ()
    above = compare([(table(scores(3)), share), (majority, share)], lambda a, b: a - b, 0, True, (-100.0, 100.0), 0.0)
    assert above.given == ()
    assert above.value == pytest.approx(100 / 24)


def test_a_ratio_of_nothing_to_nothing_is_zero():
    np.testing.assert_array_equal(ratio(np.array([0.0, 3.0]), np.array([0.0, 4.0])), [0, 0.75])
