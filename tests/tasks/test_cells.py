"""Cells of the transfer matrix: what is compared with what, and how far seeds spread an interval."""

import numpy as np
import pytest

from harness.metrics.ratios import ratio
from harness.results import Item
from harness.tasks._cells import CellPredictions, _seed_shares, compare


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
    assert found.groups == ["speaker of a", "speaker of b"]
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


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 1.0, 5.0], [3.0, 3.0, 4.0, 8.0, 1.0]])
def test_seeds_spread_a_mean_as_much_as_their_variance_says(values):
    """The variance of a mean over S seeds is s² / S, s² with S − 1; drawn with replacement alone it were less."""
    one = table({s: {"a": (0, 0)} for s in range(len(values))})
    means = (_seed_shares(one, (200_000, len(values)), 0) * values).sum(-1)
    assert means.mean() == pytest.approx(np.mean(values), abs=0.02)
    assert means.var() == pytest.approx(np.var(values, ddof=1) / len(values), rel=0.03)


def test_cells_of_one_training_draw_the_same_seeds_and_others_do_not():
    values = {s: {"a": (0, 0)} for s in range(3)}
    same, again, other = (
        _seed_shares(table(values, cell=cell), (50, 3), 7)
        for cell in ("train_text.test_text", "train_text.test_speech", "train_speech.test_text")
    )
    np.testing.assert_array_equal(same, again)
    assert not np.array_equal(same, other)


def test_a_ratio_of_nothing_to_nothing_is_zero():
    np.testing.assert_array_equal(ratio(np.array([0.0, 3.0]), np.array([0.0, 4.0])), [0, 0.75])
