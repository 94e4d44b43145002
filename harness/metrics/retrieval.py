"""Retrieval: where the gold candidate stands among all candidates, and how sure the model is of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import OptionError, SampleError

#: What a candidate is ranked by: see `normalize`.
Score = Literal["sum", "token_norm", "extent_norm", "pmi"]

#: Log-likelihoods are ≤ 0; rounding may lift a sure continuation this far above (nats).
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Ranks:
    """The ranks that the gold can take when its ties are broken at random: `better + 1` to `better + tied`.

    The metrics below are expected values over that random order (McSherry & Najork 2008, "Computing information
    retrieval performance measures efficiently in the presence of tied scores", ECIR), so that a
    model that gives every candidate the same score is at chance, neither first nor last.

    Attributes:
        better: candidates that score strictly higher than the gold.
        tied: candidates that score the same, the gold included, ≥ 1.
        num_candidates: all of them, the gold included.
    """

    better: int
    tied: int
    num_candidates: int

    def __post_init__(self) -> None:
        if self.better < 0 or self.tied < 1 or self.better + self.tied > self.num_candidates:
            raise SampleError(
                "Ranks need better ≥ 0, tied ≥ 1 (the gold ties with itself) and better + tied ≤ num_candidates; "
                f"found better = {self.better}, tied = {self.tied}, num_candidates = {self.num_candidates}."
            )

    def recall_at(self, k: int) -> float:
        """Probability that the gold is among the first `k`: R@k of one item, in [0, 1], higher is better.

        Raises:
            OptionError: if `k` is not positive.
        """
        if k < 1:
            raise OptionError(f"R@k needs k ≥ 1; found {k}.")
        return min(max((k - self.better) / self.tied, 0.0), 1.0)

    @property
    def reciprocal(self) -> float:
        """Expected 1 / rank: its mean over items is the MRR; in (0, 1], higher is better."""
        return math.fsum(1 / rank for rank in range(self.better + 1, self.better + self.tied + 1)) / self.tied

    @property
    def mid(self) -> float:
        """Expected rank, in [1, num_candidates], lower is better."""
        return self.better + (self.tied + 1) / 2


def rank_of_gold(scores: ArrayLike, gold: int, *, tolerance: float = 0.0) -> Ranks:
    """Where the gold stands among the candidates of one prompt.

    Args:
        scores: (k,), higher is better, the gold among them.
        gold: its index.
        tolerance: scores that differ from the gold's by at most this much (in their own unit) tie with it. The same
            continuation scored in two batches can differ by rounding.

    Raises:
        SampleError: if there is no candidate, the scores are no vector or not finite, or the index is outside.
    """
    row = _row(scores, gold)
    if not tolerance >= 0:
        raise OptionError(f"The tolerance of ties must be ≥ 0; found {tolerance}.")
    above = row - row[gold]
    tied = np.abs(above) <= tolerance
    return Ranks(int(np.sum((above > 0) & ~tied)), int(np.sum(tied)), row.size)


def median_rank(ranks: Sequence[Ranks]) -> float:
    """Median over items of the expected rank, ≥ 1, lower is better.

    Raises:
        SampleError: if there are no items.
    """
    if not ranks:
        raise SampleError("There is no median rank of no items.")
    return float(np.median([rank.mid for rank in ranks]))


def gold_cross_entropy(scores: ArrayLike, gold: int) -> float:
    """−log of the gold's share in the softmax over candidates: nats, ≥ 0, lower is better.

    It moves before accuracy does. Without ability it is log k (`chance_cross_entropy`), but not bounded by it: a
    model that is sure of a wrong candidate is worse than chance.

    Args:
        scores: (k,), log-likelihoods or differences of such, nats.
        gold: index of the gold.

    Raises:
        SampleError: as `rank_of_gold`.
    """
    row = _row(scores, gold)
    above = row - row.max()
    return max(0.0, float(np.log(np.exp(above).sum()) - above[gold]))


def _row(scores: ArrayLike, gold: int) -> NDArray[np.float64]:
    row = np.asarray(scores, dtype=np.float64)
    if row.ndim != 1 or not row.size:
        raise SampleError(f"The candidates of one prompt are a vector of ≥ 1 scores; found the shape {row.shape}.")
    _finite("score", row)
    if not 0 <= gold < row.size:
        raise SampleError(f"The gold has index {gold}, but there are {row.size} candidates, 0 to {row.size - 1}.")
    return row


def normalize(
    loglik: ArrayLike,
    score: Score,
    *,
    num_tokens: ArrayLike | None = None,
    extent: ArrayLike | None = None,
    prior: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """The scores that candidates are ranked by, shaped like `loglik`.

    `sum` is the log-likelihood as it is; `token_norm` divides it by the number of tokens (Brown et al. 2020,
    arXiv 2005.14165, section 2.4); `extent_norm` divides it by the continuation's extent, which unlike tokens does not
    depend on the tokenizer; `pmi` subtracts the log-likelihood without the prompt, the pointwise mutual information
    of prompt and continuation (Holtzman et al. 2021, arXiv 2104.08315).

    Args:
        loglik: (…, k) log-likelihoods of the continuations given the prompt, nats, ≤ 0.
        score: which of the four.
        num_tokens: (k,) tokens of each continuation, for `token_norm`.
        extent: (k,) seconds of speech or characters of text of each continuation, for `extent_norm`.
        prior: (k,) log-likelihoods of the continuations without the prompt, nats, ≤ 0, for `pmi`.

    Raises:
        SampleError: if what the score needs is missing, shaped otherwise than (k,), not finite or not positive, or if
            log-likelihoods are positive.
    """
    values = _loglikelihoods("log-likelihood", loglik)
    if not values.ndim:
        raise SampleError("Log-likelihoods come as (…, k), one for each candidate; found a single number.")
    if score == "sum":
        return values.copy()
    if score == "token_norm":
        return values / _positive("num_tokens", _companion("num_tokens", num_tokens, score, values))
    if score == "extent_norm":
        return values / _positive("extent", _companion("extent", extent, score, values))
    if score == "pmi":
        return values - _loglikelihoods("prior", _companion("prior", prior, score, values))
    raise OptionError(f"There is no score '{score}'. Known: {', '.join(get_args(Score))}.")


def _companion(name: str, given: ArrayLike | None, score: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if given is None:
        raise SampleError(f"The score '{score}' needs `{name}`, one for each candidate.")
    array = np.asarray(given, dtype=np.float64)
    if array.shape != values.shape[-1:]:
        raise SampleError(f"`{name}` has the shape {array.shape}; {values.shape[-1]} candidates need one each.")
    _finite(name, array)
    return array


def _loglikelihoods(name: str, given: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(given, dtype=np.float64)
    _finite(name, values)
    if values.size and values.max() > _ROUNDING:
        raise SampleError(
            f"A {name} is the logarithm of a probability, ≤ 0 nats; found {values.max()}. Did you supply the nll?"
        )
    return values


def _positive(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.size and values.min() <= 0:
        at = int(values.argmin())
        raise SampleError(f"`{name}` must be > 0; found {values[at]} for candidate {at}. An empty continuation?")
    return values


def _finite(name: str, values: NDArray[np.float64]) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        at = tuple(int(i) for i in bad[0])
        raise SampleError(
            f"Every {name} must be a finite number; found {values[at]} at {list(at)}, {len(bad)} such in all. "
            "A candidate that could not be scored makes its item fail; it has no rank."
        )


def chance_recall_at(k: int, num_candidates: int) -> float:
    """R@k of a random order: min(k, N) / N."""
    return min(k, _count(num_candidates)) / num_candidates


def chance_reciprocal_rank(num_candidates: int) -> float:
    """MRR of a random order: the harmonic number H_N over N."""
    return math.fsum(1 / rank for rank in range(1, _count(num_candidates) + 1)) / num_candidates


def chance_rank(num_candidates: int) -> float:
    """Mean and median rank of a random order: (N + 1) / 2."""
    return (_count(num_candidates) + 1) / 2


def chance_cross_entropy(num_candidates: int) -> float:
    """`gold_cross_entropy` of equal scores: log N nats."""
    return math.log(_count(num_candidates))


def _count(num_candidates: int) -> int:
    if num_candidates < 1:
        raise SampleError(f"Chance needs ≥ 1 candidate; found {num_candidates}.")
    return num_candidates
