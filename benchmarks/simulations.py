"""Made-up worlds in which the truth is known, for benchmarks/statistics.py and tests/stats/test_coverage.py.

Recipes are tested on 240 items by 24 speakers. A recipe's answer to an item is right with a probability that item,
speaker and training seed decide; two recipes of one kind differ in nothing but their seeds.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from harness.metrics.classification import macro_f1
from harness.stats import (
    Arm,
    bootstrap_cis,
    minimum_detectable_effect,
    paired_differences,
    pseudo_values,
    seeded_ci,
    seeded_difference,
)

Floats = NDArray[np.float64]
ITEMS, SPEAKERS = 240, 24
SPEAKER_OF = [i % SPEAKERS for i in range(ITEMS)]
#: Probability of right answers: mean, and standard deviation of items and of speakers.
MEAN, OF_ITEMS, OF_SPEAKERS = 0.7, 0.15, 0.1


def items_of(draw: np.random.Generator) -> Floats:
    """(n,), how likely each item is answered right."""
    return MEAN + OF_ITEMS * draw.normal(size=ITEMS) + OF_SPEAKERS * draw.normal(size=SPEAKERS)[SPEAKER_OF]


def true_score(points: float) -> float:
    """Per cent of right answers over all items, speakers and seeds whose scores have this standard deviation."""
    spread = np.sqrt(OF_ITEMS**2 + OF_SPEAKERS**2 + (points / 100) ** 2)
    grid = MEAN + spread * np.linspace(-8, 8, 100_001)
    weights = np.exp(-0.5 * ((grid - MEAN) / spread) ** 2)
    return float(100 * np.clip(grid, 0, 1) @ weights / weights.sum())


def answers(draw: np.random.Generator, items: Floats, seeds: int, points: float) -> Floats:
    """(n, S): 100 where a seed's answer to an item is right, else 0."""
    likely = items[:, None] + points / 100 * draw.normal(size=seeds)
    return 100.0 * (draw.random(likely.shape) < likely)


def confusions(draw: np.random.Generator, right: Floats) -> Floats:
    """(n, S, 12) counts of three classes: a wrong answer is one of the other two."""
    gold = np.arange(len(right)) % 3
    predicted = np.where(right > 0, gold[:, None], (gold[:, None] + draw.integers(1, 3, size=right.shape)) % 3)
    return np.eye(12)[gold[:, None] * 4 + predicted]


def macro(sums: Floats) -> Floats:
    """Macro F1 in per cent of summed `confusions`."""
    return np.asarray(macro_f1(sums.reshape(*sums.shape[:-1], 3, 4)))


def false_positives(worlds: int, seeds: int, points: float, *, f1: bool = False) -> dict[str, float]:
    """Share of worlds in which two recipes of one kind are said to differ, p < 0.05.

    `crossed`: by `seeded_difference`. `items`: by a test that takes every seed's every answer for an item of its own,
    within speakers. `level` is 0.05.
    """
    draw = np.random.default_rng([seeds, round(10 * points)])
    found, pooled = 0, []
    for _ in range(worlds):
        items = items_of(draw)
        a, b = (answers(draw, items, seeds, points) for _ in range(2))
        if f1:
            a, b = (pseudo_values(confusions(draw, side), macro) for side in (a, b))
        found += seeded_difference(a, b, SPEAKER_OF, seed=0).p_value < 0.05
        pooled.append((a - b).mean(axis=1))
    tests = paired_differences(np.column_stack(pooled), SPEAKER_OF, seed=0, num_resamples=2000)
    return {"crossed": found / worlds, "items": float(np.mean([t.p_value < 0.05 for t in tests]))}


