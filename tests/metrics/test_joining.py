"""Gold and predictions of the same items, whatever their order."""

import pytest

from harness.errors import JoinError, SampleError
from harness.metrics.joining import same_ids


def test_ids_come_in_the_order_of_gold():
    assert same_ids({"b": 1, "a": 2}, {"a": 3, "b": 4}) == ["b", "a"]


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        (["a", "b"], ["a"], r"but 1 of gold have no prediction \(b\)\. An item without an answer needs an empty one"),
        (["a"], ["a", "c"], r"but 1 of the predictions are not in gold \(c\)"),
        (
            ["a", "b"],
            ["c"],
            r"2 of gold have no prediction \(a, b\) and 1 of the predictions are not in gold \(c\)",
        ),
        (["d", "c", "b", "a"], [], r"4 of gold have no prediction \(a, b, c, …\)"),
    ],
)
def test_items_that_either_lacks_are_named(gold, predicted, message):
    with pytest.raises(JoinError, match=message):
        same_ids(gold, predicted)


def test_no_items_at_all_are_refused():
    with pytest.raises(SampleError, match="no items to score"):
        same_ids([], [])
