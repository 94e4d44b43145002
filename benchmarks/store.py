"""What the row store takes of a run, and how long a run that is done already takes to find that out. Prints Markdown.

.venv/bin/python benchmarks/store.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from transformers import OPTConfig, OPTForCausalLM

from harness.corpora.corpus import open_corpus
from harness.evaluation.resume import answer_all, request_digests
from harness.evaluation.store import RowSet, RowStore, StoredRow
from harness.model import load_model
from harness.segments import Text
from harness.task import Loglikelihoods, Ranking, RankScore, Request, task_registry

KEY = RowSet("model", "protocol", "corpus", "scoring", model="benchmark", task="cra", corpus="benchmark")


class TimedStore(RowStore):
    """A row store that counts the seconds spent in it."""

    seconds = 0.0

    def __init__(self, path: Path) -> None:
        start = time.perf_counter()
        super().__init__(path)
        self.seconds = time.perf_counter() - start

    def get(self, rows: RowSet, requests: Mapping[str, str]) -> dict[str, StoredRow]:
        """Timed."""
        return self._timed(lambda: RowStore.get(self, rows, requests))

    def put(self, rows: RowSet, found: Mapping[str, StoredRow]) -> None:
        """Timed."""
        self._timed(lambda: RowStore.put(self, rows, found))

    def close(self) -> None:
        """Timed."""
        self._timed(lambda: RowStore.close(self))

    def _timed(self, call):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds += time.perf_counter() - start


def overhead(card: str, limit: int, folder: Path) -> str:
    """Share of the time that CRA of a card spends in the store; units are encoded beforehand."""
    model, task = load_model(card), task_registry().load("cra")
    examples = task.examples(open_corpus(model.card.corpus, "test"), task.Options(), limit=limit, seed=0)
    requests = task.requests(examples, task.Options(), modalities=model.modalities)
    model.prepare([s for r in requests for s in (*r.prompt, *r.pool)])
    start = time.perf_counter()
    with TimedStore(folder / "run.sqlite3") as store:
        answer_all(model, requests, key=KEY, store=store)
    total = time.perf_counter() - start
    what = f"CRA of {card}, {limit} prompts, 4 directions: {len(requests)} rows"
    return f"| {what} | {total:.2f} | {store.seconds:.3f} | {store.seconds / total:.1%} |"


def start_up(num_rows: int, num_candidates: int, folder: Path) -> str:
    """Seconds until a run of which every row is known knows what it has."""
    from benchmarks.scoring import BenchModel

    model = BenchModel(OPTForCausalLM(OPTConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1, ffn_dim=16,
                                                num_attention_heads=1, word_embed_proj_dim=16)))  # fmt: skip
    pool, everything = tuple(Text(f"{i}") for i in range(num_candidates)), tuple(range(num_candidates))
    scores = (RankScore(), RankScore("tokens"), RankScore(tuple(1.0 + i for i in everything)))
    requests = [
        Request(f"{i}", (Text(f"{i}"),), "text", "text", pool, everything, Ranking(i % num_candidates, scores))
        for i in range(num_rows)
    ]
    digests, rng = request_digests(requests, prune=True), np.random.default_rng(0)
    lengths, done = np.full(num_candidates, 20), np.arange(num_candidates) % 3 == 0
    rows = {
        i: StoredRow(d, Loglikelihoods(-60 * rng.random(num_candidates), lengths, done), {"tokens": 1})
        for i, d in digests.items()
    }
    path = folder / f"done-{num_candidates}.sqlite3"
    with RowStore(path) as store:
        store.put(KEY, rows)
    start, cpu = time.perf_counter(), time.process_time()
    with RowStore(path) as store:
        found = answer_all(model, requests, key=KEY, store=store)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if list(found) != list(rows):
        raise SystemExit("rows were lost")
    size = path.stat().st_size / 2**20
    return f"| {num_rows} rows of {num_candidates} candidates | {size:.1f} | {seconds:.2f} | {cpu:.2f} |"


def report(card: str, limit: int) -> None:
    """Prints the tables of one card."""
    with tempfile.TemporaryDirectory() as name:
        print("\n| run | s | of these in the store | share |\n|---|---|---|---|")
        print(overhead(card, limit, Path(name)), flush=True)
        print("\n| finished already | MiB | s until a run knows it | of CPU |\n|---|---|---|---|")
        for num_candidates in (100, 1000):
            print(start_up(1000, num_candidates, Path(name)), flush=True)


def main() -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--card", default="sutlm-tiny")
    parser.add_argument("--limit", type=int, default=60, help="prompts of the run")
    arguments = parser.parse_args()
    report(arguments.card, arguments.limit)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
