"""How well families of surfaces predict mixtures that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import SweepError
from harness.sweep.gaussian_process import fit_gaussian_process
from harness.sweep.laws import fit_exponential_law, fit_linear, fit_quadratic
from harness.sweep.simplex import SAME, Floats
from harness.sweep.surface import Fit, Surface

#: Families by name.
FAMILIES: Mapping[str, Fit] = {
    "gaussian process": fit_gaussian_process,
    "quadratic": fit_quadratic,
    "exponential law": fit_exponential_law,
    "linear": fit_linear,
}
#: Parameters of each family over k parts; a Gaussian process has no fixed number.
_NUM_PARAMETERS: Mapping[str, Callable[[int], int]] = {
    "gaussian process": lambda k: 0,
    "quadratic": lambda k: k * (k + 1) // 2,
    "exponential law": lambda k: k + 1,
    "linear": lambda k: k,
}


def _affordable(k: int, num_mixtures: int) -> dict[str, Fit]:
    """Families that leave 2 degrees of freedom when a mixture is left out, from which their error is estimated."""
    return {name: fit for name, fit in FAMILIES.items() if _NUM_PARAMETERS[name](k) + 3 <= num_mixtures}


@dataclass(frozen=True)
class CrossValidated:
    """How well a family predicts mixtures that it has not seen.

    Attributes:
        family: its name.
        rmse: root mean squared error over left-out mixtures, on the scale of `LossScale`.
        r2: 1 − mean squared error / that of the mean of the others; 0 is no better than the mean.
    """

    family: str
    rmse: float
    r2: float


def cross_validate(mixtures: Floats, values: Floats, families: Mapping[str, Fit] | None = None) -> list[CrossValidated]:
    """Leave-one-mixture-out errors, best first; all seeds of a mixture are left out together.

    Args:
        mixtures: `(trials, k)`.
        values: `(trials,)`, on the scale of `LossScale`.
        families: to compare; None: those with few enough parameters for so many mixtures.

    Raises:
        SweepError: with fewer than 3 different mixtures.
    """
    groups = mixture_groups(mixtures)
    number = len(set(groups.tolist()))
    if number < 3:
        raise SweepError(f"Surfaces need at least 3 different mixtures; found {number}.")
    chosen = dict(families or _affordable(mixtures.shape[1], number))
    constant = _left_out(lambda x, y: _constant(y), mixtures, values, groups)
    baseline = float(np.mean((constant - values) ** 2)) or 1.0
    rows = []
    for name, fit in chosen.items():
        error = float(np.mean((_left_out(fit, mixtures, values, groups) - values) ** 2))
        rows.append(CrossValidated(name, float(np.sqrt(error)), 1 - error / baseline))
    return sorted(rows, key=lambda row: row.rmse)


def _constant(values: Floats) -> Surface:
    mean = float(values.mean())
    return Surface("mean", lambda points: (np.full(len(points), mean), np.zeros((len(points), len(points)))), 0.0)


def _left_out(fit: Fit, mixtures: Floats, values: Floats, groups: NDArray[np.int64]) -> Floats:
    out = np.empty(len(values))
    for group in np.unique(groups):
        left = groups == group
        out[left] = fit(mixtures[~left], values[~left]).mean(mixtures[left])
    return out


def mixture_groups(mixtures: Floats) -> NDArray[np.int64]:
    """A number for each row, the same for the same mixture."""
    seen: list[Floats] = []
    groups = []
    for mixture in mixtures:
        index = next((i for i, other in enumerate(seen) if np.abs(other - mixture).max() < 1e3 * SAME), len(seen))
        if index == len(seen):
            seen.append(mixture)
        groups.append(index)
    return np.array(groups, dtype=np.int64)


def best_surface(mixtures: Floats, values: Floats) -> tuple[Surface, list[CrossValidated]]:
    """The family with the least error on left-out mixtures, fitted to all trials; and all errors."""
    table = cross_validate(mixtures, values)
    name = next(row.family for row in table if row.family in FAMILIES)
    return FAMILIES[name](mixtures, values), table
