"""Trained seeds as a random factor that crosses the items: every seed answers every item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import SampleError
from harness.stats.binomial import clopper_pearson_ci, nearness
from harness.stats.bootstrap import sums_interval
from harness.stats.design import Clusters, Design, Floats, table_of
from harness.stats.intervals import Frame, Interval
from harness.stats.paired import POWER, PairedDifference, near_zero, paired_difference, span_of, t_test
from harness.stats.power import unbiased_sd
from harness.stats.sign_flips import t_detectable
from harness.stats.variance import Statistic, cluster_variances, gradient, influences

#: What an interval takes as it is where a recipe was trained with one seed.
WEIGHTS = "weights"


@dataclass(frozen=True)
class Arm:
    """One recipe with its seeds, or a baseline that is not trained.

    Attributes:
        counts: (n, S, m), what the statistic is of, summed over items.
        statistic: maps sums (…, m) to scores (…,).
        is_trained: whether other seeds would give other answers.
    """

    counts: Floats
    statistic: Statistic
    is_trained: bool = True

    @classmethod
    def of_means(cls, values: ArrayLike, *, is_trained: bool = True) -> Arm:
        """Of the means over items of values (n, S).

        Raises:
            SampleError: if there are no values, or one is not finite.
        """
        table = table_of(values)
        return cls(np.stack([table, np.ones_like(table)], axis=-1), _mean, is_trained)

    @property
    def num_seeds(self) -> int:
        """S."""
        return int(self.counts.shape[1])

    @property
    def scores(self) -> Floats:
        """(S,)."""
        return self.statistic(self.counts.sum(axis=0))

    @property
    def influences(self) -> Floats:
        """(n, S), how much each item moves each seed's score."""
        return np.column_stack([influences(self.counts[:, s], self.statistic) for s in range(self.num_seeds)])


def seeded_ci(
    arms: Sequence[Arm],
    clusters: Clusters | None = None,
    *,
    seed: int,
    combine: Callable[..., Floats] = lambda score: score,
    num_resamples: int = 10_000,
    support: tuple[float, float] | None = None,
) -> Interval:
    """95 % interval of the mean score of a recipe over its seeds, or of a combination of several recipes' mean scores.

    It speaks of new seeds and new clusters of items: value ± t · √V with V as `crossed_variance` has it. Scores that
    are not means (F1) are linearized (`influences`). Where a recipe has one seed, the interval is the bootstrap's over
    items, says nothing of other seeds, and has `"weights"` in `given`. Near an end of the support, and without any
    spread, it is bounded by counting as in `bootstrap_sums_ci`.

    Args:
        arms: on the same items in the same order.
        clusters: (n,) as in `bootstrap_ci`.
        seed: of resamples, where there are any.
        combine: of as many scores as there are arms, such as their difference.
        num_resamples: bootstrap replicates, where there are any.
        support: least and greatest value of the combination.

    Raises:
        SampleError: if the arms have not the same items, or as `bootstrap_sums_ci`.
    """
    if len({len(arm.counts) for arm in arms}) != 1:
        raise SampleError(f"Recipes are tested on the same items; found {[len(arm.counts) for arm in arms]} of them.")
    alone = any(arm.is_trained and arm.num_seeds == 1 for arm in arms)
    arms, design = _ordered(arms, clusters)
    frame = Frame(design, support=support, given=(WEIGHTS,) * alone, is_share=len(arms) == 1)
    if alone or not any(arm.is_trained for arm in arms):
        interval = sums_interval(frame, _joined(arms, combine), seed, num_resamples)
    else:
        means = np.array([arm.scores.mean() for arm in arms])
        value = float(combine(*means))
        weights = gradient(lambda moved: combine(*np.moveaxis(moved, -1, 0)), means)
        near = 0.0 if support is None else nearness(value, support, design.effective_items)
        interval = frame.of_variance(value, *crossed_variance(arms, weights, design), near=near)
    if interval.bounds is None and support is not None and len(arms) > 1:
        half = clopper_pearson_ci(0, design.effective_items)[1] * (support[1] - support[0]) / 2
        return interval.widened((interval.value - half, interval.value + half))
    return interval


