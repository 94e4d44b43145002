"""Clustered standard errors, and the smallest effect that a test on given items can detect."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from harness.errors import OptionError, SampleError
from harness.stats.design import FEWEST, Clusters, Codes, Design, Floats, sums_by_cluster, table_of


def clustered_se(values: ArrayLike, clusters: Clusters | None = None, *, crossed: Clusters | None = None) -> float:
    """Standard error of the mean of items that depend on one another within clusters, > 0.

    √(G / (G − 1) · Σ_g (Σ_{i in g} (x_i − mean))²) / n (Liang & Zeger 1986, Biometrika 73; Miller 2024, arXiv
    2411.00640, of evaluations; the factor G / (G − 1) is for few clusters). Where clusters cross: the two variances
    less that of their intersection (Cameron, Gelbach & Miller 2011, Journal of Business & Economic Statistics 29), or
    the larger of the two where that is larger.

    Args:
        values: (n,), finite.
        clusters: (n,) as in `bootstrap_ci`.
        crossed: (n,) as in `bootstrap_ci`.

    Raises:
        SampleError: if there is only one cluster or no spread between clusters, or as `bootstrap_ci`.
    """
    return math.sqrt(_spread(values, clusters, crossed)[0])


def minimum_detectable_effect(
    differences: ArrayLike,
    clusters: Clusters | None = None,
    *,
    crossed: Clusters | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float:
    """The smallest true mean difference that a two-sided test on these items detects with the stated power, > 0.

    (t_{1 − α/2} + t_{power}) × `clustered_se`, with G − 1 degrees of freedom for G effective clusters (Bloom 1995,
    Evaluation Review 19, "Minimum detectable effects"; with the normal's quantiles Miller 2024, arXiv 2411.00640).

    Args:
        differences: (n,) item by item between two runs. The values of one run stand in where there is no second:
            then it is the smallest distance of its mean from a fixed number.
        clusters: (n,) as in `bootstrap_ci`.
        crossed: (n,) as in `bootstrap_ci`.
        power: probability of detecting it, in (0.5, 1).
        alpha: two-sided level of the test, in (0, 1).

    Raises:
        SampleError: as `clustered_se`.
        OptionError: if power or alpha are out of range.
    """
    if not (0.5 < power < 1 and 0 < alpha < 1):
        raise OptionError(f"Power must lie in (0.5, 1) and alpha in (0, 1); found {power} and {alpha}.")
    variance, design = _spread(differences, clusters, crossed)
    return detectable(variance, design, power, alpha)


def _spread(values: ArrayLike, clusters: Clusters | None, crossed: Clusters | None) -> tuple[float, Design]:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise SampleError(f"A standard error is that of one vector; found the shape {column.shape}.")
    design = Design.of(table_of(column[:, None]), clusters, crossed)
    variance = variances_of(design)[0]
    if variance is None:
        raise SampleError(
            f"{design.n} items in {design.num_clusters} cluster(s) show no spread between clusters: "
            "there is no standard error."
        )
    return variance, design


def variances_of(design: Design) -> list[float | None]:
    """Squared `clustered_se` of each column; None without spread between two clusters or more."""
    if design.effective_clusters < FEWEST:
        return [None] * design.table.shape[1]
    centred = design.table - design.table.mean(axis=0)
    one_way = [_one_way(centred, way) for way in design.ways]
    variances = one_way[0]
    if len(design.ways) == 2:
        both = np.unique(design.ways[0] * design.n + design.ways[1], return_inverse=True)[1]
        variances = np.maximum(np.maximum(*one_way), sum(one_way) - _one_way(centred, both))
    scales = np.abs(design.table).max(axis=0)
    return [float(v) if v > (1e-12 * scale) ** 2 else None for v, scale in zip(variances, scales, strict=True)]


def _one_way(centred: Floats, way: Codes) -> Floats:
    sums = sums_by_cluster(centred, way)
    return np.asarray(np.sum(sums**2, axis=0) * len(sums) / (len(sums) - 1) / len(centred) ** 2)


def detectable(variance: float, design: Design, power: float, alpha: float) -> float:
    """`minimum_detectable_effect` at a squared standard error."""
    freedom = design.effective_clusters - 1
    quantiles = float(stdtrit(freedom, 1 - alpha / 2) + stdtrit(freedom, power))
    return quantiles * math.sqrt(variance)
