"""Continuations sampled from a model: batched, with a KV cache, and the same in any batch.

Rows of a batch are padded on the right and go on each at its own length; those that are finished leave it. Every
request has a generator of its own, seeded by (seed, id), whose noise is added to the logits (Gumbel-max: the largest of
logit + temperature × Gumbel noise is a sample of the softmax at that temperature; Gumbel 1954, Maddison et al. 2014,
arXiv 1411.0030). Batches differ by rounding, so a choice that rounding could turn is made again from a pass that reads
the row alone and from its start: such choices, and hence all continuations, are the same however rows are batched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from harness.engine.memory import smaller_batch
from harness.engine.sampling import Bools, Sampling, choose_token_alone, choose_tokens
from harness.errors import OptionError, SegmentError
from harness.model import Model, Past
from harness.segments import Modality, Prompt, Speech

_MODALITIES: tuple[Modality, Modality] = ("speech", "text")


@dataclass(frozen=True, slots=True)
class Continue:
    """One thing to continue.

    Attributes:
        id: of its own; seeds its noise.
        prompt: what is continued.
        target: modality of the continuation.
        max_new_tokens: it is no longer; nor is prompt and continuation together than the model's `max_length`.
        min_new_tokens: the end is not allowed before.
        max_seconds: of speech: the token that reaches it is the last; text counts as 0 seconds.
        context: ids to continue, in place of `encode_prompt(prompt, target)`.
        switching: whether the model may also switch between modalities.
    """

    id: str
    prompt: Prompt
    target: Modality
    max_new_tokens: int
    min_new_tokens: int = 0
    max_seconds: float | None = None
    context: tuple[int, ...] | None = None
    switching: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_new_tokens <= self.max_new_tokens or self.max_new_tokens < 1:
            raise OptionError(
                f"'{self.id}': a continuation has 1 token or more, at least min and at most max; found "
                f"min_new_tokens={self.min_new_tokens}, max_new_tokens={self.max_new_tokens}."
            )


@dataclass(frozen=True)
class Generated:
    """A continuation.

    Attributes:
        ids: its tokens, without the end token.
        segments: what they stand for, as the model decodes them.
        ended: whether the model ended it; False where a limit did.
        switched: whether it holds another modality than the target.
        loglikelihood: of `ids` and the end, under the model's whole softmax at temperature 1 (nats, ≤ 0); depends on
            the batch by rounding.
    """

    ids: tuple[int, ...]
    segments: Prompt
    ended: bool
    switched: bool
    loglikelihood: float


@dataclass
class _Row:
    """A request on its way."""

    request: Continue
    context: list[int]
    limit: int
    noise: np.random.Generator | None
    modality: Modality
    ids: list[int] = field(default_factory=list)
    seconds: float = 0.0
    loglikelihood: float = 0.0
    ended: bool = False

    @property
    def sequence(self) -> list[int]:
        return self.context + self.ids

    @property
    def done(self) -> bool:
        request = self.request
        long = request.max_seconds is not None and self.seconds >= request.max_seconds
        return self.ended or long or len(self.ids) >= self.limit


class Generator:
    """Continues prompts.

    Args:
        model: what continues them.
        sampling: how tokens are drawn.
        seed: of all noise.
        batch_tokens: tokens held at once, prompts and continuations together; changes speed only.
        unit_seconds: mean length of a speech unit, for requests with `max_seconds`.
    """

    def __init__(
        self,
        model: Model,
        *,
        sampling: Sampling,
        seed: int,
        batch_tokens: int = 8192,
        unit_seconds: float | None = None,
    ) -> None:
        self.model, self.sampling, self.seed = model, sampling, seed
        self.batch_tokens, self.unit_seconds = batch_tokens, unit_seconds
        self._columns: dict[tuple[Modality, bool], _Columns] = {}
        self._num_units: dict[int, int] = {}

    def refusal(self, request: Continue) -> str | None:
        """Why a request cannot be continued at all: its prompt leaves no room. None if it can."""
        length = len(self._context(request))
        if length < self.model.max_length:
            return None
        return f"a prompt of {length} tokens leaves no room within the model's {self.model.max_length}"

    def generate(self, requests: Sequence[Continue]) -> Iterator[tuple[Continue, Generated]]:
        """Each request with its continuation, in the order in which batches are done.

        Raises:
            SegmentError: if a request cannot be continued (`refusal`).
            OptionError: if two requests have one id.
            OutOfMemoryError: if memory does not suffice for the smallest batch.
        """
        self.model.prepare([segment for r in requests if r.context is None for segment in r.prompt])
        if len({r.id for r in requests}) < len(requests):
            raise OptionError("Two requests have one id, which seeds their noise; give each its own.")
        contexts = {r.id: self._context(r) for r in requests}
        # Rows of one batch are allowed the same tokens and are about equally long.
        waiting = sorted(requests, key=lambda r: (r.target, r.switching, len(contexts[r.id]), r.id))
        while waiting:
            group = self._group(waiting, contexts)
            try:
                rows = self._continue([self._row(r, contexts[r.id]) for r in group])
            except (RuntimeError, MemoryError) as error:
                self.batch_tokens = smaller_batch(error, self.batch_tokens, self.model.device)
                continue
            for row in rows:
                yield row.request, self._generated(row)
            waiting = waiting[len(group) :]

    def _context(self, request: Continue) -> list[int]:
        if request.context is not None:
            return list(request.context)
        return self.model.encode_prompt(request.prompt, request.target)

    def _row(self, request: Continue, context: list[int]) -> _Row:
        limit = min(request.max_new_tokens, self.model.max_length - len(context))
        if not context or limit < 1:
            raise SegmentError(f"'{request.id}': {self.refusal(request) or 'there is no token to start from'}.")
        if request.max_seconds is not None and self.unit_seconds is None:
            raise OptionError(f"'{request.id}' is limited in seconds; say how long a unit lasts (unit_seconds).")
        noise = None
        if self.sampling.temperature > 0:
            key = hashlib.sha256(f"{self.seed} {request.id}".encode()).digest()
            noise = np.random.default_rng(int.from_bytes(key, "little"))
        return _Row(request, context, limit, noise, request.target)

    def _group(self, waiting: Sequence[Continue], contexts: dict[str, list[int]]) -> list[Continue]:
        kind = waiting[0].target, waiting[0].switching
        group: list[Continue] = []
        longest = 0
        for request in waiting:
            longest = max(longest, len(contexts[request.id]) + request.max_new_tokens)
            if group and (
                (request.target, request.switching) != kind or longest * (len(group) + 1) > self.batch_tokens
            ):
                break
            group.append(request)
        return group

    @torch.inference_mode()
    def _continue(self, rows: list[_Row]) -> list[_Row]:
        live = list(rows)
        states, past = self._read_whole(live)
        while True:
            self._extend(live, self.model.logits(states))
            going = [i for i, row in enumerate(live) if not row.done]
            if not going:
                return rows
            if past is not None and len(going) < len(live):
                past = past.select(torch.tensor(going, device=self.model.device))
            live = [live[i] for i in going]
            states, past = self._read_last(live, past) if past is not None else self._read_whole(live)

    def _read_whole(self, rows: Sequence[_Row]) -> tuple[Tensor, Past | None]:
        """States `(rows, width)` of the last token of each row, read from its start."""
        lengths = [len(row.sequence) for row in rows]
        padded = [row.sequence + [0] * (max(lengths) - len(row.sequence)) for row in rows]
        device = self.model.device
        ids, ends = torch.tensor(padded, device=device), torch.tensor(lengths, device=device)
        hidden = self.model.forward(ids, lengths=None if len(set(lengths)) == 1 else ends, use_cache=True)
        # A tensor has a `select` too, which is another.
        goes_on = hasattr(hidden.past, "select") and not isinstance(hidden.past, Tensor)
        past: Past | None = hidden.past if goes_on else None
        return hidden.states[torch.arange(len(rows), device=device), ends - 1], past

    def _read_last(self, rows: Sequence[_Row], past: Past) -> tuple[Tensor, Past | None]:
        ids = torch.tensor([[row.ids[-1]] for row in rows], device=self.model.device)
        hidden = self.model.forward(ids, past=past, use_cache=True)
        return hidden.states[:, -1], hidden.past

    def _extend(self, rows: Sequence[_Row], logits: Tensor) -> None:
        """Draws the next token of each row."""
        columns = self._allowed(rows[0])
        logits = logits.float()
        totals = logits.logsumexp(-1).tolist()
        wanted = logits[:, columns.ids].double().cpu().numpy()
        allowed = np.stack([columns.allowed(row) for row in rows])
        noise = None
        if self.sampling.temperature > 0:
            noise = -np.log(np.stack([row.noise.standard_exponential(wanted.shape[1]) for row in rows if row.noise]))
        drawn, sure = choose_tokens(np.where(allowed, wanted, -np.inf), noise, self.sampling)
        for i in np.flatnonzero(~sure).tolist():
            alone = self._alone(rows[i])[:, columns.ids].double().cpu().numpy()
            own_noise = None if noise is None else noise[i : i + 1]
            drawn[i] = choose_token_alone(np.where(allowed[i], alone, -np.inf), own_noise, self.sampling)
        for row, column, scores, total in zip(rows, drawn, wanted, totals, strict=True):
            row.loglikelihood += float(scores[column]) - total
            self._take(row, int(columns.ids[column]), columns)

    def _alone(self, row: _Row) -> Tensor:
        ids = torch.tensor([row.sequence], device=self.model.device)
        return self.model.logits(self.model.forward(ids).states[:, -1]).float()

    def _take(self, row: _Row, token: int, columns: _Columns) -> None:
        if token == self.model.end:
            row.ended = True
            return
        row.ids.append(token)
        row.modality = columns.switches.get(token, row.modality)
        if row.request.max_seconds is not None and self.unit_seconds is not None:
            row.seconds += self._units_in(token) * self.unit_seconds

    def _units_in(self, token: int) -> int:
        if token not in self._num_units:
            spans = [s.units for s in self.model.decode([token]) if isinstance(s, Speech) and s.units]
            self._num_units[token] = sum(len(span.units) for span in spans)
        return self._num_units[token]

    def _allowed(self, row: _Row) -> _Columns:
        key = row.request.target, row.request.switching
        if key not in self._columns:
            self._columns[key] = _Columns(self.model, *key)
        return self._columns[key]

    def _generated(self, row: _Row) -> Generated:
        own = set(self.model.tokens_of(row.request.target)) if row.request.switching else None
        switched = own is not None and any(i not in own for i in row.ids)
        return Generated(tuple(row.ids), self.model.decode(row.ids), row.ended, switched, row.loglikelihood)


class _Columns:
    """The tokens that continuations of one kind may be made of.

    Attributes:
        ids: `(columns,)`, ascending.
        switches: the tokens that switch, each with the modality it leads to.
    """

    def __init__(self, model: Model, target: Modality, switching: bool) -> None:
        known: list[Modality] = [m for m in _MODALITIES if m in model.modalities]
        if target not in known:
            raise SegmentError(f"'{model.card.name}' takes {' and '.join(known)}; it cannot continue in {target}.")
        self.switches: dict[int, Modality] = {}
        if switching and len(known) == 2:
            # A prior over two modalities ends in the switch token that leads to the second.
            pairs: tuple[tuple[Modality, Modality], ...] = (("speech", "text"), ("text", "speech"))
            self.switches = {model.encode_prior(source, to)[-1]: to for source, to in pairs}
        end = [] if model.end is None else [model.end]
        spoken = known if self.switches else [target]
        tokens = {m: list(model.tokens_of(m)) for m in spoken}
        self.ids = np.array(sorted({*end, *self.switches, *(i for m in spoken for i in tokens[m])}))
        self._end = np.isin(self.ids, end)
        self._own = {
            m: np.isin(self.ids, [*tokens[m], *(i for i, to in self.switches.items() if to != m)]) for m in spoken
        }

    def allowed(self, row: _Row) -> Bools:
        """Which columns the row may go on with: its present modality, a switch to the other, the end if it is time."""
        own = self._own[row.modality]
        return own if len(row.ids) < row.request.min_new_tokens else own | self._end
