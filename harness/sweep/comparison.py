"""Comparisons of mixtures by seeds: Welch's t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from harness.sweep.simplex import Floats

#: Seeds that each side of a comparison needs.
ENOUGH_SEEDS = 3


@dataclass(frozen=True)
class SeedComparison:
    """Difference of the best mixture and the uniform one over new seeds, by Welch's t.

    Attributes:
        difference: best − uniform, in the metric's unit.
        ci95: its interval; None with fewer than 3 seeds on either side.
        p: two-sided; None likewise.
        seeds: number of seeds of the best mixture and of the uniform one.
        corrected: p after Holm's correction over the sweep's objectives, or over its other metrics.
    """

    difference: float | None
    ci95: tuple[float, float] | None
    p: float | None
    seeds: tuple[int, int]
    corrected: float | None = None

    @property
    def significant(self) -> bool | None:
        """Whether p, corrected if it is, lies below 0.05; None where it was not tested."""
        p = self.p if self.corrected is None else self.corrected
        return None if p is None else p < 0.05


def welch(a: Floats, b: Floats) -> SeedComparison:
    """Difference of means with Welch's interval and test; unequal variances, few seeds."""
    counts = (len(a), len(b))
    if min(counts) == 0:
        return SeedComparison(None, None, None, counts)
    difference = float(a.mean() - b.mean())
    if min(counts) < ENOUGH_SEEDS:
        return SeedComparison(difference, None, None, counts)
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    error = float(np.sqrt(parts.sum()))
    if error == 0:
        return SeedComparison(difference, (difference, difference), float(difference == 0), counts)
    freedom = parts.sum() ** 2 / (parts**2 / (np.array(counts) - 1)).sum()
    half = float(student.ppf(0.975, freedom)) * error
    p = 2 * float(student.sf(abs(difference) / error, freedom))
    return SeedComparison(difference, (difference - half, difference + half), p, counts)
