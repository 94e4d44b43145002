"""Acquisition: expected improvement, and the scalarization of several objectives."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from harness.sweep.gaussian_process import GaussianProcess
from harness.sweep.simplex import Floats


def expected_improvement(candidates: Floats, mixtures: Floats, losses: Floats, pending: Floats) -> Floats:
    """Expected improvement of each candidate over the best mean at a trained mixture, `(candidates,)`, ≥ 0.

    Args:
        candidates: `(candidates, k)`.
        mixtures: of finished trials, `(trials, k)`.
        losses: theirs, lower is better.
        pending: mixtures in training, `(running, k)`, which count as if their loss were the predicted mean.
    """
    process = GaussianProcess.fit(mixtures, losses).with_pending(pending)
    best = process.best_mean()
    mean = process.mean(candidates)
    deviation = np.maximum(process.deviation(candidates), 1e-12 * (1 + abs(best)))
    z = (best - mean) / deviation
    return np.asarray((best - mean) * norm.cdf(z) + deviation * norm.pdf(z))


def scalarize(losses: Floats, *, rng: np.random.Generator) -> Floats:
    """One loss per trial from several, with random weights λ: ParEGO (Knowles 2006).

    Each objective is put on [0, 1]; the augmented Chebyshev norm max λf + 0.05 Σ λf is returned. A single objective
    stays as it is.

    Args:
        losses: `(trials, objectives)`, lower is better.
        rng: draws the weights, uniformly on the simplex.
    """
    if losses.shape[1] == 1:
        return losses[:, 0]
    spread = np.ptp(losses, axis=0)
    weighted = rng.dirichlet(np.ones(losses.shape[1])) * (losses - losses.min(axis=0)) / np.where(spread > 0, spread, 1)
    return np.asarray(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))
