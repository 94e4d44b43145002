"""Confidence intervals: of bootstrap draws, and of proportions without clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit  # scipy.stats holds the same, but takes a second to import

from harness.errors import OptionError, SampleError
from harness.results import Metric
from harness.stats.design import FEWEST, Design, Floats

#: An interval's tail must hold this many resamples, else its end is one lucky draw.
_TAIL = 10
#: Share of resamples that may leave the statistic undefined before the interval is.
_UNDEFINED = 0.01


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic with its confidence interval.

    Attributes:
        value: the statistic of all items.
        bounds: lower and upper end; None where the data do not determine any.
        n: items.
        num_clusters: clusters; the smaller number of the two where clusters are crossed.
        effective_clusters: equal-sized clusters that would weigh as much, ≤ `num_clusters`. Below about 20, read
            the interval with care.
        method: how the bounds were found. `percentile`: expanded percentiles of the bootstrap distribution. `t`: too
            few clusters for that, so value ± t × standard error. `wilson`: every item at the same end of the range.
            `constant`: every resample gives the same value. `none`: no bounds.
        level: the confidence level of the bounds.
    """

    value: float
    bounds: tuple[float, float] | None
    n: int
    num_clusters: int
    effective_clusters: float
    method: Literal["percentile", "t", "wilson", "constant", "none"]
    level: float

    def metric(self, *, higher_is_better: bool | None, chance: float | None = None) -> Metric:
        """This as a metric of a task.

        Raises:
            OptionError: if the level is not 0.95.
        """
        if self.level != 0.95:
            raise OptionError(f"Metrics are recorded with 95 % intervals; this one has the level {self.level}.")
        return Metric(self.value, self.n, higher_is_better, ci95=self.bounds, chance=chance)


def wilson_ci(successes: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion without clusters, sound at 0 and at `n` (Wilson 1927, JASA 22).

    Args:
        successes: 0 to n; need not be whole.
        n: independent trials (or the effective number of them), > 0.
        level: confidence level, in (0, 1).

    Raises:
        SampleError: if there are no trials, or more successes than trials.
    """
    if not (n > 0 and 0 <= successes <= n):
        raise SampleError(f"A proportion needs 0 ≤ successes ≤ n and n > 0; found {successes} of {n}.")
    z = float(ndtri((1 + _level(level)) / 2))
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if successes == 0 else middle - half, 1.0 if successes == n else middle + half)


def interval_of(
    value: float,
    draws: Floats,
    design: Design,
    num_resamples: int,
    level: float,
    support: tuple[float, float] | None,
    *,
    share: bool,
) -> Interval:
    """The interval of a statistic from its bootstrap draws (rows,); see `bootstrap_ci` for which method applies.

    Args:
        value: the statistic of all items.
        draws: of the statistic; NaN where a resample leaves it undefined.
        design: of the items.
        num_resamples: that were asked for; `draws` may be fewer.
        level: confidence level, in (0, 1).
        support: least and greatest value possible.
        share: whether Wilson's interval applies at an end of the support: to means, not to medians.

    Raises:
        OptionError: if the level is not in (0, 1).
    """
    tail = (1 - _level(level)) / 2
    effective = design.effective_clusters

    def made(
        method: Literal["percentile", "t", "wilson", "constant", "none"], bounds: tuple[float, float] | None
    ) -> Interval:
        if bounds is not None and support is not None:
            bounds = (max(bounds[0], float(support[0])), min(bounds[1], float(support[1])))
        return Interval(value, bounds, design.n, design.num_clusters, effective, method, level)

    draws = draws[np.isfinite(draws)]
    if effective < FEWEST or len(draws) < (1 - _UNDEFINED) * num_resamples:
        return made("none", None)
    if np.ptp(draws) <= 1e-12 * max(1.0, abs(value)):
        end = next((end for end in support or () if math.isclose(value, end, abs_tol=1e-12)), None)
        if support is None or end is None or not share:
            return made("constant", (value, value))
        low, high = wilson_ci(effective if end == support[1] else 0, effective, level=level)
        width = support[1] - support[0]
        return made("wilson", (support[0] + width * low, support[0] + width * high))
    inflation = math.sqrt(effective / (effective - 1)) * float(stdtrit(effective - 1, 1 - tail))
    expanded = float(ndtr(-inflation))
    if expanded < max(_TAIL / num_resamples, float(design.num_clusters) ** -design.num_clusters):
        half = inflation * float(np.std(draws))
        return made("t", (value - half, value + half))
    low, high = np.quantile(draws, [expanded, 1 - expanded])
    return made("percentile", (float(low), float(high)))


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise OptionError(f"A confidence level lies in (0, 1); found {level}. Write 95 % as 0.95.")
    return level