def seed_coverage(worlds: int, seeds: int, points: float) -> dict[str, float]:
    """Share of worlds whose interval holds the score over all seeds and items.

    `crossed`: of `seeded_ci`. `items`: of the clustered bootstrap of seeds' means.
    """
    draw = np.random.default_rng([100 + seeds, round(10 * points)])
    truth, held, means = true_score(points), 0, []
    for _ in range(worlds):
        values = answers(draw, items_of(draw), seeds, points)
        low, high = seeded_ci([Arm.of_means(values)], SPEAKER_OF, seed=0, support=(0, 100)).bounds or (0, 0)
        held += low <= truth <= high
        means.append(values.mean(axis=1))
    intervals = bootstrap_cis(np.column_stack(means), SPEAKER_OF, seed=0, num_resamples=4000)
    return {"crossed": held / worlds, "items": holding([i.bounds for i in intervals], truth)}


def share_coverage(worlds: int, p: float, n: int, clusters: int, correlation: float) -> dict[str, float]:
    """Share of worlds whose interval of a share holds it: with the bounds by counting, and the bootstrap's alone.

    Clusters have shares of their own, from a beta distribution that gives this intra-class correlation.
    """
    draw = np.random.default_rng([n, clusters, round(1e6 * p)])
    keys = np.arange(n) % clusters
    if correlation:
        total = 1 / correlation - 1
        shares = draw.beta(p * total, (1 - p) * total, size=(clusters, worlds))
    else:
        shares = np.full((clusters, worlds), p)
    values = (draw.random((n, worlds)) < shares[keys]).astype(float)
    both, alone = (bootstrap_cis(values, keys.tolist(), seed=0, support=support) for support in ((0, 1), None))
    return {"counted": holding([i.bounds for i in both], p), "bootstrap": holding([i.bounds for i in alone], p)}


