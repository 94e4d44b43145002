"""Candidates of ranking requests: tokenized once, read together, and left once they cannot reach the gold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.errors import OptionError
from harness.model import Model
from harness.segments import Segment
from harness.task import Answer, Loglikelihoods, Ranking, Request

#: Tokens at the usual loss that a candidate's own losses are averaged with.
_USUAL_TOKENS = 4
#: Rounding that pruning allows for, in nats and relative to the gold's loglikelihood.
_SLACK, _RELATIVE_SLACK = 1e-3, 1e-5


class CandidatePool:
    """Continuations of a pool, tokenized once; those with the same tokens are one, so that they tie exactly."""

    def __init__(self, segments: tuple[Segment, ...], model: Model) -> None:
        self.segments = segments
        encoded = [tuple(model.encode_continuation(s)) for s in segments]
        numbers = {ids: i for i, ids in enumerate(dict.fromkeys(encoded))}
        self.distinct = list(numbers)
        self.index = np.array([numbers[ids] for ids in encoded], dtype=np.int64)
        self.lengths = np.array([len(ids) for ids in self.distinct], dtype=np.int64)
        self.tokens = np.zeros((len(numbers), int(self.lengths.max(initial=1))), dtype=np.int64)
        for row, ids in zip(self.tokens, self.distinct, strict=True):
            row[: len(ids)] = ids


class PruningThreshold:
    """The scores a candidate must be able to reach, by the rules of a request's ranking."""

    def __init__(self, request: Request, ranking: Ranking, num_tokens: NDArray[np.int64], known: Mapping[str, Answer]):
        self.gold = ranking.gold
        chosen = list(request.chosen)
        self.divisors = np.ones((len(ranking.scores), len(chosen)))
        self.priors = np.zeros_like(self.divisors)
        self.tolerances = np.array([[score.tolerance] for score in ranking.scores])
        for i, score in enumerate(ranking.scores):
            if score.divisor is not None:
                self.divisors[i] = num_tokens if score.divisor == "tokens" else np.array(score.divisor)[chosen]
            if score.prior is not None:
                self.priors[i] = _prior(request, score.prior, known).values[chosen]

    def room(self, upper: NDArray[np.float64]) -> NDArray[np.float64]:
        """Nats that candidates may lose and still reach or tie with the gold under some score; < 0 where none can.

        Args:
            upper: bounds of their loglikelihoods `(candidates,)`; the gold's is its loglikelihood.
        """
        slack = _SLACK - _RELATIVE_SLACK * upper[self.gold]
        gold = (upper[self.gold] - self.priors[:, self.gold]) / self.divisors[:, self.gold]
        needed = (gold[:, None] - self.tolerances) * self.divisors + self.priors
        room: NDArray[np.float64] = upper + slack - needed.min(0)
        return room


def _prior(request: Request, name: str, known: Mapping[str, Answer]) -> Loglikelihoods:
    answer = known.get(name)
    if not isinstance(answer, Loglikelihoods):
        raise OptionError(f"Request '{request.id}' is ranked against '{name}', which is not answered before it.")
    if answer.complete is not None and not answer.complete.all():
        raise OptionError(f"Request '{request.id}' is ranked against '{name}', whose likelihoods are not complete.")
    return answer


@dataclass
class ScoringJob:
    """A request on its way.

    Attributes:
        request: what is asked.
        context: ids of the prompt.
        pool: where its candidates come from.
        threshold: what candidates must reach; None where all are wanted in full.
        rows: which distinct continuations of the pool it needs.
        position: for each of `chosen` its position in `rows`.
    """

    request: Request
    context: list[int]
    pool: CandidatePool
    threshold: PruningThreshold | None
    rows: NDArray[np.int64] = field(init=False)
    position: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.rows, self.position = np.unique(self.pool.index[list(self.request.chosen)], return_inverse=True)

    @property
    def num_tokens(self) -> NDArray[np.int64]:
        """Tokens of each of `chosen`."""
        return self.pool.lengths[self.rows[self.position]]

    @property
    def gold(self) -> int | None:
        """The gold's position in `rows`, where only ranks are wanted."""
        return int(self.position[self.threshold.gold]) if self.threshold else None

    @property
    def trunk(self) -> list[int]:
        """What the first pass reads: the prompt, and the gold except for its last token."""
        if self.gold is None:
            return self.context
        return self.context + list(self.pool.distinct[self.rows[self.gold]][:-1])

    @property
    def tokens_at_first(self) -> int:
        """Tokens of the prompt and of each candidate: all of them, or its first two where it may leave."""
        longest = self.pool.lengths[self.rows] - 1
        return len(self.trunk) + int((np.minimum(longest, 2) if self.threshold else longest).sum())


class CandidateGroup:
    """Jobs over one pool, answered together: their candidates, each with its sum so far.

    Attributes:
        jobs: the requests.
        job: number of each candidate's job, ascending.
        row: which of the pool's distinct continuations each candidate is.
        sums: loglikelihoods of the tokens known so far.
        known: how many tokens these are.
    """

    def __init__(self, jobs: Sequence[ScoringJob]) -> None:
        self.jobs, self.pool = jobs, jobs[0].pool
        self.ends = np.cumsum([len(j.rows) for j in jobs])
        self.job = np.repeat(np.arange(len(jobs)), [len(j.rows) for j in jobs])
        self.row = np.concatenate([j.rows for j in jobs])
        self.lengths = self.pool.lengths[self.row]
        self.prompts = np.array([len(j.context) for j in jobs])
        self.sums = np.zeros(len(self.row))
        self.known = np.zeros(len(self.row), dtype=np.int64)

    def slots(self, number: int) -> slice:
        """The candidates of a job."""
        return slice(self.ends[number] - len(self.jobs[number].rows), self.ends[number])

    def wanted(self) -> NDArray[np.int64]:
        """How many more tokens each candidate is likely to be read: 0 for exactly those whose answer is known."""
        wanted: NDArray[np.int64] = self.lengths - self.known
        for number, job in enumerate(self.jobs):
            if job.threshold:
                slots = self.slots(number)
                sums, known, room = self.sums[slots], self.known[slots], np.full(len(job.rows), -1.0)
                np.maximum.at(room, job.position, job.threshold.room(sums[job.position]))
                usual = sums.sum() / known.sum()
                loss = -(sums + _USUAL_TOKENS * usual) / (known + _USUAL_TOKENS)
                until = np.where(room >= 0, 1 + room / np.maximum(loss, 1e-9), 0)
                wanted[slots] = np.minimum(wanted[slots], until).astype(np.int64)
        return wanted

    def result(self, number: int) -> Loglikelihoods:
        """The answer to a job."""
        job, slots = self.jobs[number], self.slots(number)
        complete = (self.known == self.lengths)[slots][job.position]
        return Loglikelihoods(self.sums[slots][job.position], job.num_tokens, None if complete.all() else complete)
