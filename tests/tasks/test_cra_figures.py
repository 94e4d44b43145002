"""What CRA wants drawn, worked by hand."""

import pytest

from harness.tasks._cra_figures import rank_figures
from harness.tasks.cra import TASK
from tests.runs import item


def figures(*ranks, n=10):
    return {f.name: f for f in rank_figures([item(k, "u2t", rank, n=n) for k, rank in enumerate(ranks)])}


def test_bars_are_shares_of_ranks():
    """Ranks 1, 1, 2 and 7 of 10: half in 1, a quarter in 2, none in 3–5, a quarter in 6–10."""
    assert figures(1, 1, 2, 7)["ranks.pmi.u2t"].values == {"1": 0.5, "2": 0.25, "3–5": 0.0, "6–10": 0.25}


def test_curves_are_recall_at_k():
    """Of the same ranks: R@1 1/2, R@2 to R@6 3/4, from R@7 on 1; chance k/10."""
    curve = figures(1, 1, 2, 7)["r_at_k.pmi.u2t"]
    expected = [0.5, *[0.75] * 5, *[1.0] * 4]
    assert [y for _, y in curve.points] == [expected[int(k) - 1] for k, _ in curve.points]
    assert [y for _, y in curve.chance] == [pytest.approx(k / 10) for k, _ in curve.points]
    assert {curve.points[0][0], curve.points[-1][0]} == {1, 10}


def test_only_the_first_score_stands_open():
    assert {f.heading for f in figures(1, 2).values() if not f.folded} == {"R@k by pmi", "ranks of the gold by pmi"}


def test_without_items_there_is_the_matrix_alone():
    assert [f.name for f in TASK.figures([], {})] == ["r_at_1"]
