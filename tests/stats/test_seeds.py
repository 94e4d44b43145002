"""Seeds as a factor: by hand, by loops over components, by what simulations must show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.errors import SampleError
from harness.stats import (
    Arm,
    bootstrap_ci,
    bootstrap_sums_ci,
    paired_difference,
    pseudo_values,
    seeded_ci,
    seeded_difference,
)
from harness.stats.design import Design
from harness.stats.seeds import crossed_variance


def f1(sums):
    return 200 * sums[..., 0] / (sums[..., 1] + sums[..., 2])


def variance_of(*arms, weights=None, keys=None):
    """Of arms whose items are in the order of the design."""
    n = len(arms[0].counts)
    design = Design.of(np.arange(n, dtype=float)[:, None], keys)
    return crossed_variance(arms, np.ones(len(arms)) if weights is None else np.array(weights), design)


def components(sides, keys):
    """V and its degrees of freedom by loops: one recipe, or the difference of two, of values (n, S)."""
    groups, n = sorted(set(keys)), len(keys)

    def clustered(values):
        mean = sum(values) / n
        sums = [sum(v - mean for v, k in zip(values, keys, strict=True) if k == g) for g in groups]
        return len(groups) / (len(groups) - 1) * sum(s * s for s in sums) / n**2

    of_seeds = of_both = 0.0
    averaged = [0.0] * n
    for sign, values in zip((1, -1), sides, strict=False):
        seeds = len(values[0])
        scores = [sum(row[s] for row in values) / n for s in range(seeds)]
        grand = sum(scores) / seeds
        of_seeds += sum((m - grand) ** 2 for m in scores) / (seeds - 1) / seeds
        means = [sum(row) / seeds for row in values]
        left = [[values[i][s] - means[i] - scores[s] + grand for i in range(n)] for s in range(seeds)]
        of_both += sum(clustered(row) for row in left) / (seeds - 1) / seeds
        averaged = [a + sign * m for a, m in zip(averaged, means, strict=True)]
    of_items = clustered(averaged)
    variance = max(of_seeds + of_items - of_both, of_seeds, of_items)
    degrees = sum(len(values[0]) - 1 for values in sides)
    return variance, variance**2 / (of_seeds**2 / degrees + of_items**2 / (len(groups) - 1))


def test_one_recipe_by_hand():
    """Four lone items, two seeds: 1 1 0 0 and 1 1 1 0, scores 1/2 and 3/4: V_s = (1/32) / 2 = 1/64.

    Means of items 1, 1, 1/2, 0, of all 5/8: deviations 3/8, 3/8, −1/8, −5/8; V_i = 4/3 · (44/64) / 16 = 11/192. What is
    left of the second seed is 0, 0, 1/2, 0 less 1/8: −1/8, −1/8, 3/8, −1/8, of the first the opposite, squares 12/64:
    V_si = 2 · 4/3 · (12/64) / 16 / 1 / 2 = 1/64. V = V_s + V_i − V_si = 11/192; V² / (V_s² / 1 + V_i² / 3) degrees.
    """
    variance, freedom = variance_of(Arm.of_means([[1, 1], [1, 1], [0, 1], [0, 0]]))
    assert variance == pytest.approx(11 / 192)
    assert freedom == pytest.approx((11 / 192) ** 2 / (1 / 64**2 + (11 / 192) ** 2 / 3))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 4), st.booleans())
def test_it_is_what_loops_find(seed, seeds, paired):
    draw = np.random.default_rng(seed)
    sides = [draw.normal(size=(24, seeds)) + draw.normal(size=seeds) for _ in range(1 + paired)]
    keys = [i // 3 for i in range(24)]
    found = variance_of(*map(Arm.of_means, sides), weights=[1, -1][: 1 + paired], keys=keys)
    assert found == pytest.approx(components([side.tolist() for side in sides], keys))


def test_items_that_every_seed_answers_alike_are_as_many_as_with_one():
    """Seeds that agree: V_s = V_si = 0 and V = V_i; the interval is t with 23 degrees of freedom, not narrower."""
    values = np.random.default_rng(0).random(72)
    keys = [i % 24 for i in range(72)]
    interval = seeded_ci([Arm.of_means(np.column_stack([values] * 5))], keys, seed=0)
    usual = bootstrap_ci(values, keys, seed=0).bounds
    assert interval.bounds == pytest.approx(usual, abs=0.01)
    assert (interval.value, interval.n, interval.method) == (pytest.approx(values.mean()), 72, "t")


def test_seeds_that_differ_widen_it_by_their_t():
    """All items alike, scores 60, 70, 80: V = 100 / 3, 2 degrees of freedom, 70 ± 4.303 · 5.774."""
    values = np.ones((30, 1)) * [60.0, 70.0, 80.0]
    interval = seeded_ci([Arm.of_means(values)], None, seed=0)
    assert interval.bounds == pytest.approx((70 - 4.3027 * 5.7735, 70 + 4.3027 * 5.7735), abs=1e-3)


def test_one_seed_speaks_of_these_weights():
    values = np.random.default_rng(0).integers(0, 2, size=(60, 1)) * 100.0
    keys = [i % 12 for i in range(60)]
    trained, fixed = (
        seeded_ci([Arm.of_means(values, is_trained=t)], keys, seed=0, support=(0, 100)) for t in (True, False)
    )
    assert (trained.given, fixed.given) == (("weights",), ())
    counts = np.column_stack([values[:, 0], np.ones(60)])
    assert trained.bounds == fixed.bounds
    assert (
        trained.bounds
        == bootstrap_sums_ci(counts, lambda s: s[..., 0] / s[..., 1], keys, seed=0, support=(0, 100)).bounds
    )


def test_a_baseline_needs_no_seeds():
    """Above a baseline that is right on every third item: the seeds are those of the recipe alone."""
    draw = np.random.default_rng(0)
    values, fixed = draw.random((60, 3)), (np.arange(60) % 3 == 0).astype(float)
    arms = [Arm.of_means(values), Arm.of_means(fixed[:, None], is_trained=False)]
    keys = [i % 12 for i in range(60)]
    interval = seeded_ci(arms, keys, seed=0, combine=lambda a, b: a - b)
    shifted = seeded_ci([Arm.of_means(values - fixed[:, None])], keys, seed=0)
    assert interval.given == ()
    assert interval.value == pytest.approx(values.mean() - fixed.mean())
    assert interval.bounds == pytest.approx(shifted.bounds)


def test_a_ratio_is_linearized():
    """a / b varies as a − (a / b) b does, over b."""
    draw = np.random.default_rng(1)
    a, b = draw.random((60, 3)) + 1, draw.random((60, 3)) + 2
    keys = [i % 12 for i in range(60)]
    found = seeded_ci([Arm.of_means(a), Arm.of_means(b)], keys, seed=0, combine=lambda x, y: x / y)
    ratio = a.mean() / b.mean()
    arms = [Arm.of_means(a / b.mean()), Arm.of_means(ratio * b / b.mean())]
    expected = seeded_ci(arms, keys, seed=0, combine=lambda x, y: x - y)
    assert found.value == pytest.approx(ratio)
    assert found.bounds == pytest.approx([ratio + x for x in expected.bounds], abs=1e-6)


def test_saturated_recipes_have_intervals_of_some_width():
    right = np.full((100, 3), 100.0)
    alone = seeded_ci([Arm.of_means(right)], None, seed=0, support=(0, 100))
    assert alone.bounds == pytest.approx((96.38, 100), abs=0.01)
    both = seeded_ci([Arm.of_means(right)] * 2, None, seed=0, combine=lambda a, b: a - b, support=(-100, 100))
    assert both.bounds == pytest.approx((-3.62, 3.62), abs=0.01)
    found = seeded_difference(right, right, seed=0)
    assert (found.difference, found.p_value, found.minimum_detectable_effect) == (0, 1, None)
    assert found.ci95 == pytest.approx((-3.62, 3.62), abs=0.01)


def test_a_difference_is_a_t_test_on_its_variance():
    draw = np.random.default_rng(2)
    a, b = draw.random((48, 3)) + 0.2 * draw.normal(size=3), draw.random((48, 5))
    keys = [i % 12 for i in range(48)]
    variance, freedom = components([a.tolist(), b.tolist()], keys)
    found = seeded_difference(a, b, keys, seed=0)
    half = scipy_stats.t.ppf(0.975, freedom) * variance**0.5
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.ci95 == pytest.approx((found.difference - half, found.difference + half))
    assert found.p_value == pytest.approx(2 * scipy_stats.t.sf(abs(found.difference) / variance**0.5, freedom))
    assert (found.test, found.n, found.num_clusters, found.interval.given) == ("t", 48, 12, ())
    mirrored = seeded_difference(b, a, keys, seed=0)
    assert mirrored.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]))
    assert mirrored.minimum_detectable_effect == pytest.approx(found.minimum_detectable_effect)


def test_seeds_as_items_would_find_what_seeds_explain():
    """Three seeds each, 70, 75, 80 against 60, 65, 70 on 240 items: 10 points, and no more than seeds differ."""
    draw = np.random.default_rng(0)
    a, b = (100.0 * (draw.random((240, 3)) < np.array(p)) for p in ((0.7, 0.75, 0.8), (0.6, 0.65, 0.7)))
    keys = [i % 24 for i in range(240)]
    pooled = paired_difference(a.T.ravel(), b.T.ravel(), keys * 3, seed=0)
    crossed = seeded_difference(a, b, keys, seed=0)
    assert pooled.p_value < 0.001
    assert crossed.p_value > 0.03
    assert crossed.minimum_detectable_effect > 10


def test_one_seed_compares_weights_and_not_recipes():
    draw = np.random.default_rng(0)
    a, b = draw.random((60, 1)), draw.random((60, 3))
    keys = [i % 12 for i in range(60)]
    found, usual = seeded_difference(a, b, keys, seed=0), paired_difference(a[:, 0], b.mean(axis=1), keys, seed=0)
    assert (found.test, found.interval.given) == ("sign-flip", ("weights",))
    assert (found.p_value, found.ci95) == (usual.p_value, usual.ci95)


def test_pseudo_values_average_to_the_score_and_are_what_the_mean_needs():
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 3, size=(40, 1)) + np.zeros((40, 3), int)
    counts = np.stack([draw.binomial(gold, 0.6), gold, gold + draw.binomial(1, 0.2, size=gold.shape)], -1).astype(float)
    arm, values = Arm(counts, f1), pseudo_values(counts, f1)
    assert values.mean(axis=0) == pytest.approx(arm.scores)
    keys = [i % 8 for i in range(40)]
    assert seeded_ci([arm], keys, seed=0).bounds == pytest.approx(
        seeded_ci([Arm.of_means(values)], keys, seed=0).bounds
    )


def test_recipes_are_tested_on_the_same_items():
    arms = [Arm.of_means(np.ones((n, 2))) for n in (3, 4)]
    with pytest.raises(SampleError, match=r"same items; found \[3, 4\]"):
        seeded_ci(arms, None, seed=0, combine=lambda a, b: a - b)
    with pytest.raises(SampleError, match="same items; found 3 and 4"):
        seeded_difference(np.ones((3, 2)), np.ones((4, 2)), seed=0)
