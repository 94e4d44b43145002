"""Clusters of one factor and of two, and how much items in them say."""

import numpy as np
import pytest

from harness.errors import SampleError
from harness.stats.design import Design


def design(keys, values=None, crossed=None):
    column = np.arange(len(keys), dtype=float) if values is None else np.array(values, dtype=float)
    return Design.of(column[:, None], keys, crossed)


def test_tuples_name_two_factors():
    """Three voices of each of six names and two associations; both ways of saying so are the same."""
    voices, associations = [f"v{i % 6}" for i in range(36)], [f"a{i // 6}" for i in range(36)]
    pairs = design(list(zip(voices, associations, strict=True)))
    apart = design(voices, crossed=associations)
    assert [way.tolist() for way in pairs.ways] == [way.tolist() for way in apart.ways]
    np.testing.assert_array_equal(pairs.table, apart.table)
    assert (pairs.num_clusters, pairs.effective_clusters, pairs.given) == (6, 6.0, ())


def test_none_stands_alone_in_its_factor():
    """Items 0, 1 share the association x, the other ten have none: eleven clusters there, of which one has two."""
    keys = [(f"v{i % 6}", "x" if i < 2 else None) for i in range(12)]
    assert sorted(np.bincount(design(keys).ways[1]).tolist()) == [1] * 10 + [2]


def test_where_lone_items_stand_changes_nothing():
    values = np.random.default_rng(0).random(12).tolist()
    keys = [(f"v{i % 6}", "x" if i < 2 else None) for i in range(12)]
    turned = Design.of(np.array(values[::-1])[:, None], keys[::-1])
    usual = Design.of(np.array(values)[:, None], keys)
    np.testing.assert_array_equal(usual.table, turned.table)
    assert [way.tolist() for way in usual.ways] == [way.tolist() for way in turned.ways]


@pytest.mark.parametrize(
    ("voices", "associations", "ways", "given"),
    [(5, 6, 1, ("voices",)), (6, 5, 1, ("groups",)), (5, 5, 1, ("voices", "groups")), (6, 6, 2, ())],
)
def test_fewer_than_six_clusters_are_taken_as_given(voices, associations, ways, given):
    found = design([(f"v{i % voices}", f"a{i // voices % associations}") for i in range(60)])
    assert (len(found.ways), found.given) == (ways, given)
    assert found.num_clusters == (60 if len(given) == 2 else 6)


def test_of_one_factor_too():
    assert design([f"v{i % 5}" for i in range(20)]).given == ("voices",)
    assert design([f"v{i % 6}" for i in range(20)]).given == ()
    assert design([f"v{i % 6}" for i in range(20)]).num_clusters == 6


def test_effective_numbers_by_hand():
    """Sizes 6 and five of 1: (11)² / (36 + 5) = 2.951; m = 41 / 11, so 11 / (1 + 0.05 · (41 / 11 − 1)) = 9.680."""
    found = design(["big"] * 6 + list("abcde"))
    assert found.effective_clusters == pytest.approx(121 / 41)
    assert found.effective_items == pytest.approx(11 / (1 + 0.05 * (41 / 11 - 1)))
    assert found.effective_items == pytest.approx(9.680, abs=1e-3)


def test_two_factors_add_their_excess():
    """36 items, 6 in each voice and 6 in each association: 36 / (1 + 0.05 · (5 + 5)) = 24."""
    assert design([(i % 6, i // 6) for i in range(36)]).effective_items == pytest.approx(24)


@pytest.mark.parametrize(
    ("keys", "crossed", "message"),
    [
        ([("a", "b"), "a"], None, r"found keys of \[0, 2\] factors"),
        ([("a", "b", "c")] * 2, None, r"found keys of \[3\] factors"),
        ([("a", "b")] * 2, ["x", "y"], r"found keys of \[2\] factors beside `crossed`"),
        (["a", None], None, "Item 1 has the cluster None"),
    ],
)
def test_what_clusters_cannot_be(keys, crossed, message):
    with pytest.raises(SampleError, match=message):
        design(keys, crossed=crossed)
