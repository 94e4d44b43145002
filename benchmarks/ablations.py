"""Paired comparison of CRA runs: does mixed training buy cross-modal retrieval?

    harness run --model sutlm-tiny-ast,sutlm-tiny-cst,sutlm-tiny-nomix --tasks cra --output out/ablations
    python benchmarks/ablations.py out/ablations/*

Reads results folders, joins their items by id, and prints R@1 over u2t and t2u together (best of `sum` and `pmi`
per model) with the paired difference of every two runs, clustered by speaker.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

from harness.metrics.retrieval import Ranks
from harness.results import Item, read_results
from harness.stats import bootstrap_ci, holm, join_items, paired_difference

DIRECTIONS = ("u2t", "t2u")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="results folders with the task cra")
    runs = {r.model["name"]: r.tasks["cra"].items for r in map(read_results, parser.parse_args().runs)}
    recall = {name: best_score(items) for name, items in runs.items()}
    groups = {item["id"]: item["group"] for items in runs.values() for item in items}
    print("| model | score | R@1 over u2t + t2u | 95 % interval |\n|---|---|---|---|")
    for name, (score, values) in recall.items():
        ids = sorted(values)
        ci = bootstrap_ci([values[i] for i in ids], [groups[i] for i in ids], seed=0, support=(0.0, 1.0))
        print(f"| {name} | {score} | {ci.value:.3f} | {bounds(ci.bounds)} |")
    found = {}
    for a, b in combinations(recall, 2):
        ids, x, y = join_items(recall[a][1], recall[b][1])
        found[f"{a} − {b}"] = paired_difference(x, y, [groups[i] for i in ids], seed=0)
    corrected = holm({name: d.p_value for name, d in found.items()})
    print("\n| paired difference | R@1 | 95 % interval | p (Holm) | detectable |\n|---|---|---|---|---|")
    for name, d in found.items():
        detectable = "-" if d.minimal_detectable is None else f"{d.minimal_detectable:.3f}"
        print(f"| {name} | {d.difference:+.3f} | {bounds(d.ci95)} | {corrected[name]:.4f} | {detectable} |")


def best_score(items: list[Item]) -> tuple[str, dict[str, float]]:
    by_score = {score: recall_at_1(items, score) for score in ("sum", "pmi")}
    return max(by_score.items(), key=lambda pair: sum(pair[1].values()))


def recall_at_1(items: list[Item], score: str) -> dict[str, float]:
    rows = [i for i in items if i["direction"] in DIRECTIONS and "failed" not in i]
    return {i["id"]: ranks(i, score).recall_at(1) for i in rows}


def ranks(item: Item, score: str) -> Ranks:
    counts = item["ranks"][score]
    return Ranks(better=counts["better"], tied=counts["tied"], num_candidates=item["num_candidates"])


def bounds(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"


if __name__ == "__main__":
    main()
