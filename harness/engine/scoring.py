"""Loglikelihoods of continuations: each prompt read once, each continuation only as far as its answer needs.

Prompts are answered in groups. One pass reads the prompts of a group (with their golds, where ranks are wanted); then
rounds of passes read the candidates, which share the prompts' keys and values (`attention.py`). Where only
the gold's rank is wanted, a candidate leaves once it cannot reach the gold: every token's loglikelihood is ≤ 0, so a
partial sum is an upper bound, and every score grows with the sum. How far a round reads is a guess at who leaves when;
it moves the time, never an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.engine.attention import Layer, PackedDecoder, Packing, Pass, Prefix
from harness.engine.memory import is_out_of_memory, logit_rows, pass_tokens, release, to_device, token_budget
from harness.errors import HarnessError, InputError
from harness.model import Model
from harness.segments import Segment
from harness.task import Answer, Loglikelihoods, Ranking, Request, Unscorable

#: Tokens that could be read in the time that a pass takes whatever it reads.
_PASS_OVERHEAD = 200
#: Tokens at the usual loss that a candidate's own losses are averaged with.
_USUAL_TOKENS = 4
#: Rounding that pruning allows for, in nats and relative to the gold's loglikelihood.
_SLACK, _RELATIVE_SLACK = 1e-3, 1e-5
#: Batches are not halved below this many tokens.
_SMALLEST_BATCH = 16


@dataclass
class Work:
    """What was computed, beside what could have been.

    Attributes:
        tokens: read by the decoder.
        logit_rows: positions whose logits were made.
        pairs: candidates under prompts.
        pair_tokens: tokens of all pairs, prompt and candidate: what scoring each pair by itself reads.
        candidate_tokens: of these the candidates' own.
        floor: tokens of each prompt and, where ranks are wanted, its gold; else all its candidates.
        unfinished: pairs left before their end.
        shared_prefix: whether prompts were shared; False for models that offer plain forward alone.
        halvings: times that memory ran out.
    """

    tokens: int = 0
    logit_rows: int = 0
    pairs: int = 0
    pair_tokens: int = 0
    candidate_tokens: int = 0
    floor: int = 0
    unfinished: int = 0
    shared_prefix: bool = True
    halvings: int = 0

    def count(self, job: _Job, answer: Loglikelihoods) -> None:
        """Adds an answered request."""
        lengths, prompt = job.num_tokens, len(job.context)
        gold = job.request.ranking.gold if job.request.ranking else None
        self.pairs += len(lengths)
        self.pair_tokens += prompt * len(lengths) + int(lengths.sum())
        self.candidate_tokens += int(lengths.sum())
        self.floor += prompt + int(lengths.sum() if gold is None else lengths[gold])
        self.unfinished += 0 if answer.complete is None else int((~answer.complete).sum())


class _Pool:
    """Continuations of a pool, tokenized once; those with the same tokens are one, so that they tie exactly."""

    def __init__(self, segments: tuple[Segment, ...], model: Model) -> None:
        self.segments = segments
        encoded = [tuple(model.encode_continuation(s)) for s in segments]
        places = {ids: i for i, ids in enumerate(dict.fromkeys(encoded))}
        self.distinct = list(places)
        self.index = np.array([places[ids] for ids in encoded], dtype=np.int64)
        self.lengths = np.array([len(ids) for ids in self.distinct], dtype=np.int64)
        self.tokens = np.zeros((len(places), int(self.lengths.max(initial=1))), dtype=np.int64)
        for row, ids in zip(self.tokens, self.distinct, strict=True):
            row[: len(ids)] = ids


class _Bar:
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
        raise InputError(f"Request '{request.id}' is ranked against '{name}', which is not answered before it.")
    if answer.complete is not None and not answer.complete.all():
        raise InputError(f"Request '{request.id}' is ranked against '{name}', whose likelihoods are not complete.")
    return answer


@dataclass
class _Job:
    """A request on its way.

    Attributes:
        request: what is asked.
        context: ids of the prompt.
        pool: where its candidates come from.
        bar: what candidates must reach; None where all are wanted in full.
        rows: which distinct continuations of the pool it needs.
        place: for each of `chosen` its place in `rows`.
    """

    request: Request
    context: list[int]
    pool: _Pool
    bar: _Bar | None
    rows: NDArray[np.int64] = field(init=False)
    place: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.rows, self.place = np.unique(self.pool.index[list(self.request.chosen)], return_inverse=True)

    @property
    def num_tokens(self) -> NDArray[np.int64]:
        """Tokens of each of `chosen`."""
        return self.pool.lengths[self.rows[self.place]]

    @property
    def gold(self) -> int | None:
        """The gold's place in `rows`, where only ranks are wanted."""
        return int(self.place[self.bar.gold]) if self.bar else None

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
        return len(self.trunk) + int((np.minimum(longest, 2) if self.bar else longest).sum())


