"""Paired comparison of CRA runs: does mixed training buy cross-modal retrieval?

    harness run --model sutlm-tiny-ast,sutlm-tiny-cst,sutlm-tiny-nomix --tasks cra --output out/ablations
    python benchmarks/ablations.py out/ablations/*

Reads results folders, joins their items by id, and prints over u2t and t2u together R@1 and the mean rank of the gold
(each under the better of `sum` and `pmi` of a model) and its negative loglikelihood per second or character, with the
paired difference of every two runs, clustered by speaker, p corrected over the differences of a measure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from harness.metrics.retrieval import Ranks
from harness.results import Item, read_results
from harness.stats import bootstrap_ci, holm, join_items, paired_difference

DIRECTIONS = ("u2t", "t2u")
SCORES = ("sum", "pmi")
#: Of every item what it depends on others through.
Groups = dict[str, tuple[str | None, ...]]


def main() -> None:
    """Prints the tables of the runs that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="results folders with the task cra")
    runs = {
        run.model["name"]: [i for i in run.tasks["cra"].items if i.extra["direction"] in DIRECTIONS and not i.failed]
        for run in map(read_results, parser.parse_args().runs)
    }
    groups = {item.id: item.clusters for items in runs.values() for item in items}
    compare("R@1", {name: best(items, recall_at_1, higher=True) for name, items in runs.items()}, groups)
    compare("rank of the gold", {name: best(items, rank, higher=False) for name, items in runs.items()}, groups)
    nll = {name: ("-", {i.id: float(i.scores["gold_nll"]) for i in items}) for name, items in runs.items()}
    compare("nats per second or character of the gold", nll, groups)


def compare(what: str, values: dict[str, tuple[str, dict[str, float]]], groups: Groups) -> None:
    """Prints one measure of every run and its paired differences."""
    print(f"\n| model | score | {what} | 95 % interval |\n|---|---|---|---|")
    for name, (score, value) in values.items():
        ids = sorted(value)
        ci = bootstrap_ci([value[i] for i in ids], [groups[i] for i in ids], seed=0)
        print(f"| {name} | {score} | {ci.value:.3f} | {bounds(ci.bounds)} |")
    found = {}
    for a, b in combinations(values, 2):
        ids, x, y = join_items(values[a][1], values[b][1])
        found[f"{a} − {b}"] = paired_difference(x, y, [groups[i] for i in ids], seed=0)
    corrected = holm({name: d.p_value for name, d in found.items()})
    print(f"\n| paired difference | {what} | 95 % interval | p (Holm) | detectable |\n|---|---|---|---|---|")
    for name, d in found.items():
        detectable = "-" if d.minimum_detectable_effect is None else f"{d.minimum_detectable_effect:.3f}"
        print(f"| {name} | {d.difference:+.3f} | {bounds(d.ci95)} | {corrected[name]:.4f} | {detectable} |")


def best(items: list[Item], measure: Callable[[Ranks], float], *, higher: bool) -> tuple[str, dict[str, float]]:
    """The better of the two scores by its sum over items, with the value of each item."""
    by_score = {score: {i.id: measure(ranks(i, score)) for i in items} for score in SCORES}
    return (max if higher else min)(by_score.items(), key=lambda pair: sum(pair[1].values()))


def recall_at_1(ranks: Ranks) -> float:
    """1 where the gold ranks first; ties share it."""
    return ranks.recall_at(1)


def rank(ranks: Ranks) -> float:
    """Mean rank of the gold among those it ties with; 1 is best."""
    return ranks.better + (ranks.tied + 1) / 2


def ranks(item: Item, score: str) -> Ranks:
    """Ranks of an item under a score."""
    counts = item.scores["ranks"][score]
    return Ranks(better=counts["better"], tied=counts["tied"], num_candidates=item.scores["num_candidates"])


def bounds(interval: tuple[float, float] | None) -> str:
    """An interval as text."""
    return "-" if interval is None else f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"


if __name__ == "__main__":
    main()
