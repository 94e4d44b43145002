"""Variance of a statistic over items that depend on one another within clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.stats.design import Codes, Design, Floats, sums_by_cluster

#: Values `(…,)` of sums `(…, m)`.
Statistic = Callable[[Floats], Floats]
#: Step of the numeric derivative, as a share of the largest sum.
_STEP = 1e-5


def influences(columns: Floats, statistic: Statistic) -> Floats:
    """How much each item moves a statistic of sums, (n,), in the statistic's unit; they add up to 0.

    First-order (linearized, "delta method"; Davison & Hinkley 1997, section 2.7.2): the derivative at the sums times
    the item's columns, centered. Of a mean they are (x_i − mean) / n.

    Args:
        columns: (n, m), what is summed over items.
        statistic: of the sums, smooth where they lie.
    """
    found = columns @ gradient(statistic, columns.sum(axis=0))
    return np.asarray(found - found.mean())


def gradient(statistic: Statistic, at: Floats) -> Floats:
    """Derivative (m,) of a statistic at a vector (m,), by central differences."""
    step = _STEP * max(1.0, float(np.abs(at).max()))
    moved = step * np.eye(len(at))
    return np.asarray((statistic(at + moved) - statistic(at - moved)) / (2 * step))


def cluster_variances(design: Design, moved: Floats) -> Floats:
    """Variance of sums of influences over clusters, (q,), ≥ 0.

    G / (G − 1) · Σ_g (Σ_{i in g} u_i)² (Liang & Zeger 1986, Biometrika 73; the factor is for few clusters). Where
    clusters cross: max(V₁ + V₂ − V₁₂, V₁, V₂), V₁₂ over their intersections (Cameron, Gelbach & Miller 2011, Journal of
    Business & Economic Statistics 29).

    Args:
        design: of the items, in its order.
        moved: (n, q), influences in the design's order, each column adding up to 0.
    """
    one_way = [_one_way(moved, way) for way in design.ways]
    if len(one_way) == 1:
        return one_way[0]
    both = np.unique(design.ways[0] * design.n + design.ways[1], return_inverse=True)[1]
    return np.maximum(np.maximum(*one_way), one_way[0] + one_way[1] - _one_way(moved, both))


def _one_way(moved: Floats, way: Codes) -> Floats:
    sums = sums_by_cluster(moved, way)
    return np.asarray(np.sum(sums**2, axis=0) * (len(sums) / max(len(sums) - 1, 1)))