def seeded_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Clusters | None = None,
    *,
    seed: int,
    num_resamples: int = 10_000,
    support: tuple[float, float] | None = None,
    alpha: float = 0.05,
) -> PairedDifference:
    """Mean difference of two recipes on the same items, over seeds that are not paired with each other.

    A t test and a t interval with the variance of `crossed_variance`: seed × item are not so many independent items.
    Where a recipe has one seed it is `paired_difference` of the seeds' means instead, and `interval.given` has
    `"weights"`: it compares these weights, not the recipes.

    Args:
        a: (n, S) values of the first recipe's seeds.
        b: (n, S₂) of the second's, of as many or other seeds, in the same order of items.
        clusters: (n,) as in `bootstrap_ci`.
        seed: of resamples and flips, where there are any.
        num_resamples: bootstrap replicates and flips, where there are any.
        support: least and greatest value possible of an item; None: as `paired_difference`.
        alpha: as `paired_difference`.

    Raises:
        SampleError: if the numbers of items differ, or as `bootstrap_ci`.
    """
    first, second = table_of(a), table_of(b)
    if len(first) != len(second):
        raise SampleError(f"Paired values are of the same items; found {len(first)} and {len(second)}.")
    span = span_of([first, second], support)
    means = first.mean(axis=1), second.mean(axis=1)
    if min(first.shape[1], second.shape[1]) == 1:
        found = paired_difference(
            *means,
            clusters,
            seed=seed,
            num_resamples=num_resamples,
            support=None if span is None else (0.0, span),
            alpha=alpha,
        )
        return replace(found, interval=replace(found.interval, given=(WEIGHTS, *found.interval.given)))
    arms, design = _ordered([Arm.of_means(first), Arm.of_means(second)], clusters)
    variance, freedom = crossed_variance(arms, np.array([1.0, -1.0]), design)
    differences = arms[0].counts[..., 0].mean(axis=1) - arms[1].counts[..., 0].mean(axis=1)
    own = replace(design, table=differences[:, None])
    difference = float(differences.mean())
    interval = near_zero(Frame(own).of_variance(difference, variance, freedom, near=0), own, 0, span)
    effect = t_detectable(freedom, POWER, alpha) * unbiased_sd(variance, freedom) if variance else None
    return PairedDifference.of(interval, t_test(difference, variance, freedom), "t", 0.0, effect)


def crossed_variance(arms: Sequence[Arm], weights: Floats, design: Design) -> tuple[float, float]:
    """Variance of Σ weight · mean score over seeds and items, and its degrees of freedom.

    V = max(V_s + V_i − V_si, V_s, V_i). V_s = Σ var(scores) / S over recipes; V_i the `cluster_variances` of items
    averaged over seeds, paired between recipes; V_si = Σ of the same of what is left of items × seeds without either,
    per recipe and divided by S, which the first two both hold. It is the variance of two crossed random factors
    (Cameron, Gelbach & Miller 2011) by components (Searle, Casella & McCulloch 1992, "Variance Components"), and the
    degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2): V² / (V_s² / Σ(S − 1) + V_i² / (G − 1)).

    Args:
        arms: on the items of the design, in its order; those without several seeds have no part in V_s.
        weights: (arms,).
        design: of the items.
    """
    parts = [weight * arm.influences for arm, weight in zip(arms, weights, strict=True)]
    of_items = float(cluster_variances(design, sum(part.mean(axis=1) for part in parts)[:, None])[0])
    of_seeds, of_both, seeds = 0.0, 0.0, 0
    for arm, weight, part in zip(arms, weights, parts, strict=True):
        if (number := arm.num_seeds) > 1:
            left = part - part.mean(axis=1, keepdims=True)
            of_seeds += float(weight**2 * arm.scores.var(ddof=1) / number)
            of_both += float(cluster_variances(design, left).sum() / (number - 1) / number)
            seeds += number - 1
    variance = max(of_seeds + of_items - of_both, of_seeds, of_items)
    spread = (of_seeds**2 / seeds if seeds else 0.0) + of_items**2 / max(design.effective_clusters - 1, 1)
    return variance, variance**2 / spread if spread else design.effective_clusters - 1


def _mean(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _ordered(arms: Sequence[Arm], clusters: Clusters | None) -> tuple[list[Arm], Design]:
    """The design of the columns (n, Σ S m) of all arms, and the arms with their items in its order."""
    design = Design.of(
        table_of(np.concatenate([arm.counts.reshape(len(arm.counts), -1) for arm in arms], axis=1)), clusters
    )
    parts = np.split(design.table, _ends(arms), axis=1)
    return [replace(arm, counts=part.reshape(arm.counts.shape)) for arm, part in zip(arms, parts, strict=True)], design


def _ends(arms: Sequence[Arm]) -> list[int]:
    """Where the columns of each arm but the last end."""
    return [int(end) for end in np.cumsum([arm.counts[0].size for arm in arms])[:-1]]


def _joined(arms: Sequence[Arm], combine: Callable[..., Floats]) -> Statistic:
    """The combination of the arms' mean scores as a statistic of the sums of all their columns."""

    def statistic(sums: Floats) -> Floats:
        parts = np.split(sums, _ends(arms), axis=-1)
        shapes = [(*part.shape[:-1], *arm.counts.shape[1:]) for arm, part in zip(arms, parts, strict=True)]
        scores = [arm.statistic(part.reshape(shape)) for arm, part, shape in zip(arms, parts, shapes, strict=True)]
        return combine(*(score.mean(axis=-1) for score in scores))

    return statistic


def pseudo_values(counts: Floats, statistic: Statistic) -> Floats:
    """Values of items (n, S) whose mean over items is each seed's score, and whose spread is that of the score.

    Score + n · influence: with them, a score that is not a mean is compared item by item as a mean would be.

    Args:
        counts: (n, S, m), as `Arm.counts`.
        statistic: as `Arm.statistic`.
    """
    arm = Arm(counts, statistic)
    return np.asarray(arm.scores + len(counts) * arm.influences)
