"""Cells as text: alignment, decimals, and columns that fit a width."""

import pytest

from harness.report import tables
from harness.report.tables import Table
from harness.results import Metric


def test_words_stand_left_and_numbers_right():
    table = Table("title", ("name", "value"), (("a", "1"), ("long name", "20.5")), frozenset({0}), ("a note",))
    assert table.plain().splitlines() == ["title", "name       value", "a              1", "long name   20.5", "a note"]


@pytest.mark.parametrize(("values", "digits"), [([0.5, 9.99], 3), ([0.5, 10.0], 1), ([-12.0], 1), ([], 3)])
def test_per_cents_have_one_decimal_and_the_rest_three(values, digits):
    assert tables.decimals(values) == digits


def test_numbers_and_intervals():
    assert [tables.number(x, 1) for x in (1234.56, -2.0)] == ["1,234.6", "-2.0"]
    assert [tables.number(x, 2, sign=True) for x in (0.5, -0.5)] == ["+0.50", "−0.50"]
    assert tables.metric_cell(Metric(0.25, n=4, higher_is_better=True, ci95=(0.125, 0.5)), 3) == "0.250 [0.125, 0.500]"
    assert tables.metric_cell(Metric(0.25, n=4, higher_is_better=True), 2) == "0.25"
    assert tables.metric_cell(None, 3) == "-"
    assert (tables.p_text(0.0009), tables.p_text(0.0314)) == ("p < 0.001", "p = 0.031")


def test_columns_are_divided_into_parts_that_fit_and_lose_none():
    """A column takes 4 characters and 3 for the space between: three fit 21. The first stands in every part."""
    table = Table("title", ("name", "aaaa", "bbbb", "cccc"), (("x", "1", "2", "3"),), frozenset({0}), ("note",))
    blocks = tables.blocks(table, 21, first=1)
    assert blocks == [[0, 1, 2], [0, 3]]
    one, two = tables.parts_of(table, blocks)
    assert (one.title, one.columns, one.rows, one.notes) == ("title", ("name", "aaaa", "bbbb"), (("x", "1", "2"),), ())
    assert (two.title, two.columns, two.rows, two.notes) == ("", ("name", "cccc"), (("x", "3"),), ("note",))
    assert one.left == two.left == {0}
    assert tables.blocks(table, 1, first=1) == [[0, 1], [0, 2], [0, 3]]
