"""Speed of batched generation against one by one: the same prompts, the same continuations.

Rounds are paired and alternate, and the ratio is taken within a round, so that a machine that others use at the same
time changes both sides. Prints Markdown.

    .venv/bin/python benchmarks/generation.py
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from harness.corpora.corpus import open_corpus
from harness.engine.generation import Continue, Generator
from harness.engine.sampling import Sampling
from harness.model import load_model
from harness.segments import DIRECTIONS, modalities_of
from harness.tasks._halves import cut_in_halves


def main() -> None:
    """Prints tokens per second by batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sutlm-tiny")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32, help="of every continuation, which may not end before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, corpus = load_model(args.model), open_corpus("demo", "test")
    halves = [cut_in_halves(corpus, u, needs_times=True, instead="") for u in corpus.utterances[: args.prompts]]
    model.prepare([h.prompt["speech"] for h in halves])
    print(f"{args.model}, {len(halves)} prompts, {args.tokens} tokens each, {args.threads} threads\n")
    print("| direction | one by one, s | batched, s | ratio | the same |\n|---|---|---|---|---|")
    for direction in DIRECTIONS:
        source, target = modalities_of(direction)
        requests = [Continue(h.id, (h.prompt[source],), target, args.tokens, args.tokens) for h in halves]
        rounds = []
        for _ in range(args.rounds):
            start = time.perf_counter()
            alone = dict(pair for r in requests for pair in generate(model, [r]))
            middle = time.perf_counter()
            together = dict(generate(model, requests))
            rounds.append((middle - start, time.perf_counter() - middle))
        ratio = statistics.median(a / b for a, b in rounds)
        first, second = (statistics.median(side) for side in zip(*rounds, strict=True))
        print(f"| {direction} | {first:.2f} | {second:.2f} | {ratio:.1f} | {alone == together} |", flush=True)


def generate(model: object, requests: list[Continue]) -> list[tuple[str, tuple[int, ...]]]:
    """Ids of every continuation."""
    generator = Generator(model, sampling=Sampling(), seed=0)  # type: ignore[arg-type]
    return [(r.id, g.ids) for r, g in generator.generate(requests)]


if __name__ == "__main__":
    main()