def crossed_coverage(
    worlds: int, *, n: int = 240, of_voices: float = 0.2, of_associations: float = 0.2, right: bool = False
) -> dict[str, float]:
    """Share of worlds whose interval of a mean over 12 voices × 20 associations holds it: two-way, and by voice alone.

    Args:
        worlds: how many.
        n: items: with 240 one of each pair, with fewer as many pairs drawn anew in each hundred of worlds.
        of_voices: share of an item's variance that is the voice's.
        of_associations: the same of the association.
        right: items are right (1) or wrong (0), 60 % right, instead of normal.
    """
    draw = np.random.default_rng([n, round(1000 * of_voices), round(1000 * of_associations), right])
    two_way, one_way = [], []
    truth = 0.6 if right else 0.0
    for _ in range(10):
        pairs = draw.permutation(240)[:n]
        voices, associations = (pairs // 20).tolist(), (pairs % 20).tolist()
        size = worlds // 10
        values = (
            np.sqrt(of_voices) * draw.normal(size=(12, size))[voices]
            + np.sqrt(of_associations) * draw.normal(size=(20, size))[associations]
            + np.sqrt(1 - of_voices - of_associations) * draw.normal(size=(n, size))
        )
        values = (values < ndtri(0.6)).astype(float) if right else values
        keys = list(zip(voices, associations, strict=True))
        support = (0.0, 1.0) if right else None
        two_way += [i.bounds for i in bootstrap_cis(values, keys, seed=0, support=support)]
        one_way += [i.bounds for i in bootstrap_cis(values, voices, seed=0, support=support, num_resamples=4000)]
    return {"two-way": holding(two_way, truth), "by voice": holding(one_way, truth)}


def power(worlds: int, clusters: int) -> float:
    """Share of worlds in which the sign-flip test finds the difference that is said to be found in 80 %.

    That difference is the mean of what `minimum_detectable_effect` says of the worlds.
    """
    draw, keys = np.random.default_rng(clusters), np.repeat(np.arange(clusters), 5).tolist()
    noise = draw.normal(size=(clusters, worlds))[keys] + draw.normal(size=(5 * clusters, worlds))
    effect = np.mean([minimum_detectable_effect(column, keys) for column in noise.T[:200]])
    tests = paired_differences(noise + effect, keys, seed=0, num_resamples=2000)
    return float(np.mean([t.p_value <= 0.05 for t in tests]))


def seed_power(worlds: int, seeds: int, points: float) -> tuple[float, float]:
    """The mean minimum detectable effect of recipes, and the share of worlds in which it is found."""
    draw = np.random.default_rng([200 + seeds, round(10 * points)])

    def pair(effect: float) -> tuple[Floats, Floats]:
        items = items_of(draw)
        worse, better = (answers(draw, items, seeds, points) for _ in range(2))
        return worse, better + effect

    effects = [seeded_difference(*pair(0.0), SPEAKER_OF, seed=0).minimum_detectable_effect for _ in range(worlds)]
    effect = float(np.mean([e for e in effects if e is not None]))
    return effect, float(
        np.mean([seeded_difference(*pair(effect), SPEAKER_OF, seed=0).p_value < 0.05 for _ in range(worlds)])
    )


def holding(intervals: list[tuple[float, float] | None], truth: float) -> float:
    """Share of intervals that hold the truth; none holds nothing."""
    return float(np.mean([i is not None and i[0] <= truth <= i[1] for i in intervals]))


def main() -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(description="Coverage and error rates of harness.stats, simulated.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the worlds")
    worlds, start = 150 if parser.parse_args().quick else 1500, time.process_time()
    print(f"{worlds:,} worlds a row\n")
    _seed_tables(worlds)
    _share_table(worlds)
    _crossed_table(worlds)
    _power_tables(worlds)
    print(f"\n{time.process_time() - start:.0f} s of CPU time")


def _seed_tables(worlds: int) -> None:
    print("| seeds | seed std | false positives | of macro F1 | seed × item as items | coverage | of items alone |")
    print("|---|---|---|---|---|---|---|")
    for seeds in (3, 5):
        for points in (0, 4.5, 7):
            errs, f1 = (false_positives(worlds, seeds, points, f1=f1) for f1 in (False, True))
            held = seed_coverage(worlds, seeds, points)
            rates = (errs["crossed"], f1["crossed"], errs["items"], held["crossed"], held["items"])
            print(f"| {seeds} | {points} | " + " | ".join(f"{rate:.3f}" for rate in rates) + " |", flush=True)


def _share_table(worlds: int) -> None:
    print("\n| p | n | 6 clusters | 12 | 24 | bootstrap alone: 6 | 12 | 24 |\n|---|---|---|---|---|---|---|---|")
    for p in (0.9, 0.95, 0.98, 0.99, 0.999):
        for n in (100, 400):
            for correlation in (0.0, 0.05):
                found = [share_coverage(worlds, p, n, g, correlation) for g in (6, 12, 24)]
                rates = [f[kind] for kind in ("counted", "bootstrap") for f in found]
                name = f"{p}{f', correlation {correlation}' if correlation else ''}"
                print(f"| {name} | {n} | " + " | ".join(f"{rate:.3f}" for rate in rates) + " |", flush=True)


def _crossed_table(worlds: int) -> None:
    print("\n| 12 voices × 20 associations | items | two-way | by voice alone |\n|---|---|---|---|")
    for n in (240, 100):
        for of_voices, of_associations in ((0.0, 0.0), (0.05, 0.05), (0.2, 0.2), (0.05, 0.3), (0.3, 0.05)):
            for right in (False, True):
                found = crossed_coverage(worlds, n=n, of_voices=of_voices, of_associations=of_associations, right=right)
                kind = "right or wrong" if right else "normal"
                name = f"{kind}, {100 * of_voices:.0f} % and {100 * of_associations:.0f} % of the variance"
                print(f"| {name} | {n} | {found['two-way']:.3f} | {found['by voice']:.3f} |", flush=True)


def _power_tables(worlds: int) -> None:
    print("\n| clusters | power of the sign-flip test at its minimum detectable effect |\n|---|---|")
    for clusters in (6, 8, 12, 16, 24):
        print(f"| {clusters} | {power(worlds, clusters):.3f} |", flush=True)
    print("\n| seeds | seed std | minimum detectable effect of recipes, points | power there |\n|---|---|---|---|")
    for seeds in (3, 5):
        for points in (4.5, 7):
            effect, share = seed_power(worlds, seeds, points)
            print(f"| {seeds} | {points} | {effect:.1f} | {share:.3f} |", flush=True)