class _Group:
    """Jobs over one pool, answered together: their candidates, each with its sum so far.

    Attributes:
        jobs: the requests.
        job: number of each candidate's job, ascending.
        row: which of the pool's distinct continuations each candidate is.
        sums: loglikelihoods of the tokens known so far.
        known: how many tokens these are.
    """

    def __init__(self, jobs: Sequence[_Job]) -> None:
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
            if job.bar:
                slots = self.slots(number)
                sums, known, room = self.sums[slots], self.known[slots], np.full(len(job.rows), -1.0)
                np.maximum.at(room, job.place, job.bar.room(sums[job.place]))
                usual = sums.sum() / known.sum()
                loss = -(sums + _USUAL_TOKENS * usual) / (known + _USUAL_TOKENS)
                until = np.where(room >= 0, 1 + room / np.maximum(loss, 1e-9), 0)
                wanted[slots] = np.minimum(wanted[slots], until).astype(np.int64)
        return wanted

    def result(self, number: int) -> Loglikelihoods:
        """The answer to a job."""
        job, slots = self.jobs[number], self.slots(number)
        complete = (self.known == self.lengths)[slots][job.place]
        return Loglikelihoods(self.sums[slots][job.place], job.num_tokens, None if complete.all() else complete)


@dataclass
class _Block:
    """Candidates read equally far.

    Attributes:
        slots: their places in the group, ascending.
        depth: tokens read of each.
        past: their keys and values.
        parents: each one's place in `past`; several may share one.
    """

    slots: NDArray[np.int64]
    depth: int = 0
    past: Sequence[Layer] | None = None
    parents: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.slots)

    def only(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> _Block:
        """The block with some of its candidates, which are named in ascending order."""
        parents = None if self.parents is None else self.parents[keep]
        return _Block(self.slots[keep], self.depth, self.past, parents)

    def halves(self, wanted: NDArray[np.int64]) -> tuple[_Block, _Block]:
        """Those wanted the furthest and the others: apart, each can advance at its own pace."""
        order, half = np.argsort(wanted, kind="stable"), len(self) // 2
        return self.only(np.sort(order[half:])), self.only(np.sort(order[:half]))

    def width(self, wanted: NDArray[np.int64], remaining: NDArray[np.int64]) -> int:
        """Tokens to advance by: until those read in vain are likely to have cost as much as another pass.

        Args:
            wanted: `(candidates,)` tokens that each is likely to be read, ≥ 1.
            remaining: `(candidates,)` tokens that each has left, no fewer.
        """
        if not self.depth and (wanted < remaining).any():
            return 1  # many begin with the same token, which is then read once
        longest = int(remaining.max())
        left = np.bincount(wanted, minlength=longest + 1) - np.bincount(remaining, minlength=longest + 1)
        in_vain = left[:longest].cumsum().cumsum()
        return max(1, int(np.searchsorted(in_vain, _PASS_OVERHEAD, side="right")))


@dataclass
class _Step:
    """The next tokens of a block: those that begin alike are read once.

    Attributes:
        lengths: `(candidates,)` tokens that each one advances by, ≥ 1.
        first: `(rows,)` the first candidate of each row.
        row: `(candidates,)` the row each one shares.
        ids: `(tokens,)` the rows' tokens, one row after another.
        starts: `(rows,)` where each row begins.
    """

    lengths: NDArray[np.int64]
    first: NDArray[np.int64]
    row: NDArray[np.int64]
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, group: _Group, block: _Block, width: int) -> _Step:
        """The step by up to `width` tokens."""
        lengths = np.minimum(width, group.lengths[block.slots] - 1 - block.depth)
        real = np.arange(lengths.max()) < lengths[:, None]
        ids = group.pool.tokens[group.row[block.slots], block.depth : block.depth + lengths.max()] * real
        parents = np.zeros_like(lengths) if block.parents is None else block.parents
        keys = np.column_stack([group.job[block.slots], parents, lengths, ids])
        rows: dict[bytes, int] = {}
        row = np.array([rows.setdefault(key.tobytes(), len(rows)) for key in keys])
        first = np.unique(row, return_index=True)[1]
        return cls(lengths, first, row, ids[first][real[first]], np.cumsum(lengths[first]) - lengths[first])


