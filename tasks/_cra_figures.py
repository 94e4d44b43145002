"""Figures of CRA: recall at k and the ranks of the golds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from harness.figures import Bars, Curve, Figure
from harness.metrics.retrieval import Ranks
from harness.results import Item

#: R@k is drawn at so many values of k at most.
_CURVE_POINTS = 40


def rank_figures(items: Sequence[Item]) -> Iterator[Figure]:
    """R@k and a histogram of ranks for each score and direction; those of other scores than the first are folded."""
    scores = list(items[0].scores["ranks"]) if items else []
    scores.sort(key=lambda score: score != "pmi")  # stable: the others in their order
    directions = list(dict.fromkeys(str(i.extra["direction"]) for i in items))
    for score in scores:
        ranks = {d: _ranks([i for i in items if i.extra["direction"] == d], score) for d in directions}
        about: dict[str, Any] = {"folded": score != scores[0]}
        yield from (_curve(found, direction, score, **about) for direction, found in ranks.items())
        yield from (_histogram(found, direction, score, **about) for direction, found in ranks.items())


def _ranks(items: Sequence[Item], score: str) -> list[Ranks]:
    counts = [(i.scores["ranks"][score], int(i.scores["num_candidates"])) for i in items]
    return [Ranks(better=c["better"], tied=c["tied"], num_candidates=n) for c, n in counts]


def _curve(ranks: Sequence[Ranks], direction: str, score: str, *, folded: bool) -> Curve:
    n = max(r.num_candidates for r in ranks)
    ks = sorted({max(1, round(n ** (i / _CURVE_POINTS))) for i in range(_CURVE_POINTS + 1)})
    counts = Counter(ranks).items()
    return Curve(
        name=f"r_at_k.{score}.{direction}",
        title=f"R@k, {direction}, {score}",
        group=f"R@k by {score}",
        caption=f"{direction}: share of prompts whose gold is among the first k; thin line: chance",
        folded=folded,
        x_label="k",
        y_label="R@k",
        points=[(k, round(sum(c * r.recall_at(k) for r, c in counts) / len(ranks), 4)) for k in ks],
        chance=[(k, k / n) for k in ks],
        x_log=True,
        y_range=(0, 1),
    )


def _histogram(ranks: Sequence[Ranks], direction: str, score: str, *, folded: bool) -> Bars:
    edges = _edges(max(r.num_candidates for r in ranks))
    return Bars(
        name=f"ranks.{score}.{direction}",
        title=f"ranks of the gold, {direction}, {score}",
        group=f"ranks of the gold by {score}",
        caption=f"{direction}: share of prompts by rank of the gold",
        folded=folded,
        x_label="rank",
        y_label="share of prompts",
        values={str(a) if a == b else f"{a}–{b}": _share(ranks, a, b) for a, b in edges},
    )


def _edges(n: int) -> list[tuple[int, int]]:
    ends = [e for e in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000) if e < n] + [n]
    return list(zip([1, *(e + 1 for e in ends[:-1])], ends, strict=True))


def _share(ranks: Sequence[Ranks], a: int, b: int) -> float:
    """Expected share of golds with a rank from `a` to `b`, ties in random order."""
    return sum(r.recall_at(b) - (r.recall_at(a - 1) if a > 1 else 0.0) for r in ranks) / len(ranks)
