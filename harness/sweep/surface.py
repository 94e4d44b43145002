"""Response surfaces: a metric as a function of the mixture, fitted to trials, with uncertainty.

Every surface predicts means and a joint covariance, so that mixtures can be compared with each other. Surfaces are of
losses on the scale of `LossScale`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.sweep.simplex import Floats

#: Losses are clipped at this share of the unit below the best trial: the scale is undefined at a whole unit.
DEEPEST = 0.95


@dataclass(frozen=True)
class LossScale:
    """The scale on which surfaces are fitted: log(1 + (loss − best) / unit).

    It is linear near the best loss and logarithmic far from it. A mixture that leaves out a part that the metric needs
    has a loss many times further away than all others, and would dominate every fit on the plain scale.

    Attributes:
        best: the least loss of the trials.
        unit: half of the trials' losses are within this distance of it; > 0.
    """

    best: float
    unit: float

    @classmethod
    def of(cls, losses: Floats) -> LossScale:
        """The scale of trials, `(trials,)`."""
        best = float(losses.min())
        return cls(best, float(np.median(losses)) - best or float(np.ptp(losses)) or 1.0)

    def scaled(self, losses: Floats) -> Floats:
        """From losses; they keep their order."""
        return np.asarray(np.log1p(np.maximum((losses - self.best) / self.unit, -DEEPEST)))

    def losses(self, scaled: Floats) -> Floats:
        """Back to losses."""
        return np.asarray(self.best + self.unit * np.expm1(scaled))

    def slope(self, scaled: Floats) -> Floats:
        """Change of the loss with the scale, > 0."""
        return np.asarray(self.unit * np.exp(scaled))


@dataclass(frozen=True)
class Surface:
    """A fitted surface.

    Attributes:
        name: of its family.
        predict: mixtures `(points, k)` → means `(points,)` and the covariance of the latent surface `(points, points)`.
        noise: standard deviation of trials around the surface.
        formula: the fitted formula in the metric's unit or on the scale; empty if there is none.
    """

    name: str
    predict: Callable[[Floats], tuple[Floats, Floats]]
    noise: float
    formula: Callable[[LossScale], str] = lambda _: ""

    def mean(self, mixtures: Floats) -> Floats:
        """The means alone."""
        return self.predict(mixtures)[0]

    def draws(self, mixtures: Floats, number: int, *, seed: int) -> Floats:
        """Surfaces drawn from the posterior at these mixtures, `(number, points)`."""
        mean, covariance = self.predict(mixtures)
        symmetric = (covariance + covariance.T) / 2
        try:
            root = np.linalg.cholesky(symmetric + 1e-9 * np.trace(symmetric) / len(mean) * np.eye(len(mean)))
        except np.linalg.LinAlgError:  # indefinite by rounding; slower, but always defined
            values, vectors = np.linalg.eigh(symmetric)
            root = vectors * np.sqrt(np.clip(values, 0, None))
        normal = np.random.default_rng(seed).standard_normal((number, len(mean)))
        return np.asarray(mean + normal @ root.T)


Fit = Callable[[Floats, Floats], Surface]