class Scorer:
    """Answers requests.

    Args:
        model: whose likelihoods are asked for.
        batch_tokens: tokens held at once, of all prompts and candidates together; moves no number beyond rounding.
            Unset means as many as memory allows.
        prune: whether candidates may stay unfinished where only ranks are wanted.
    """

    def __init__(self, model: Model, *, batch_tokens: int | None = None, prune: bool = True) -> None:
        if batch_tokens is not None and batch_tokens < 1:
            raise InputError(f"Batches need ≥ 1 token; found batch_tokens={batch_tokens}.")
        self.model, self.prune = model, prune
        self.batch_tokens = token_budget(model) if batch_tokens is None else batch_tokens
        self.decoder = PackedDecoder.of(model)
        self.work = Work(shared_prefix=self.decoder is not None)
        self._pools: dict[int, _Pool] = {}

    def answer(
        self, requests: Sequence[Request], *, known: Mapping[str, Answer] | None = None
    ) -> Iterator[tuple[Request, Answer]]:
        """Each request with its answer, in the order given.

        Args:
            requests: those that others are ranked against come before them.
            known: answers from elsewhere that requests are ranked against.

        Raises:
            InputError: if a request is ranked against one that is not answered before it.
            HarnessError: if memory does not suffice for the smallest batch.
        """
        segments = [s for r in requests for s in r.prompt]
        self.model.prepare([*segments, *(s for pool in {id(r.pool): r.pool for r in requests}.values() for s in pool)])
        answers = dict(known or {})
        awaited = _priors(requests)
        start = 0
        while start < len(requests):
            jobs = self._group(requests, start, answers, awaited)
            try:
                found = self._answer(jobs)
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
                continue
            for request, answer in zip(requests[start : start + len(jobs)], found, strict=True):
                if request.id in awaited:
                    answers[request.id] = answer
                yield request, answer
            start += len(jobs)

    def _group(
        self, requests: Sequence[Request], start: int, answers: Mapping[str, Answer], awaited: frozenset[str]
    ) -> list[_Job | Unscorable]:
        """Requests from `start` on that can be answered together: what their first rounds read fits into one batch."""
        group: list[_Job | Unscorable] = []
        first, tokens = requests[start], 0
        for place in range(start, len(requests)):
            request = requests[place]
            if request.pool is not first.pool or (request.ranking is None) != (first.ranking is None):
                break
            job = self._job(request, answers)
            if isinstance(job, _Job):
                tokens += job.tokens_at_first
            if group and tokens > self.batch_tokens:
                break
            group.append(job)
            if request.id in awaited:
                break
        return group

    def _job(self, request: Request, answers: Mapping[str, Answer]) -> _Job | Unscorable:
        model, ranking = self.model, request.ranking if self.prune else None
        context = (
            model.encode_prompt(request.prompt, request.target)
            if request.prompt
            else model.encode_prior(request.source, request.target)
        )
        if id(request.pool) not in self._pools:
            self._pools[id(request.pool)] = _Pool(request.pool, model)
        pool = self._pools[id(request.pool)]
        num_tokens = pool.lengths[pool.index[list(request.chosen)]]
        if reason := _unscorable(len(context), num_tokens, model.max_length):
            return Unscorable(reason)
        for score in ranking.scores if ranking else ():
            if score.prior and isinstance(prior := answers.get(score.prior), Unscorable):
                return prior
        return _Job(request, context, pool, _Bar(request, ranking, num_tokens, answers) if ranking else None)

    @torch.inference_mode()
    def _answer(self, jobs: Sequence[_Job | Unscorable]) -> list[Answer]:
        scorable = [job for job in jobs if isinstance(job, _Job)]
        found: Iterator[Loglikelihoods] = iter(())
        if scorable:
            group = _Group(scorable)
            if self.decoder is None:
                self._read_pairs(group)
            else:
                with self.decoder.attached():
                    self._read_shared(self.decoder, group)
            results = [group.result(i) for i in range(len(scorable))]
            for job, result in zip(scorable, results, strict=True):
                self.work.count(job, result)
            found = iter(results)
        return [next(found) if isinstance(job, _Job) else job for job in jobs]

    @property
    def _pass_tokens(self) -> int:
        return min(self.batch_tokens, pass_tokens(self.model))

    def _read_shared(self, decoder: PackedDecoder, group: _Group) -> None:
        prompts = self._read_prompts(decoder, group)
        stack = [_Block(np.arange(len(group.row)))]
        while stack:
            block = stack.pop()
            wanted = group.wanted()[block.slots]
            block, wanted = block.only(wanted > 0), wanted[wanted > 0]
            if not len(block):
                continue
            remaining = group.lengths[block.slots] - 1 - block.depth
            width = block.width(wanted, remaining)
            ahead = int(np.minimum(width, remaining).sum())
            held = block.depth * len(block) + ahead
            if len(block) > 1 and (ahead > self._pass_tokens or held > self.batch_tokens):
                stack += block.halves(wanted)
            else:
                stack.append(self._advance(decoder, group, prompts, block, width))

    def _read_prompts(self, decoder: PackedDecoder, group: _Group) -> list[list[Layer]]:
        """Reads prompts and golds; adds the candidates' first tokens, which prompts predict, and the golds' rest."""
        prompts: list[list[Layer]] = []
        while len(prompts) < len(group.jobs):
            sizes = np.cumsum([len(job.trunk) for job in group.jobs[len(prompts) :]])
            prompts += self._read_some_prompts(
                decoder, group, len(prompts), max(1, int((sizes <= self._pass_tokens).sum()))
            )
        return prompts

    def _read_some_prompts(self, decoder: PackedDecoder, group: _Group, first: int, number: int) -> list[list[Layer]]:
        """Reads the prompts and golds of `number` jobs, from the `first` on."""
        numbers = range(first, first + number)
        trunks, ends = [group.jobs[i].trunk for i in numbers], group.prompts[first : first + number]
        lengths = np.array([len(trunk) for trunk in trunks])
        packed = Pass(Packing(lengths.tolist(), self.model.device), keep=True)
        positions = np.concatenate([np.arange(n) for n in lengths])
        states = self._read(decoder, np.concatenate([np.array(t) for t in trunks]), positions, packed)
        predicts = positions >= np.repeat(ends, lengths) - 1
        last = np.cumsum(lengths - ends + 1) - (lengths - ends + 1)
        self._add(group, states[self._tensor(predicts.nonzero()[0])], *_trunk_targets(group, numbers, last))
        layers = packed.kept()
        return [[(k[i : i + 1, :, :n], v[i : i + 1, :, :n]) for k, v in layers] for i, n in enumerate(ends)]

    def _advance(
        self, decoder: PackedDecoder, group: _Group, prompts: Sequence[Sequence[Layer]], block: _Block, width: int
    ) -> _Block:
        """Reads the next tokens of a block and adds the loglikelihoods of those they predict."""
        step = _Step.of(group, block, width)
        jobs, rows = group.job[block.slots][step.first], step.lengths[step.first]
        lengths = rows.tolist()
        packed = Pass(
            Packing(lengths, self.model.device),
            prefixes=_prefixes(jobs, np.append(step.starts, len(step.ids)), prompts),
            past=block.past,
            parents=None if block.parents is None else self._tensor(block.parents[step.first]),
            keep=bool((group.lengths[block.slots] - 1 > block.depth + step.lengths).any()),
        )
        within = np.arange(len(step.ids)) - np.repeat(step.starts, rows)
        positions = np.repeat(group.prompts[jobs] + block.depth, rows) + within
        states = self._read(decoder, step.ids, positions, packed)
        column = np.arange(step.lengths.sum()) - np.repeat(np.cumsum(step.lengths) - step.lengths, step.lengths)
        slots = np.repeat(block.slots, step.lengths)
        targets = group.pool.tokens[group.row[slots], block.depth + 1 + column]
        self._add(group, states, np.repeat(step.starts[step.row], step.lengths) + column, targets, slots)
        past = packed.kept() if packed.keep else None
        return _Block(block.slots, block.depth + int(step.lengths.max()), past, step.row)

    def _read(
        self, decoder: PackedDecoder, ids: NDArray[np.int64], positions: NDArray[np.int64], packed: Pass
    ) -> Tensor:
        self.work.tokens += len(ids)
        return decoder.read(self._tensor(ids), self._tensor(positions), packed)

    def _tensor(self, values: NDArray[np.int64]) -> Tensor:
        return to_device(torch.from_numpy(values), self.model.device)

    def _add(
        self, group: _Group, states: Tensor, at: NDArray[np.int64], targets: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> None:
        """Adds to each slot the loglikelihood of a target under the state that predicts it."""
        np.add.at(group.sums, slots, self._logprobs(states, at, targets))
        np.add.at(group.known, slots, 1)

    def _logprobs(self, states: Tensor, at: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Loglikelihoods of tokens; `at` says which of the states predicts each."""
        self.work.logit_rows += len(states)
        order = np.argsort(at, kind="stable")
        places, wanted = at[order], self._tensor(targets[order])
        found = []
        size = logit_rows(states.device)
        for start in range(0, len(states), size):
            first, last = np.searchsorted(places, [start, start + size])
            rows = self._tensor(places[first:last] - start)
            logits = self.model.logits(states[start : start + size])
            found.append(torch.log_softmax(logits.float(), -1)[rows, wanted[first:last]])
        values = np.empty(len(at))
        values[order] = torch.cat(found).double().cpu().numpy()
        return values

    def _read_pairs(self, group: _Group) -> None:
        """Scores every pair by itself, for models that offer plain forward alone."""
        order = np.argsort(-(group.lengths + group.prompts[group.job]), kind="stable")
        start = 0
        while start < len(order):
            longest = int(group.lengths[order[start]] + group.prompts[group.job[order[start]]]) - 1
            batch = order[start : start + max(1, self._pass_tokens // longest)]
            self._read_batch(group, batch, longest)
            start += len(batch)

    def _read_batch(self, group: _Group, slots: NDArray[np.int64], longest: int) -> None:
        ids = np.zeros((len(slots), longest), dtype=np.int64)
        contexts = [group.jobs[group.job[slot]].context for slot in slots]
        for row, context, slot in zip(ids, contexts, slots, strict=True):
            sequence = [*context, *group.pool.distinct[group.row[slot]][:-1]]
            row[: len(sequence)] = sequence
        prompts, counts = np.array([len(c) for c in contexts]), group.lengths[slots]
        self.work.tokens += int((prompts + counts - 1).sum())
        states = self.model.forward(self._tensor(ids), lengths=self._tensor(prompts + counts - 1)).states
        column = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(np.arange(len(slots)) * longest + prompts - 1, counts) + column
        owners = np.repeat(slots, counts)
        targets = group.pool.tokens[group.row[owners], column]
        self._add(group, states.flatten(0, 1)[self._tensor(places)], np.arange(len(places)), targets, owners)

    def _halve(self, error: RuntimeError | MemoryError) -> None:
        if not is_out_of_memory(error):
            raise error
        if self.batch_tokens <= _SMALLEST_BATCH:
            raise HarnessError(
                f"Memory ran out at {self.batch_tokens} tokens per batch on {self.model.device}; a single prompt does "
                f"not fit. Free memory, or use a smaller model or another device. ({error})"
            ) from error
        self.batch_tokens = max(_SMALLEST_BATCH, self.batch_tokens // 2)
        self.work.halvings += 1
        release(self.model.device)


def _trunk_targets(
    group: _Group, numbers: range, last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of the states that predict something: which one, what, and for whom; `last` is where a prompt's own begin."""
    at, targets, slots = [], [], []
    for start, number in zip(last, numbers, strict=True):
        job, own = group.jobs[number], group.slots(number)
        rest = [] if job.gold is None else list(job.pool.distinct[job.rows[job.gold]][1:])
        at += [np.full(len(job.rows), start), start + 1 + np.arange(len(rest))]
        targets += [job.pool.tokens[job.rows, 0], np.array(rest, dtype=np.int64)]
        slots += [np.arange(own.start, own.stop), np.full(len(rest), own.start + (job.gold or 0))]
    return np.concatenate(at), np.concatenate(targets), np.concatenate(slots)


def _prefixes(jobs: NDArray[np.int64], starts: NDArray[np.int64], prompts: Sequence[Sequence[Layer]]) -> list[Prefix]:
    """The range of tokens under each prompt; `starts` has one entry per row and the end."""
    firsts = np.append(np.flatnonzero(np.diff(jobs, prepend=-1)), len(jobs))
    return [Prefix(int(starts[a]), int(starts[b]), prompts[jobs[a]]) for a, b in pairwise(firsts)]


def _priors(requests: Sequence[Request]) -> frozenset[str]:
    return frozenset(s.prior for r in requests if r.ranking for s in r.ranking.scores if s.prior)


def _unscorable(prompt: int, num_tokens: NDArray[np.int64], max_length: int) -> str:
    if not prompt:
        return "the prompt has no tokens"
    if not num_tokens.all():
        return f"continuation {int(np.argmin(num_tokens))} of {len(num_tokens)} has no tokens"
    if prompt + num_tokens.max() > max_length:
        first = prompt + num_tokens[np.argmax(prompt + num_tokens > max_length)]
        return f"prompt and continuation have {first} tokens, the model reads at most {max_length}"
    return ""


def shard(requests: Sequence[Request], rank: int, world: int) -> list[Request]:
    """What one of `world` processes answers: every `world`-th request, and those that its own are ranked against.

    Requests that others are ranked against belong to the first process that needs them, and are repeated in the
    others, which cannot rank without them; every other request is in one shard only. Order is kept.

    Raises:
        InputError: if there is no such rank.
    """
    if not 0 <= rank < world:
        raise InputError(f"Ranks go from 0 to {world - 1}; found {rank}.")
    priors = _priors(requests)
    mine = {r.id for r in [r for r in requests if r.id not in priors][rank::world]}
    needed = _priors([r for r in requests if r.id in mine])
    unused = {r.id for r in requests if r.id in priors} if rank == 0 else frozenset()
    return [r for r in requests if r.id in mine or r.id in needed or r.id in unused]
