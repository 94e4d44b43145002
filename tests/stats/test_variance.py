"""Clustered variance by hand and by loops; linearized statistics against the jackknife."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats.design import Design
from harness.stats.variance import cluster_variances, gradient, influences


def f1(sums):
    return 200 * sums[..., 0] / (sums[..., 1] + sums[..., 2])


def loops(values, ways):
    """The variance of a mean: slow, obvious. `ways` are one or two lists of keys."""

    def one(keys):
        mean, groups = sum(values) / len(values), sorted(set(keys))
        sums = [sum(v - mean for v, k in zip(values, keys, strict=True) if k == g) for g in groups]
        return len(groups) / (len(groups) - 1) * sum(s * s for s in sums) / len(values) ** 2

    single = [one(keys) for keys in ways]
    if len(ways) == 1:
        return single[0]
    return max(single[0] + single[1] - one(list(zip(*ways, strict=True))), *single)


def test_two_ways_by_hand():
    """6 × 6 voices and associations, one item each: 1 where both are the first, −1 where both are the second, else 0.

    Voices' sums are 1, −1, 0, 0, 0, 0: 6/5 · 2 / 36² = 0.0018519, associations' the same; of the 36 pairs 36/35 · 2 /
    36² = 0.0015873; together 2 · 0.0018519 − 0.0015873 = 0.0021164.
    """
    values = [1.0 if i == 0 else -1.0 if i == 7 else 0.0 for i in range(36)]
    design = Design.of(np.array(values)[:, None], [(i % 6, i // 6) for i in range(36)])
    found = cluster_variances(design, (design.table - design.table.mean()) / 36)
    assert found[0] == pytest.approx(2 * 6 / 5 * 2 / 36**2 - 36 / 35 * 2 / 36**2)
    assert found[0] == pytest.approx(0.0021164, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.booleans())
def test_it_is_what_loops_find(seed, crossed):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=60).round(2).tolist()
    ways = [draw.permutation(60) % 7, draw.permutation(60) % 9][: 1 + crossed]
    keys = list(zip(*(way.tolist() for way in ways), strict=True))
    design = Design.of(np.array(values)[:, None], keys)
    found = cluster_variances(design, (design.table - design.table.mean()) / 60)[0]
    assert found == pytest.approx(loops(values, [way.tolist() for way in ways]))


def test_of_a_mean_influences_are_deviations():
    columns = np.column_stack([[1.0, 2.0, 6.0], np.ones(3)])
    assert influences(columns, lambda s: s[..., 0] / s[..., 1]) == pytest.approx([-2 / 3, -1 / 3, 1])


def test_f1_by_hand():
    """tp, gold, predicted (1, 1, 1) and (0, 1, 1): F1 = 200 · 1 / 4 = 50, its derivatives 50, −12.5 and −12.5.

    Items: 50 − 25 = 25 and 0 − 25 = −25.
    """
    columns = np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    assert gradient(f1, columns.sum(axis=0)) == pytest.approx([50, -12.5, -12.5])
    assert influences(columns, f1) == pytest.approx([25, -25])


def test_linearized_f1_varies_as_the_jackknife_says():
    """An independent route to the variance: leave each of 30 clusters out, by 3 items with 0 to 3 mentions each."""
    draw = np.random.default_rng(1)
    gold = draw.integers(0, 4, size=90)
    tp = draw.binomial(gold, 0.7)
    columns, keys = np.column_stack([tp, gold, tp + draw.binomial(2, 0.3, size=90)]).astype(float), np.arange(90) // 3
    left = [f1(columns[keys != g].sum(axis=0)) for g in range(30)]
    jackknife = 29 / 30 * sum((x - np.mean(left)) ** 2 for x in left)
    design = Design.of(columns, keys.tolist())
    found = cluster_variances(design, influences(design.table, f1)[:, None])[0]
    assert found == pytest.approx(jackknife, rel=0.1)


def test_two_factors_are_never_less_than_one():
    """Where associations are as good as random, the two-way sum can fall below the variance over voices alone."""
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=(36, 1))
        keys = list(itertools.product(range(6), range(6)))
        alone = max(loops(values[:, 0].tolist(), [[k[way] for k in keys]]) for way in (0, 1))
        design = Design.of(values, keys)
        assert cluster_variances(design, (design.table - design.table.mean()) / 36)[0] >= alone - 1e-12
