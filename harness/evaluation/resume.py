"""Answers to a task's requests: those in the store, and the rest, shared among the processes of a run.

Requests are taken in blocks that depend neither on what is known already nor on who computes them. Rounding differs
between batches, and results must not tell how often a run was stopped or how many processes shared it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import plain
from harness.corpora.content import read_contents
from harness.engine.distributed import ALONE, Processes
from harness.engine.work import Work
from harness.errors import TaskError
from harness.evaluation.store import RowSet, RowStore, StoredRow
from harness.model import Model
from harness.segments import Segment, Speech
from harness.task import Answer, Record, Request, prior_ids

if TYPE_CHECKING:
    from harness.engine.scoring import Scorer

#: Called with how many items are done, and how many there are.
StepProgress = Callable[[int, int], None]

#: About how many tokens of a candidate are read at first: a few where only ranks are wanted, else all.
_TOKENS_RANKED, _TOKENS_IN_FULL = 6, 24


def answer_all(
    model: Model,
    requests: Sequence[Request],
    *,
    key: RowSet,
    batch_tokens: int = 8192,
    prune: bool = True,
    store: RowStore | None = None,
    processes: Processes = ALONE,
    report: StepProgress | None = None,
) -> dict[str, StoredRow]:
    """The row of every request by id, in their order; the same in every process.

    Where the store holds every row, the model's decoder is not asked for: it need not be built.

    Args:
        model: computes what is not known.
        requests: those that others are ranked against come before them.
        key: what the rows are stored under.
        batch_tokens: tokens held at once, the same in all processes; has no effect on results beyond rounding.
        prune: whether candidates may stay unfinished where only ranks are wanted.
        store: where rows are looked up and stored as they are found.
        processes: connected, if several.
        report: called with what is in the store from the start and what this process adds.

    Raises:
        StoreError: if the store cannot be used.
        HarnessError: as the scorer does.
    """
    digests = request_digests(requests, prune=prune)
    own = store.get(key, digests) if store and processes.local_rank == 0 else {}
    known = _merged(processes.gather(own))
    awaited = prior_ids(requests)
    todo = [b for b in _blocks(requests, awaited, batch_tokens, prune=prune) if any(r.id not in known for r in b)]
    mine = _share(todo, awaited, processes)
    before = len(requests) - sum(map(len, todo))
    done, total = before, before + sum(map(len, mine))
    if report and done:
        report(done, total)
    found: dict[str, StoredRow] = {}
    if todo:
        _prepare(model, [r for block in todo for r in block], processes)
    if mine:
        from harness.engine.scoring import Scorer  # takes seconds to import

        scorer = Scorer(model, batch_tokens=batch_tokens, prune=prune)
    for block in mine:
        priors = answers({i: row for i in awaited if (row := found.get(i) or known.get(i))})
        rows = _answer_block(scorer, block, priors, digests)
        found |= rows
        if store:
            store.put(key, rows)
        done += len(block)
        if report:
            report(done, total)
    if store:
        store.commit()
    known |= _merged(processes.gather(found))
    return {request.id: known[request.id] for request in requests}


def keep_all(
    requests: Mapping[str, str],
    compute: Callable[[Sequence[str]], Iterable[tuple[str, Mapping[str, Any]]]],
    *,
    key: RowSet,
    store: RowStore | None = None,
    processes: Processes = ALONE,
    report: StepProgress | None = None,
) -> dict[str, Mapping[str, Any]]:
    """The record of every item by id, in their order; the same in every process.

    Args:
        requests: by item, a digest of what is asked of it.
        compute: yields the items that it is given, each with its record, which must not depend on which others are
            computed beside it.
        key: what the rows are stored under.
        store: where rows are looked up and stored as they are found.
        processes: connected, if several.
        report: called with what is in the store from the start and what this process adds.

    Raises:
        StoreError: if the store cannot be used.
        TaskError: if `compute` leaves an item out.
    """
    own = store.get(key, requests) if store and processes.local_rank == 0 else {}
    known = _merged(processes.gather(own))
    todo = [item for item in requests if item not in known]
    mine = todo[processes.rank :: processes.world]
    done, total = len(requests) - len(todo), len(requests) - len(todo) + len(mine)
    if report and done:
        report(done, total)
    found: dict[str, StoredRow] = {}
    for item, data in compute(mine) if mine else ():
        found[item] = StoredRow(requests[item], Record(plain(data)))
        if store:
            store.put(key, {item: found[item]})
        done += 1
        if report:
            report(done, total)
    if store:
        store.commit()
    if missing := [item for item in mine if item not in found]:
        raise TaskError(f"The task '{key.task}' left out {len(missing)} of {len(mine)} items, first '{missing[0]}'.")
    known |= _merged(processes.gather(found))
    return {item: record.data for item in requests if isinstance(record := known[item].answer, Record)}


def answers(rows: Mapping[str, StoredRow]) -> dict[str, Answer]:
    """The answers in rows of requests."""
    return {item: row.answer for item, row in rows.items() if not isinstance(row.answer, Record)}


def total_work(rows: Iterable[StoredRow]) -> dict[str, int]:
    """What all rows took together, by what is counted; of a yes or no, whether it holds for all."""
    works = [row.work for row in rows if row.work]
    total: dict[str, int] = {}
    for work in works:
        for name, value in work.items():
            before = total.get(name, value if isinstance(value, bool) else 0)
            total[name] = before and value if isinstance(value, bool) else before + value
    return total


def request_digests(requests: Sequence[Request], *, prune: bool) -> dict[str, str]:
    """What each request asks, as a digest: a task that asks otherwise than before must not get its old answers.

    Audio is asked for by its content, wherever its file lies.
    """
    memory: dict[int, str] = {}
    contents = read_contents([s.audio.path for s in _segments(requests) if isinstance(s, Speech) and s.audio])

    def named(segment: Segment) -> object:
        if not isinstance(segment, Speech) or segment.audio is None:
            return segment
        audio = segment.audio
        name = contents[audio.path].sha256 if audio.path in contents else str(audio.path)
        return name, audio.start_s, audio.end_s, segment.units

    def of(values: tuple[Any, ...]) -> str:
        # Pools and divisors are the same objects in many requests.
        if id(values) not in memory:
            memory[id(values)] = hashlib.sha256(repr(values).encode()).hexdigest()
        return memory[id(values)]

    named_pools = {id(pool): tuple(map(named, pool)) for pool in _pools(requests)}

    def asked(r: Request) -> bytes:
        parts: list[object] = [tuple(map(named, r.prompt)), r.source, r.target, of(named_pools[id(r.pool)])]
        if r.ranking and prune:
            parts.append(r.ranking.gold)
            for s in r.ranking.scores:
                parts += [of(s.divisor) if isinstance(s.divisor, tuple) else s.divisor, s.prior, s.tolerance]
        return repr(parts).encode() + np.asarray(r.chosen, dtype="<i8").tobytes()

    return {r.id: hashlib.sha256(asked(r)).hexdigest() for r in requests}


def _answer_block(
    scorer: Scorer, block: Sequence[Request], known: Mapping[str, Answer], digests: Mapping[str, str]
) -> dict[str, StoredRow]:
    scorer.work = Work(shared_prefix=scorer.work.shared_prefix)
    answered = list(scorer.answer(block, known=known))
    work = plain(scorer.work)  # of the block; its first row carries it
    return {r.id: StoredRow(digests[r.id], a, {} if i else work) for i, (r, a) in enumerate(answered)}


def _blocks(
    requests: Sequence[Request], awaited: frozenset[str], batch_tokens: int, *, prune: bool
) -> list[list[Request]]:
    """Consecutive requests that are computed, stored and shared out together: about a batch of one pool and kind."""
    blocks: list[list[Request]] = []
    last, tokens = None, 0
    for request in requests:
        ranked = request.ranking is not None and prune
        kind = (id(request.pool), ranked, request.id if request.id in awaited else None)
        size = len(request.chosen) * (_TOKENS_RANKED if ranked else _TOKENS_IN_FULL)
        if kind != last or tokens + size > batch_tokens:
            blocks.append([])
            tokens = 0
        blocks[-1].append(request)
        last, tokens = kind, tokens + size
    return blocks


def _share(blocks: Sequence[list[Request]], awaited: frozenset[str], processes: Processes) -> list[list[Request]]:
    """The blocks of this process, in order; what others are ranked against, every process computes for itself."""
    shared = [block for block in blocks if block[0].id not in awaited]
    mine = {block[0].id for block in shared[processes.rank :: processes.world]}
    return [block for block in blocks if block[0].id in awaited or block[0].id in mine]


def _prepare(model: Model, requests: Sequence[Request], processes: Processes) -> None:
    """Lets the model encode what the requests need; each process first encodes its share, for the cache of all."""
    segments = list(
        dict.fromkeys([*(s for r in requests for s in r.prompt), *(s for p in _pools(requests) for s in p)])
    )
    if not segments:
        return
    if processes.world > 1:
        model.prepare(segments[processes.rank :: processes.world])
        processes.gather(None)
    model.prepare(segments)


def _pools(requests: Sequence[Request]) -> list[tuple[Segment, ...]]:
    """The pools of the requests, each once: many requests share one."""
    return list({id(r.pool): r.pool for r in requests}.values())


def _segments(requests: Sequence[Request]) -> list[Segment]:
    """Of prompts and pools, each once."""
    pools = _pools(requests)
    return list(dict.fromkeys([*(s for r in requests for s in r.prompt), *(s for pool in pools for s in pool)]))


def _merged(parts: Sequence[dict[str, StoredRow]]) -> dict[str, StoredRow]:
    return {item: row for part in parts for item, row in part.items()}
