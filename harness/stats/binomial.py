"""Bounds of shares by counting: sound where a mean of bounded items lies near an end of its range."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betaincinv  # scipy.stats holds the same, but takes a second to import

from harness.errors import OptionError, SampleError
from harness.stats.design import FEWEST_CLUSTERS, Floats

Bounds = tuple[float, float]
#: Items away from an end of the support up to which counting bounds a mean, and from which on it does not.
_ITEMS_AWAY = (5, 10)
#: The same of a mean of items of 0 or 1, as a share of the support: there it is what such items are made for.
_SHARE_AWAY = (0.15, 0.3)
#: Share of items between the ends up to which items count as of 0 or 1 (ties get shares).
_BETWEEN = 0.1


def clopper_pearson_ci(successes: float, n: float, *, level: float = 0.95) -> Bounds:
    """Interval of a proportion without clusters that covers at least as often as stated.

    The successes for which either tail of the binomial holds half of what the level leaves (Clopper & Pearson 1934,
    Biometrika 26), by quantiles of the beta distribution, which also take successes that are not whole.

    Args:
        successes: 0 to n.
        n: independent trials, or the effective number of them, > 0.
        level: confidence level, in (0, 1).

    Raises:
        SampleError: if there are no trials, or more successes than trials.
        OptionError: if the level is not in (0, 1).
    """
    if not (n > 0 and 0 <= successes <= n):
        raise SampleError(f"A proportion needs 0 ≤ successes ≤ n and n > 0; found {successes} of {n}.")
    tail = (1 - checked_level(level)) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


def mean_bounds(value: float, n: float, support: Bounds, level: float) -> Bounds:
    """Clopper–Pearson's interval of a mean of `n` effective items, put on its support."""
    width = support[1] - support[0]
    share = min(max((value - support[0]) / width, 0.0), 1.0)
    low, high = clopper_pearson_ci(share * n, n, level=level)
    return support[0] + width * low, support[0] + width * high


def nearness_of_items(values: Floats, support: Bounds) -> float:
    """How far counting bounds the mean of these items (n,): 1 near an end of the support, 0 in the middle, in between.

    Of items of 0 or 1: 1 up to a mean 0.15 away, 0 from 0.3. Of others: 1 up to 5 items that lie elsewhere, 0 from 10.
    """
    width = support[1] - support[0]
    at_low, at_high = (np.isclose(values, end, rtol=0, atol=1e-9 * width) for end in support)
    if len(values) - np.sum(at_low | at_high) <= _BETWEEN * len(values):
        share = float((values.mean() - support[0]) / width)
        return _falling(min(share, 1 - share), _SHARE_AWAY)
    return _falling(len(values) - int(max(np.sum(at_low), np.sum(at_high))), _ITEMS_AWAY)


def nearness(value: float, support: Bounds, n: float) -> float:
    """The same of a statistic of `n` effective items that is not a mean: 1 where a share is up to 5 items away."""
    away = min(value - support[0], support[1] - value) / (support[1] - support[0])
    return _falling(away * n, _ITEMS_AWAY)


def _falling(away: float, ends: tuple[float, float]) -> float:
    return float(np.clip((ends[1] - away) / (ends[1] - ends[0]), 0, 1))


def difference_bounds(differences: Floats, discordant: int, n: float, span: float) -> tuple[Bounds, float]:
    """Bounds of a mean of paired differences by counting, with their nearness as `nearness_of_items` has it.

    With b and c the shares of items that the first and the second win, and U the upper bound of
    `clopper_pearson_ci`: [−U(c), U(b)] where fewer than 6 clusters differ, so few that no test can tell which side is
    better. Where more do, for items of 0 or 1 b − c with the bounds of both shares combined (MOVER; Zou & Donner 2008,
    Statistics in Medicine 27), which is the same for b = c = 0.

    Args:
        differences: (n,) first − second.
        discordant: clusters whose differences do not add up to 0.
        n: effective items.
        span: greatest less least value that an item can have.
    """
    shares = differences / span
    b, c = (float(np.clip(sign * shares, 0, 1).mean()) for sign in (1, -1))
    bounds_b, bounds_c = (clopper_pearson_ci(share * n, n) for share in (b, c))
    if discordant < FEWEST_CLUSTERS:
        return (-span * bounds_c[1], span * bounds_b[1]), 1.0
    of_others = np.sum(~np.isclose(np.abs(shares), 0) & ~np.isclose(np.abs(shares), 1))
    away = max(min(share, 1 - share) for share in (b, c))
    low = b - c - math.hypot(b - bounds_b[0], bounds_c[1] - c)
    high = b - c + math.hypot(bounds_b[1] - b, c - bounds_c[0])
    return (span * low, span * high), _falling(away, _SHARE_AWAY) if of_others <= _BETWEEN * len(shares) else 0.0


def widened(bounds: Bounds | None, other: Bounds, share: float) -> Bounds | None:
    """Bounds moved by this share of the way to where they hold the others too; the others where there are none."""
    if bounds is None:
        return other
    return bounds[0] - share * max(bounds[0] - other[0], 0), bounds[1] + share * max(other[1] - bounds[1], 0)


def checked_level(level: float) -> float:
    """The confidence level.

    Raises:
        OptionError: if it is not in (0, 1).
    """
    if not 0 < level < 1:
        raise OptionError(f"A confidence level lies in (0, 1); found {level}. Write 95 % as 0.95.")
    return level
