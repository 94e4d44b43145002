"""Points of the simplex: mixtures of k parts, shares ≥ 0 that sum to 1, as rows of `(points, k)` arrays."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import ConfigError

Floats = NDArray[np.float64]

#: Shares no further apart than this are the same share.
SAME = 1e-9


def lattice(k: int, degree: int) -> Floats:
    """The {k, m} simplex lattice of Scheffé (1958): every mixture of k parts whose shares are multiples of 1/m.

    Returns:
        `(C(m + k − 1, k − 1), k)` shares in lexicographic order.

    Raises:
        ConfigError: if k or m is below 1.
    """
    if k < 1 or degree < 1:
        raise ConfigError(f"A simplex lattice needs at least one part and a degree of 1; found {k} and {degree}.")
    bars = itertools.combinations(range(degree + k - 1), k - 1)
    edges = np.array([(-1, *places, degree + k - 1) for places in bars])
    return (np.diff(edges, axis=1) - 1) / degree


def scheffe_design(k: int, *, degree: int = 2, axial: bool = True) -> Floats:
    """A design over mixtures, the most informative points first, so that every prefix is a design too.

    The uniform mixture, the vertices, the other points of the {k, `degree`} lattice, then half-way points between
    centroid and vertices: 15 points for k = 4 and degree 2 (Scheffé 1958; Cornell 2002, ch. 2).
    """
    points = lattice(k, degree)
    corners = np.eye(k)
    inner = points[points.max(axis=1) < 1 - SAME]
    uniform = np.full((1, k), 1 / k)
    halfway = (corners + uniform) / 2 if axial else np.empty((0, k))
    return distinct(np.vstack([uniform, corners, inner, halfway]))


def distinct(points: Floats) -> Floats:
    """The points without repetitions, in the order of their first appearance."""
    seen: list[Floats] = []
    for point in points:
        if not any(np.abs(point - other).max() < SAME for other in seen):
            seen.append(point)
    return np.array(seen).reshape(-1, points.shape[1])


def from_lower_bounds(points: Floats, lower: ArrayLike) -> Floats:
    """Pseudo-components: the simplex shrunk to the mixtures whose shares are at least `lower`.

    Raises:
        ConfigError: if the lower bounds sum to 1 or more, which leaves nothing to vary.
    """
    bounds = np.asarray(lower, dtype=float)
    free = 1 - bounds.sum()
    if free <= SAME:
        raise ConfigError(f"The lower bounds of the parts sum to {bounds.sum():g}; they must sum to less than 1.")
    return np.asarray(bounds + free * points)


def within(points: Floats, upper: ArrayLike) -> NDArray[np.bool_]:
    """Which points keep every share at or below `upper`."""
    return np.asarray((points <= np.asarray(upper, dtype=float) + SAME).all(axis=1))


@dataclass(frozen=True)
class Repetition:
    """How many passes over each part's corpus a mixture takes, and how many are allowed.

    Attributes:
        pass_tokens: tokens of one pass over the corpus in each part's format.
        num_utterances: sequences in one pass, likewise; only those with word times can be alternating.
        tokens: budget of a training.
        unit: whether shares count tokens or samples.
        max_epochs: most passes allowed.
    """

    pass_tokens: tuple[float, ...]
    num_utterances: tuple[int, ...]
    tokens: float
    unit: Literal["tokens", "samples"]
    max_epochs: float

    def epochs(self, mixtures: Floats) -> Floats:
        """Passes over each part's corpus, `(points, k)`."""
        once = np.asarray(self.pass_tokens, dtype=float)
        if self.unit == "tokens":
            return np.asarray(self.tokens * mixtures / once)
        number = np.asarray(self.num_utterances, dtype=float)
        num_samples = self.tokens / (mixtures @ (once / number))
        return np.asarray(mixtures * num_samples[:, None] / number)

    def allows(self, mixtures: Floats) -> NDArray[np.bool_]:
        """Which mixtures repeat no part more often than `max_epochs`."""
        return np.asarray((self.epochs(mixtures) <= self.max_epochs + SAME).all(axis=1))


def fill(points: Floats, candidates: Floats, number: int) -> Floats:
    """`points` with candidates added up to `number`, each the one farthest from all chosen before (maximin)."""
    chosen = points
    while len(chosen) < number and len(candidates):
        gaps = (
            np.abs(candidates[:, None, :] - chosen[None, :, :]).sum(axis=2).min(axis=1)
            if len(chosen)
            else candidates.max(axis=1)
        )
        if gaps.max() < SAME:
            break
        chosen = np.vstack([chosen, candidates[int(np.argmax(gaps))]])
    return chosen


def describe(mixture: Sequence[float], parts: Sequence[str]) -> str:
    """A mixture in one line, in per cent: `speech 25 · text 50 · ast 25`; parts without a share are left out."""
    return " · ".join(f"{p} {100 * s:.3g}" for p, s in zip(parts, mixture, strict=True) if s > SAME)
