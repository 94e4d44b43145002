"""Loglikelihoods of continuations: every candidate in full under every prompt, obviously right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from harness.model import Model
from harness.segments import Segment
from harness.task import Loglikelihoods, Request, Unscorable


@dataclass(frozen=True, slots=True)
class _Row:
    """One candidate under one prompt, as token ids."""

    place: int
    context: list[int]
    continuation: list[int]

    @property
    def length(self) -> int:
        return len(self.context) + len(self.continuation)


class Scorer:
    """Answers requests by a forward pass over prompt + continuation for each candidate.

    Args:
        model: whose likelihoods are asked for.
        batch_tokens: tokens of a batch, padding included; moves no number beyond rounding.
    """

    def __init__(self, model: Model, *, batch_tokens: int = 8192) -> None:
        self.model, self.batch_tokens = model, batch_tokens
        self._pools: dict[tuple[Segment, ...], list[list[int]]] = {}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Loglikelihoods | Unscorable]]:
        """Each request with its answer, in the order given."""
        segments = [s for r in requests for s in r.prompt]
        self.model.prepare([*segments, *(s for pool in {id(r.pool): r.pool for r in requests}.values() for s in pool)])
        for request in requests:
            yield request, self._answer(request)

    def _answer(self, request: Request) -> Loglikelihoods | Unscorable:
        context = (
            self.model.encode_prompt(request.prompt, request.target)
            if request.prompt
            else self.model.encode_prior(request.source, request.target)
        )
        if request.pool not in self._pools:
            self._pools[request.pool] = [self.model.encode_continuation(s) for s in request.pool]
        pool = self._pools[request.pool]
        rows = [_Row(place, context, pool[index]) for place, index in enumerate(request.chosen)]
        if reason := _unscorable(rows, self.model.max_length):
            return Unscorable(reason)
        values = np.zeros(len(rows))
        for batch in _batches(rows, self.batch_tokens):
            for row, value in zip(batch, self._score(batch), strict=True):
                values[row.place] = value
        return Loglikelihoods(values, np.array([len(r.continuation) for r in rows]))

    @torch.inference_mode()
    def _score(self, rows: Sequence[_Row]) -> list[float]:
        width = max(r.length for r in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : row.length] = torch.tensor(row.context + row.continuation)
        lengths = torch.tensor([r.length for r in rows])
        ids, lengths = ids.to(self.model.device), lengths.to(self.model.device)
        states = self.model.forward(ids, lengths=lengths).states
        out = []
        for i, row in enumerate(rows):
            first, last = len(row.context), row.length
            logprobs = torch.log_softmax(self.model.logits(states[i, first - 1 : last - 1]).float(), dim=-1)
            out.append(float(logprobs.gather(1, ids[i, first:last, None]).sum(dtype=torch.float64)))
        return out


def _unscorable(rows: Sequence[_Row], max_length: int) -> str:
    if empty := [r.place for r in rows if not r.continuation]:
        return f"continuation {empty[0]} of {len(rows)} has no tokens"
    if long := [r for r in rows if r.length > max_length]:
        return f"prompt and continuation have {long[0].length} tokens, the model reads at most {max_length}"
    return ""


def _batches(rows: Sequence[_Row], batch_tokens: int) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda r: -r.length):
        if batch and (len(batch) + 1) * batch[0].length > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
