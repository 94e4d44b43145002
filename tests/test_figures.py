import pytest

from harness.errors import OptionError
from harness.figures import Bars, ConfusionMatrix


def test_a_name_can_stand_in_a_file_name():
    with pytest.raises(OptionError, match="letters, digits"):
        Bars(name="a/b", title="t", x_label="x", y_label="y", values={})


def test_a_figure_stands_under_its_group_or_its_title():
    assert Bars(name="a", title="t", x_label="x", y_label="y", values={}).heading == "t"
    assert Bars(name="a", title="t", group="g", x_label="x", y_label="y", values={}).heading == "g"


def test_labels_are_counted_in_the_order_asked_for():
    """Gold b never occurs, so that its row would be empty; z is not among the labels asked for."""
    counts = ConfusionMatrix.count([("c", "z"), ("a", "a"), ("a", "b")], ["c", "b", "a"])
    assert counts == {"c": {"c": 0, "b": 0, "a": 0, "z": 1}, "a": {"c": 0, "b": 1, "a": 1, "z": 0}}
    assert list(counts) == ["c", "a"]
    assert list(counts["c"]) == ["c", "b", "a", "z"]
