"""Choice of the next token: temperature, top-k and top-p, and what rounding could change about it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from harness.config import STRICT
from harness.errors import CheckpointError, OptionError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Logits of one row differ between batches by less than half of this: rounding of float32, with two digits to spare.
_LOGIT_SLACK = 1e-3
#: The same of probabilities.
_PROBABILITY_SLACK = 1e-3


@dataclass(frozen=True, config=STRICT)
class Sampling:
    """How the next token is drawn from the softmax over the tokens that are allowed.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: only the k likeliest tokens; None: no limit.
        top_p: only the likeliest tokens that together reach this probability, at the temperature (Holtzman et al.
            2020, arXiv 1904.09751); a token must pass both.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or (self.top_k is not None and self.top_k < 1):
            raise OptionError(
                "Sampling needs temperature ≥ 0, 0 < top_p ≤ 1 and top_k ≥ 1; found "
                f"temperature={self.temperature}, top_p={self.top_p}, top_k={self.top_k}."
            )


def choose_tokens(logits: Floats, noise: Floats | None, sampling: Sampling) -> tuple[NDArray[np.int64], Bools]:
    """The column drawn in each row `(rows, columns)`, and whether rounding could not have drawn another."""
    perturbed = logits if noise is None else logits + sampling.temperature * noise
    certain, possible = _passing(logits, sampling)
    perturbed = np.where(possible, perturbed, -np.inf)
    columns = perturbed.argmax(1)
    rows = np.arange(len(columns))
    best = perturbed[rows, columns]
    if not np.isfinite(best).all():
        raise CheckpointError("The model gives no finite logit to any token allowed here; are its weights sound?")
    perturbed[rows, columns] = -np.inf
    return columns, certain[rows, columns] & (best - perturbed.max(1) > _LOGIT_SLACK)


def choose_token_alone(logits: Floats, noise: Floats | None, sampling: Sampling) -> int:
    """The column drawn in one row `(1, columns)`, whose logits are exact; the first of equals."""
    perturbed = logits if noise is None else logits + sampling.temperature * noise
    return int(np.where(_passing_exactly(logits[0], sampling), perturbed[0], -np.inf).argmax())


def _passing(logits: Floats, sampling: Sampling) -> tuple[Bools, Bools]:
    """Which tokens pass top-k and top-p for certain, and which may pass, whatever rounding did to the logits."""
    certain, possible = np.isfinite(logits), np.isfinite(logits)
    if sampling.temperature == 0:
        return certain, possible  # the likeliest token passes both
    k = sampling.top_k
    if k is not None and k < logits.shape[1]:
        ordered = -np.partition(-logits, (k - 1, k), axis=1)
        certain &= logits > ordered[:, k, None] + _LOGIT_SLACK
        possible &= logits > ordered[:, k - 1, None] - _LOGIT_SLACK
    if sampling.top_p < 1:
        for row, scores in enumerate(logits):
            order = np.argsort(-scores, kind="stable")
            falling, before = -scores[order], _mass(scores[order], sampling)
            # Tokens that are likelier for certain, and tokens that may be.
            fewest = before[np.searchsorted(falling, falling - _LOGIT_SLACK, side="left")]
            most = before[np.searchsorted(falling, falling + _LOGIT_SLACK, side="right")] - np.diff(before)
            certain[row, order] &= most < sampling.top_p - _PROBABILITY_SLACK
            possible[row, order] &= fewest < sampling.top_p + _PROBABILITY_SLACK
        certain[np.arange(len(logits)), logits.argmax(1)] |= sampling.top_k is None
    return certain, possible


def _passing_exactly(logits: Floats, sampling: Sampling) -> Bools:
    order = np.argsort(-logits, kind="stable")
    passes = np.isfinite(logits[order])
    if sampling.temperature > 0:
        if sampling.top_k is not None:
            passes[sampling.top_k :] = False
        if sampling.top_p < 1:
            passes &= _mass(logits[order], sampling)[:-1] < sampling.top_p
    passing = np.zeros_like(passes)
    passing[order] = passes
    return passing


def _mass(falling: Floats, sampling: Sampling) -> Floats:
    """Probability of the first 0, 1, … of logits in falling order, at the temperature."""
    weights = np.exp((falling - falling[0]) / sampling.temperature)
    return np.concatenate([[0.0], np.cumsum(weights) / weights.sum()])
