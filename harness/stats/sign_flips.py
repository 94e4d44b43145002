"""The sign-flip test over clusters: p-values, and what it can detect."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import nctdtrinc, stdtrit

from harness.stats.design import CHUNK, Floats

#: Up to this many clusters the test visits all 2^k flips.
_EXACT = 12
#: Random flips, and made-up data sets, that its power is found with.
_FLIPS, _DATA_SETS = 1999, 1000
#: From so many clusters on the power is that of a t test.
_MANY = 60
#: Fewest random flips among the critical ones, else their quantile is one lucky flip.
_TAIL = 10


def sign_flips(sums: Floats, seed: int, num_flips: int) -> tuple[Floats, Floats]:
    """Two-sided p-values (m,) that clusters' sums (G, m) are symmetric about 0, and the smallest ones possible (m,).

    Fisher's randomization test (Ernst 2004, Statistical Science 19): over all 2^G flips for G ≤ 12, else over seeded
    random ones with p = (1 + as extreme) / (1 + drawn) (Phipson & Smyth 2010, arXiv 1603.05766). Clusters whose sum is
    0 do not change with their sign: of k others the smallest p is 2 / 2^k.
    """
    clusters = len(sums)
    scale = np.abs(sums).sum(axis=0)
    observed = np.abs(sums.sum(axis=0)) - 1e-9 * scale
    least = 2.0 ** (1.0 - np.maximum(np.sum(np.abs(sums) > 1e-12 * scale, axis=0), 1))
    if clusters <= _EXACT:
        return np.asarray(np.mean(np.abs(_all_signs(clusters) @ sums) >= observed, axis=0)), least
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // clusters)
    extreme = np.zeros(sums.shape[1])
    for start in range(0, num_flips, step):
        rows = min(step, num_flips - start)
        extreme += np.sum(np.abs(_random_signs(generator, rows, clusters) @ sums) >= observed, axis=0)
    return (1 + extreme) / (1 + num_flips), np.maximum(least, 1 / (1 + num_flips))


@lru_cache(maxsize=256)
def flips_detectable(cluster_sizes: tuple[float, ...], power: float, alpha: float) -> float | None:
    """The mean that the test finds with this power, in standard errors; None if it never rejects.

    Found on 1,000 data sets whose clusters have normal means of one variance, each with the least shift at which it
    is rejected. Six equal clusters, for example, reject only where all have one sign, P = Φ(λ / √6)⁶: 4.39 standard
    errors for a power of 0.8, where a t test needs 3.51.

    Args:
        cluster_sizes: items in each cluster.
        power: probability of detecting it, in (0.5, 1).
        alpha: two-sided level of the test, in (0, 1).
    """
    weights = np.array(cluster_sizes) / sum(cluster_sizes)
    clusters, generator = len(weights), np.random.default_rng(0)
    if clusters <= _EXACT:
        signs = _all_signs(clusters)[
            1 : 2 ** (clusters - 1)
        ]  # one of each pair of opposite flips, and not the identity
    elif clusters < _MANY and alpha * _FLIPS >= _TAIL:
        signs = _random_signs(generator, _FLIPS, clusters)
    else:
        return t_detectable(clusters - 1, power, alpha)
    allowed = int(alpha * (len(signs) + 1) + 1e-9) - 1
    if allowed < 0:
        return None
    noise = generator.normal(size=(_DATA_SETS, clusters)) * weights / np.sqrt(np.sum(weights**2))
    return float(np.quantile(_critical_shifts(noise, weights, signs, allowed), power))


def t_detectable(freedom: float, power: float, alpha: float) -> float:
    """The mean that a two-sided t test finds with this power, in standard errors: by Student's noncentral t."""
    return float(nctdtrinc(freedom, 1 - power, stdtrit(freedom, 1 - alpha / 2)))


def _critical_shifts(noise: Floats, weights: Floats, signs: Floats, allowed: int) -> Floats:
    """(rows,): the least δ at which at most `allowed` flips of noise + δ · weights are as extreme as the sum itself.

    A flip with the sum M of noise and c of weights is as extreme as o + δ up to δ = (M − o) / (1 − c), its opposite up
    to (−M − o) / (1 + c).
    """
    flipped, own, of_weights = noise @ signs.T, noise.sum(axis=1, keepdims=True), signs @ weights
    upper, lower = (np.maximum(1 - side * of_weights, 1e-12) for side in (1, -1))
    until = np.maximum((flipped - own) / upper, (-flipped - own) / lower)
    return np.asarray(-np.partition(-until, allowed, axis=1)[:, allowed])


def _all_signs(clusters: int) -> Floats:
    """(2^G, G), the identity first and the opposites of the first half in the second."""
    return np.asarray(1.0 - 2.0 * (np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1), dtype=np.float64)


def _random_signs(generator: np.random.Generator, rows: int, clusters: int) -> Floats:
    return np.asarray(1.0 - 2.0 * generator.integers(2, size=(rows, clusters), dtype=np.int8), dtype=np.float64)
