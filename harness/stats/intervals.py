"""Confidence intervals: the record, and how one follows from bootstrap draws or from a standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import ndtr, stdtrit  # scipy.stats holds the same, but takes a second to import

from harness.errors import OptionError
from harness.results import Metric
from harness.stats.binomial import Bounds, checked_level, mean_bounds, widened
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
        bounds: lower and upper end, which differ; None where the data do not determine any.
        n: items.
        num_clusters: clusters; the smaller number of the two where clusters are crossed.
        effective_clusters: equal-sized clusters that would weigh as much, ≤ `num_clusters`. Below about 20, read
            the interval with care.
        method: how the bounds were found. `percentile`: expanded percentiles of the bootstrap distribution. `t`: value
            ± t × standard error. `binomial`: by counting alone, since items show no spread. `none`: no bounds. Those
            of bounded means near an end of their range are widened to hold those by counting too.
        level: the confidence level of the bounds.
        support: least and greatest value possible; None where it is not known.
        given: what the interval takes as it is and says nothing beyond: `"voices"` or `"groups"`, of which there are
            fewer than 6, and `"weights"`, of one training seed.
    """

    value: float
    bounds: Bounds | None
    n: int
    num_clusters: int
    effective_clusters: float
    method: Literal["percentile", "t", "binomial", "none"]
    level: float
    support: Bounds | None = None
    given: tuple[str, ...] = ()

    def metric(self, *, higher_is_better: bool | None, chance: float | None = None) -> Metric:
        """This as a metric of a task.

        Raises:
            OptionError: if the level is not 0.95.
        """
        if self.level != 0.95:
            raise OptionError(f"Metrics are recorded with 95 % intervals; this one has the level {self.level}.")
        return Metric(
            self.value,
            self.n,
            higher_is_better,
            ci95=self.bounds,
            chance=chance,
            support=self.support,
            given=self.given,
        )

    def widened(self, bounds: Bounds, share: float = 1.0) -> Interval:
        """The same with bounds moved by this share of the way to where they hold these too, and within the support."""
        method = "binomial" if self.bounds is None else self.method
        return replace(self, bounds=widened(self.bounds, bounds, share), method=method).clipped()

    def clipped(self) -> Interval:
        """The same with bounds within the support."""
        if self.bounds is None or self.support is None:
            return self
        return replace(self, bounds=(max(self.bounds[0], self.support[0]), min(self.bounds[1], self.support[1])))


@dataclass(frozen=True, slots=True)
class Frame:
    """What the intervals of several statistics over the same items have in common.

    Attributes:
        design: of the items.
        level: confidence level, in (0, 1).
        support: least and greatest value possible of the statistics.
        given: as `Interval.given`, beyond what the design takes as given.
        is_share: whether the statistics are means or shares of the items, which counting bounds; medians are not.
    """

    design: Design
    level: float = 0.95
    support: Bounds | None = None
    given: tuple[str, ...] = ()
    is_share: bool = True

    def of_draws(self, value: float, draws: Floats, num_resamples: int, *, near: float) -> Interval:
        """The interval of a statistic from its bootstrap draws; see `bootstrap_ci` for which method applies.

        Args:
            value: the statistic of all items.
            draws: (rows,), of the statistic; NaN where a resample leaves it undefined.
            num_resamples: that were asked for; `draws` may be fewer.
            near: how far counting bounds the statistic too, from 0 to 1.

        Raises:
            OptionError: if the level is not in (0, 1).
        """
        tail, effective = (1 - checked_level(self.level)) / 2, self.design.effective_clusters
        draws = draws[np.isfinite(draws)]
        if effective < FEWEST or len(draws) < (1 - _UNDEFINED) * num_resamples:
            return Interval(value, None, *self._sizes(), "none", self.level, self.support, self._given())
        if np.ptp(draws) <= 1e-12 * max(1.0, abs(value)):
            return self._made(value, None, "none", near=near)
        inflation = math.sqrt(effective / (effective - 1)) * float(stdtrit(effective - 1, 1 - tail))
        expanded = float(ndtr(-inflation))
        if expanded < max(_TAIL / num_resamples, float(self.design.num_clusters) ** -self.design.num_clusters):
            half = inflation * float(np.std(draws))
            return self._made(value, (value - half, value + half), "t", near=near)
        low, high = np.quantile(draws, [expanded, 1 - expanded])
        bounds = (float(low), float(high)) if low < high else None
        return self._made(value, bounds, "percentile" if bounds else "none", near=near)

    def of_variance(self, value: float, variance: float, freedom: float, *, near: float) -> Interval:
        """The interval value ± t · √variance at these degrees of freedom; `near` as in `of_draws`.

        Raises:
            OptionError: if the level is not in (0, 1).
        """
        tail = (1 - checked_level(self.level)) / 2
        if freedom <= 0:
            return Interval(value, None, *self._sizes(), "none", self.level, self.support, self._given())
        half = float(stdtrit(freedom, 1 - tail)) * math.sqrt(variance)
        if half <= 1e-12 * max(1.0, abs(value)):
            return self._made(value, None, "none", near=near)
        return self._made(value, (value - half, value + half), "t", near=near)

    def _sizes(self) -> tuple[int, int, float]:
        return self.design.n, self.design.num_clusters, self.design.effective_clusters

    def _given(self) -> tuple[str, ...]:
        return *self.given, *self.design.given

    def _made(
        self, value: float, bounds: Bounds | None, method: Literal["percentile", "t", "none"], *, near: float
    ) -> Interval:
        """With these bounds; widened to those by counting near an end of the support, and where there are none."""
        interval = Interval(value, bounds, *self._sizes(), method, self.level, self.support, self._given())
        if self.support is None or not self.is_share:
            return interval.clipped()
        return interval.widened(mean_bounds(value, self.design.effective_items, self.support, self.level), near)
