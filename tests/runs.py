"""Runs of CRA as `harness run` leaves them, from ranks that a test makes up: no model, but the real task's numbers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from harness.config import digest, plain
from harness.results import Item, RunResult, TaskResult, signature, write_results
from harness.tasks.cra import SCORES, TASK, CraOptions

DIRECTIONS = ("u2t", "t2u")


def item(
    number: int, direction: str, rank: int, *, n: int = 20, group: str | None = None, prompt: str = "", **extra: Any
) -> Item:
    """An item whose gold has this rank under every score."""
    counts = {"rank": float(rank), "better": rank - 1, "tied": 1}
    scores = {
        "num_candidates": n,
        "ranks": {score: dict(counts) for score in SCORES},
        "gold_loglikelihood": -10.0 - rank,
        "gold_tokens": 10,
        "gold_extent": 5.0,
        "gold_nll": 2.0 + rank / 5,
        "gold_pmi": 3.0 - rank / 10,
    }
    return Item(
        f"{direction}/utt-{number:04d}",
        group=group or f"speaker-{number % 10}",
        prompt=prompt or f"prompt number {number}",
        reference=f"gold number {number}",
        output=f"gold number {number if rank == 1 else number + rank}",
        scores=scores,
        extra={"direction": direction, **extra},
    )


def run(
    model: str,
    items: list[Item],
    *,
    seed: int = 0,
    options: CraOptions | None = None,
    examples: str = "utterances",
    **protocol: Any,
) -> RunResult:
    """A run of CRA with these items."""
    options = options or CraOptions(directions=DIRECTIONS)
    scored = [i for i in items if i.failed is None]
    of_task = {
        "task": "cra",
        "version": TASK.info.version,
        "options": plain(options),
        "corpus": "demo",
        "corpus_digest": "0092" * 16,
        "split": "test",
        "n": len(items) // 2,
        "examples": examples,
        "seed": seed,
        **protocol,
    }
    fingerprint = digest(model)
    parts = {
        "task": "cra",
        "version": TASK.info.version,
        "corpus": "demo@0092",
        "n": of_task["n"],
        "model": f"{model}@{fingerprint[:4]}",
    }
    task = TaskResult(
        task="cra",
        signature=signature({**parts, "seed": seed, "harness": "0.2.0"}),
        metrics=TASK.summarize(scored, options, seed=seed),
        n_expected=len(items),
        n_scored=len(scored),
        n_failed=len(items) - len(scored),
        protocol=of_task,
        items=items,
    )
    return RunResult(
        run_id=f"{model}-{digest([model, of_task])[:12]}",
        model={"name": model, "fingerprint": fingerprint, "adapter": "sutlm"},
        corpus={"name": "demo", "split": "test", "digest": "0092" * 16, "utterances": 200},
        tasks={"cra": task},
        protocol={
            "run": {"tasks": ["cra"], "seed": seed},
            "model": {"card": {"name": model, "tokenizers": {"text": {"vocab_size": len(model)}}}},
            "corpus": {"name": "demo", "split": "test", "root": "/nowhere"},
            "tasks": {"cra": of_task},
            "versions": {"python": "3.11", "torch": "2.11.0"},
            "git": "f00d",
        },
    )


def drawn(model: str, *, skill: float, num: int = 30, draw: int = 0, **more: Any) -> RunResult:
    """A run whose golds come first with probability `skill`, the same `draw` deciding for every model."""
    items = []
    for direction in DIRECTIONS:
        dice = random.Random(f"{draw} {direction}")
        for number in range(num):
            luck, rank = dice.random(), dice.randint(2, 20)
            items.append(item(number, direction, 1 if luck < skill else rank))
    return run(model, items, **more)


def written(result: RunResult, folder: Path) -> Path:
    """The run in a results folder."""
    write_results(result, folder)
    return folder
