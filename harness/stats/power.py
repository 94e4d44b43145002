"""Clustered standard errors, and the smallest effect that a test on given items can detect."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from harness.errors import OptionError, SampleError
from harness.stats.design import FEWEST, Clusters, Design, sizes, table_of
from harness.stats.sign_flips import flips_detectable, t_detectable
from harness.stats.variance import cluster_variances


def clustered_se(values: ArrayLike, clusters: Clusters | None = None, *, crossed: Clusters | None = None) -> float:
    """Standard error of the mean of items that depend on one another within clusters, > 0.

    The root of `cluster_variances` (Miller 2024, arXiv 2411.00640, on evaluations).

    Args:
        values: (n,), finite.
        clusters: (n,) as in `bootstrap_ci`; a factor of fewer than 6 clusters is left out, as there.
        crossed: (n,) as in `bootstrap_ci`.

    Raises:
        SampleError: if there is no spread between clusters, or as `bootstrap_ci`.
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
    """The smallest true mean difference that `paired_difference` on these items finds with the stated power, > 0.

    That is a multiple of the `clustered_se` (Bloom 1995, Evaluation Review 19, "Minimum detectable effects"), which
    depends on the test that is made: `flips_detectable`, and `t_detectable` where clusters cross.

    Args:
        differences: (n,) item by item between two runs. The values of one run stand in where there is no second:
            then it is the smallest distance of its mean from a fixed number.
        clusters: (n,) as in `bootstrap_ci`.
        crossed: (n,) as in `bootstrap_ci`.
        power: probability of detecting it, in (0.5, 1).
        alpha: two-sided level of the test, in (0, 1).

    Raises:
        SampleError: as `clustered_se`, or if the test cannot reject at this level, whatever the difference.
        OptionError: if power or alpha are out of range.
    """
    if not (0.5 < power < 1 and 0 < alpha < 1):
        raise OptionError(f"Power must lie in (0.5, 1) and alpha in (0, 1); found {power} and {alpha}.")
    variance, design = _spread(differences, clusters, crossed)
    found = detectable(variance, design, power, alpha)
    if found is None:
        raise SampleError(
            f"A sign-flip test of {design.num_clusters} clusters cannot reject at {alpha}: no difference is detectable."
        )
    return found


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
    variances = cluster_variances(design, (design.table - design.table.mean(axis=0)) / design.n)
    scales = np.abs(design.table).max(axis=0)
    return [float(v) if v > (1e-12 * scale) ** 2 else None for v, scale in zip(variances, scales, strict=True)]


def detectable(variance: float, design: Design, power: float, alpha: float) -> float | None:
    """`minimum_detectable_effect` at a squared standard error; None where the test cannot reject."""
    if len(design.ways) == 2:
        freedom = design.effective_clusters - 1
        multiple: float | None = t_detectable(freedom, power, alpha)
    else:
        freedom = design.num_clusters - 1
        multiple = flips_detectable(tuple(sorted(sizes(design.ways[0]))), power, alpha)
    return None if multiple is None else multiple * unbiased_sd(variance, freedom)


def unbiased_sd(variance: float, freedom: float) -> float:
    """The standard deviation of an estimated variance, which its root underestimates with few degrees of freedom.

    Divided by c₄ = √(2/f) Γ((f + 1)/2) / Γ(f/2), for normal data (Holtzman 1950, American Statistician 4).
    """
    c4 = math.exp(0.5 * math.log(2 / freedom) + float(gammaln((freedom + 1) / 2) - gammaln(freedom / 2)))
    return math.sqrt(variance) / c4
