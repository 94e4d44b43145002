"""Loglikelihoods of continuations: each prompt read once, each continuation only as far as its answer needs.

Prompts are answered in groups. One pass reads the prompts of a group (with their golds, where ranks are wanted); then
rounds of passes read the candidates, which share the prompts' keys and values (`attention.py`). Where only
the gold's rank is wanted, a candidate leaves once it cannot reach the gold: every token's loglikelihood is ≤ 0, so a
partial sum is an upper bound, and every score grows with the sum. How far a round reads is a guess at who leaves when;
it changes the time, never an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.engine.attention import Layer, PackedDecoder, Pass, Prefix, RowLayout
from harness.engine.blocks import Block, BlockStep
from harness.engine.candidates import CandidateGroup, CandidatePool, PruningThreshold, ScoringJob
from harness.engine.memory import logit_rows, pass_tokens, smaller_batch, to_device, token_budget
from harness.engine.work import Work
from harness.errors import OptionError
from harness.model import Model
from harness.task import Answer, Loglikelihoods, Request, Unscorable, prior_ids


class Scorer:
    """Answers requests.

    Args:
        model: whose likelihoods are asked for.
        batch_tokens: tokens held at once, of all prompts and candidates together; has no effect on results beyond
            rounding. None: as many as memory allows.
        prune: whether candidates may stay unfinished where only ranks are wanted.
    """

    def __init__(self, model: Model, *, batch_tokens: int | None = None, prune: bool = True) -> None:
        if batch_tokens is not None and batch_tokens < 1:
            raise OptionError(f"Batches need ≥ 1 token; found batch_tokens={batch_tokens}.")
        self.model, self.prune = model, prune
        self.batch_tokens = token_budget(model) if batch_tokens is None else batch_tokens
        self.decoder = PackedDecoder.of(model)
        self.work = Work(shared_prefix=self.decoder is not None)
        self._pools: dict[int, CandidatePool] = {}

    def answer(
        self, requests: Sequence[Request], *, known: Mapping[str, Answer] | None = None
    ) -> Iterator[tuple[Request, Answer]]:
        """Each request with its answer, in the order given.

        Args:
            requests: those that others are ranked against come before them.
            known: answers from elsewhere that requests are ranked against.

        Raises:
            OptionError: if a request is ranked against one that is not answered before it.
            HarnessError: if memory does not suffice for the smallest batch.
        """
        segments = [s for r in requests for s in r.prompt]
        self.model.prepare([*segments, *(s for pool in {id(r.pool): r.pool for r in requests}.values() for s in pool)])
        answers = dict(known or {})
        awaited = prior_ids(requests)
        start = 0
        while start < len(requests):
            jobs = self._group(requests, start, answers, awaited)
            try:
                found = self._answer(jobs)
            except (RuntimeError, MemoryError) as error:
                self.batch_tokens = smaller_batch(error, self.batch_tokens, self.model.device)
                self.work.out_of_memory_retries += 1
                continue
            for request, answer in zip(requests[start : start + len(jobs)], found, strict=True):
                if request.id in awaited:
                    answers[request.id] = answer
                yield request, answer
            start += len(jobs)

    def _group(
        self, requests: Sequence[Request], start: int, answers: Mapping[str, Answer], awaited: frozenset[str]
    ) -> list[ScoringJob | Unscorable]:
        """Requests from `start` on that can be answered together: what their first rounds read fits into one batch."""
        group: list[ScoringJob | Unscorable] = []
        first, tokens = requests[start], 0
        for number in range(start, len(requests)):
            request = requests[number]
            if request.pool is not first.pool or (request.ranking is None) != (first.ranking is None):
                break
            job = self._job(request, answers)
            if isinstance(job, ScoringJob):
                tokens += job.tokens_at_first
            if group and tokens > self.batch_tokens:
                break
            group.append(job)
            if request.id in awaited:
                break
        return group

    def _job(self, request: Request, answers: Mapping[str, Answer]) -> ScoringJob | Unscorable:
        model, ranking = self.model, request.ranking if self.prune else None
        context = (
            model.encode_prompt(request.prompt, request.target)
            if request.prompt
            else model.encode_prior(request.source, request.target)
        )
        if id(request.pool) not in self._pools:
            self._pools[id(request.pool)] = CandidatePool(request.pool, model)
        pool = self._pools[id(request.pool)]
        num_tokens = pool.lengths[pool.index[list(request.chosen)]]
        if reason := _unscorable(len(context), num_tokens, model.max_length):
            return Unscorable(reason)
        for score in ranking.scores if ranking else ():
            if score.prior and isinstance(prior := answers.get(score.prior), Unscorable):
                return prior
        return ScoringJob(
            request, context, pool, PruningThreshold(request, ranking, num_tokens, answers) if ranking else None
        )

    @torch.inference_mode()
    def _answer(self, jobs: Sequence[ScoringJob | Unscorable]) -> list[Answer]:
        scorable = [job for job in jobs if isinstance(job, ScoringJob)]
        found: Iterator[Loglikelihoods] = iter(())
        if scorable:
            group = CandidateGroup(scorable)
            if self.decoder is None:
                self._read_pairs(group)
            else:
                with self.decoder.attached():
                    self._read_shared(self.decoder, group)
            results = [group.result(i) for i in range(len(scorable))]
            for job, result in zip(scorable, results, strict=True):
                self.work.count(job, result)
            found = iter(results)
        return [next(found) if isinstance(job, ScoringJob) else job for job in jobs]

    @property
    def _pass_tokens(self) -> int:
        return min(self.batch_tokens, pass_tokens(self.model))

    def _read_shared(self, decoder: PackedDecoder, group: CandidateGroup) -> None:
        prompts = self._read_prompts(decoder, group)
        stack = [Block(np.arange(len(group.row)))]
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

    def _read_prompts(self, decoder: PackedDecoder, group: CandidateGroup) -> list[list[Layer]]:
        """Reads prompts and golds; adds the candidates' first tokens, which prompts predict, and the golds' rest."""
        prompts: list[list[Layer]] = []
        while len(prompts) < len(group.jobs):
            sizes = np.cumsum([len(job.trunk) for job in group.jobs[len(prompts) :]])
            prompts += self._read_some_prompts(
                decoder, group, len(prompts), max(1, int((sizes <= self._pass_tokens).sum()))
            )
        return prompts

    def _read_some_prompts(
        self, decoder: PackedDecoder, group: CandidateGroup, first: int, number: int
    ) -> list[list[Layer]]:
        """Reads the prompts and golds of `number` jobs, from the `first` on."""
        numbers = range(first, first + number)
        trunks, ends = [group.jobs[i].trunk for i in numbers], group.prompts[first : first + number]
        lengths = np.array([len(trunk) for trunk in trunks])
        packed = Pass(RowLayout(lengths.tolist(), self.model.device), use_cache=True)
        positions = np.concatenate([np.arange(n) for n in lengths])
        states = self._read(decoder, np.concatenate([np.array(t) for t in trunks]), positions, packed)
        predicts = positions >= np.repeat(ends, lengths) - 1
        last = np.cumsum(lengths - ends + 1) - (lengths - ends + 1)
        self._add(group, states[self._tensor(predicts.nonzero()[0])], *_trunk_targets(group, numbers, last))
        layers = packed.cached()
        return [[(k[i : i + 1, :, :n], v[i : i + 1, :, :n]) for k, v in layers] for i, n in enumerate(ends)]

    def _advance(
        self,
        decoder: PackedDecoder,
        group: CandidateGroup,
        prompts: Sequence[Sequence[Layer]],
        block: Block,
        width: int,
    ) -> Block:
        """Reads the next tokens of a block and adds the loglikelihoods of those they predict."""
        step = BlockStep.of(group, block, width)
        jobs, rows = group.job[block.slots][step.first], step.lengths[step.first]
        lengths = rows.tolist()
        packed = Pass(
            RowLayout(lengths, self.model.device),
            prefixes=_prefixes(jobs, np.append(step.starts, len(step.ids)), prompts),
            past=block.past,
            parents=None if block.parents is None else self._tensor(block.parents[step.first]),
            use_cache=bool((group.lengths[block.slots] - 1 > block.depth + step.lengths).any()),
        )
        within = np.arange(len(step.ids)) - np.repeat(step.starts, rows)
        positions = np.repeat(group.prompts[jobs] + block.depth, rows) + within
        states = self._read(decoder, step.ids, positions, packed)
        column = np.arange(step.lengths.sum()) - np.repeat(np.cumsum(step.lengths) - step.lengths, step.lengths)
        slots = np.repeat(block.slots, step.lengths)
        targets = group.pool.tokens[group.row[slots], block.depth + 1 + column]
        self._add(group, states, np.repeat(step.starts[step.row], step.lengths) + column, targets, slots)
        past = packed.cached() if packed.use_cache else None
        return Block(block.slots, block.depth + int(step.lengths.max()), past, step.row)

    def _read(
        self, decoder: PackedDecoder, ids: NDArray[np.int64], positions: NDArray[np.int64], packed: Pass
    ) -> Tensor:
        self.work.tokens += len(ids)
        return decoder.read(self._tensor(ids), self._tensor(positions), packed)

    def _tensor(self, values: NDArray[np.int64]) -> Tensor:
        return to_device(torch.from_numpy(values), self.model.device)

    def _add(
        self,
        group: CandidateGroup,
        states: Tensor,
        at: NDArray[np.int64],
        targets: NDArray[np.int64],
        slots: NDArray[np.int64],
    ) -> None:
        """Adds to each slot the loglikelihood of a target under the state that predicts it."""
        np.add.at(group.sums, slots, self._logprobs(states, at, targets))
        np.add.at(group.known, slots, 1)

    def _logprobs(self, states: Tensor, at: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Loglikelihoods of tokens; `at` says which of the states predicts each."""
        self.work.logit_rows += len(states)
        order = np.argsort(at, kind="stable")
        positions, wanted = at[order], self._tensor(targets[order])
        found = []
        size = logit_rows(states.device)
        for start in range(0, len(states), size):
            first, last = np.searchsorted(positions, [start, start + size])
            rows = self._tensor(positions[first:last] - start)
            logits = self.model.logits(states[start : start + size])
            found.append(torch.log_softmax(logits.float(), -1)[rows, wanted[first:last]])
        values = np.empty(len(at))
        values[order] = torch.cat(found).double().cpu().numpy()
        return values

    def _read_pairs(self, group: CandidateGroup) -> None:
        """Scores every pair by itself, for models that offer plain forward alone."""
        order = np.argsort(-(group.lengths + group.prompts[group.job]), kind="stable")
        start = 0
        while start < len(order):
            longest = int(group.lengths[order[start]] + group.prompts[group.job[order[start]]]) - 1
            batch = order[start : start + max(1, self._pass_tokens // longest)]
            self._read_batch(group, batch, longest)
            start += len(batch)

    def _read_batch(self, group: CandidateGroup, slots: NDArray[np.int64], longest: int) -> None:
        ids = np.zeros((len(slots), longest), dtype=np.int64)
        contexts = [group.jobs[group.job[slot]].context for slot in slots]
        for row, context, slot in zip(ids, contexts, slots, strict=True):
            sequence = [*context, *group.pool.distinct[group.row[slot]][:-1]]
            row[: len(sequence)] = sequence
        prompts, counts = np.array([len(c) for c in contexts]), group.lengths[slots]
        self.work.tokens += int((prompts + counts - 1).sum())
        states = self.model.forward(self._tensor(ids), lengths=self._tensor(prompts + counts - 1)).states
        column = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        positions = np.repeat(np.arange(len(slots)) * longest + prompts - 1, counts) + column
        owners = np.repeat(slots, counts)
        targets = group.pool.tokens[group.row[owners], column]
        self._add(group, states.flatten(0, 1)[self._tensor(positions)], np.arange(len(positions)), targets, owners)


def _trunk_targets(
    group: CandidateGroup, numbers: range, last: NDArray[np.int64]
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


def _unscorable(prompt: int, num_tokens: NDArray[np.int64], max_length: int) -> str:
    if not prompt:
        return "the prompt has no tokens"
    if not num_tokens.all():
        return f"continuation {int(np.argmin(num_tokens))} of {len(num_tokens)} has no tokens"
    if prompt + num_tokens.max() > max_length:
        first = prompt + num_tokens[np.argmax(prompt + num_tokens > max_length)]
        return f"prompt and continuation have {first} tokens, the model reads at most {max_length}"
    return ""
