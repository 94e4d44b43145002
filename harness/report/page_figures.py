"""Which figures a report draws of a task."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.metrics.retrieval import Ranks
from harness.report import figures as svg
from harness.report import tables
from harness.results import Item, Metric, RunResult
from harness.task import AnyTask

_CONDITION = ("cell", "train_on", "train", "test_on", "test", "condition", "direction")
_TRANSFER = re.compile(r"(?P<task>\w+)\.train_(?P<train>\w+)\.test_(?P<test>\w+)\.(?P<metric>\w+)")
_TRANSFER_METRICS = ("macro_f1", "f1", "label_f1", "accuracy")
#: Two outputs are a classification if there are no more labels than this.
_MAX_LABELS = 10
#: Metrics by row and column of a figure.
_Cells = Mapping[str, Mapping[str, Metric]]
#: R@k is drawn at so many values of k at most.
_CURVE_POINTS = 40


@dataclass(frozen=True)
class Figure:
    """A drawing with what is said of it; those of one `group` stand together, `folded` groups closed at first."""

    group: str
    caption: str
    drawing: Markup
    folded: bool = False
    legend: bool = False


def figures_of(
    task: str, results: Sequence[RunResult], labels: Sequence[str], tasks: Mapping[str, AnyTask]
) -> dict[str, list[Figure]]:
    """The drawings of a task, by their group."""
    having = [(r, label) for r, label in zip(results, labels, strict=True) if task in r.tasks]
    drawn = tasks[task].info.figures if task in tasks else {}
    found = [
        *(_heat_maps(task, having, drawn) if task in tasks else _transfer_matrices(task, having)),
        *([] if any("confusion" in name for name in drawn) else _confusions(task, having)),
        *_scatter(task, having),
        *_rankfigures_of(task, results, labels),
    ]
    groups: dict[str, list[Figure]] = {}
    for figure in found:
        groups.setdefault(figure.group, []).append(figure)
    return groups


def _heat_maps(
    task: str, having: Sequence[tuple[RunResult, str]], layouts: Mapping[str, Mapping[str, Mapping[str, str]]]
) -> Iterable[Figure]:
    for name, layout in layouts.items():
        grids: dict[str, _Cells] = {}
        for result, label in having:
            metrics = result.tasks[task].metrics
            cells = {r: {c: metrics[k] for c, k in row.items() if k in metrics} for r, row in layout.items()}
            if any(cells.values()):
                grids[label] = cells
        words = re.sub(r"\br_at_(\d+)", r"R@\1", name.removeprefix(f"{task}_")).replace("_", " ")
        yield from _grids(words, grids, shares="confusion" in name)


def _transfer_matrices(task: str, having: Sequence[tuple[RunResult, str]]) -> Iterable[Figure]:
    """Of a task that is not here to say what it draws, by the names of its metrics."""
    matrices: dict[str, dict[str, dict[str, dict[str, Metric]]]] = {}
    for result, label in having:
        for key, metric in result.tasks[task].metrics.items():
            found = _TRANSFER.fullmatch(key)
            if found and found["metric"] in _TRANSFER_METRICS:
                rows = matrices.setdefault(found["metric"], {}).setdefault(label, {})
                rows.setdefault(f"train: {found['train']}", {})[f"test: {found['test']}"] = metric
    for name, grids in matrices.items():
        yield from _grids(f"transfer: {name}", grids)


def _grids(group: str, grids: Mapping[str, _Cells], *, shares: bool = False) -> Iterable[Figure]:
    """One heat map for each run, all with the same shades and decimals; `shares` are per cents of a row."""
    metrics = [m for cells in grids.values() for row in cells.values() for m in row.values()]
    if not metrics:
        return
    low, high = min(m.value for m in metrics), max(m.value for m in metrics)
    if (shares or metrics[0].chance is not None) and low >= 0 and high <= 100:
        low, high = 0.0, 1.0 if high <= 1 else 100.0
    digits = tables.decimals(m.value for m in metrics)
    told = ["per cent of the row"] if shares else ["value and 95 % interval"] if any(m.ci95 for m in metrics) else []
    told += [f"chance {c}" for c in dict.fromkeys(tables.number(m.chance, digits) for m in metrics if m.chance)]
    for label, cells in grids.items():
        shown = {r: {c: (m.value, _label(m, digits)) for c, m in row.items()} for r, row in cells.items()}
        drawing = svg.heat_map(
            f"{group} of {label}", shown, low=low, high=high, reverse=metrics[0].higher_is_better is False
        )
        yield Figure(group, f"{label}: {'; '.join(told)}" if told else label, drawing, folded=shares)


def _label(metric: Metric, digits: int) -> str:
    bounds = f"\n{' – '.join(tables.number(x, digits) for x in metric.ci95)}" if metric.ci95 else ""
    return f"{tables.number(metric.value, digits)}{bounds}"


def _confusions(task: str, having: Sequence[tuple[RunResult, str]]) -> Iterable[Figure]:
    """Of items whose reference and output are labels."""
    for result, label in having:
        counts: dict[str, dict[str, dict[str, int]]] = {}
        names: set[str] = set()
        for item in result.tasks[task].items:
            gold, output = item.reference, item.output
            if not isinstance(gold, str) or not isinstance(output, str):
                continue
            names |= {gold, output}
            if len(names) > _MAX_LABELS:
                break
            row = counts.setdefault(_condition(item), {}).setdefault(gold, {})
            row[output] = row.get(output, 0) + 1
        if not 2 <= len(names) <= _MAX_LABELS:
            continue
        order = sorted(names)
        for condition, table in counts.items():
            cells = {
                f"gold: {g}": {
                    f"output: {o}": (
                        row.get(o, 0) / sum(row.values()),
                        f"{row.get(o, 0)}\n{row.get(o, 0) / sum(row.values()):.0%}",
                    )
                    for o in order
                }
                for g in order
                for row in [table.get(g, {})]
                if row
            }
            title = f"confusion of {label}, {condition}" if condition else f"confusion of {label}"
            drawing = svg.heat_map(title, cells, low=0.0, high=1.0)
            yield Figure(
                "confusion matrices",
                f"{label}{', ' + condition if condition else ''}: items and share of the row",
                drawing,
            )


def _condition(item: Item) -> str:
    return ", ".join(f"{name} {item.extra[name]}" for name in _CONDITION if name in item.extra)


def _scatter(task: str, having: Sequence[tuple[RunResult, str]]) -> Iterable[Figure]:
    """Perplexity of generations against how much they repeat: good is low in both."""
    series = []
    for result, label in having:
        metrics = result.tasks[task].metrics
        both = [
            (vert.value, metrics[f"{stem}.ppl_corpus"].value, stem)
            for key, vert in metrics.items()
            if (stem := key.removesuffix(".vert")) != key
            and f"{stem}.ppl_corpus" in metrics
            and "reference" not in stem  # toplines and the floor, far from where models differ
        ]
        points, stems = [(x, y) for x, y, _ in both], [stem for _, _, stem in both]
        about, beside = [f"{label}, {stem}" for stem in stems], [stem.removeprefix(f"{task}.") for stem in stems]
        series.append(svg.Series(label, points, about, beside))
    if any(s.points for s in series):
        drawing = svg.lines(
            "PELM against VERT", series, points=True, y_log=all(y > 0 for s in series for _, y in s.points),
            x_label="VERT (%), lower is less repetitive", y_label="PELM (corpus perplexity)",
        )  # fmt: skip
        yield Figure(
            "PELM against VERT",
            "each point a direction; a model that repeats itself lies low and far right",
            drawing,
            legend=True,
        )


def _rankfigures_of(task: str, results: Sequence[RunResult], labels: Sequence[str]) -> Iterable[Figure]:
    """R@k and ranks of the gold, where items bring `ranks` and `num_candidates`, by direction and score."""
    rows = [
        [i for i in r.tasks[task].items if "ranks" in i.scores and "num_candidates" in i.scores]
        if task in r.tasks
        else []
        for r in results
    ]
    scores = list(dict.fromkeys(s for run in rows for i in run[:1] for s in i.scores["ranks"]))
    scores.sort(key=lambda s: s != "pmi")  # stable: the others in their order
    directions = list(dict.fromkeys(str(i.extra.get("direction", task)) for run in rows for i in run))
    for score in scores:
        for direction in directions:
            ranks = [_ranks(run, score, direction, task) for run in rows]
            n = max((r.num_candidates for run in ranks for r in run), default=1)
            folded = score != scores[0]
            curves = [svg.Series(label, _curve(run, n)) for label, run in zip(labels, ranks, strict=True)]
            chance = svg.Series("chance", [(k, k / n) for k in _ks(n)])
            title = f"R@k, {direction}, {score}"
            drawing = svg.lines(title, curves, x_label="k", y_label="R@k", x_log=True, y_range=(0, 1), rule=chance)
            caption = f"{direction}: share of prompts whose gold is among the first k; thin line: chance"
            yield Figure(f"R@k by {score}", caption, drawing, folded, legend=True)
        yield from _rank_bars(score, directions, rows, labels, task, folded=score != scores[0])


def _rank_bars(
    score: str,
    directions: Sequence[str],
    rows: Sequence[Sequence[Item]],
    labels: Sequence[str],
    task: str,
    *,
    folded: bool,
) -> Iterable[Figure]:
    """Histograms of the gold's rank, all with the same axis."""
    drawn = {}
    for direction in directions:
        ranks = [_ranks(run, score, direction, task) for run in rows]
        edges = _edges(max((r.num_candidates for run in ranks for r in run), default=1))
        names = [str(a) if a == b else f"{a}–{b}" for a, b in edges]
        shares = [(label, [_share(run, a, b) for a, b in edges]) for label, run in zip(labels, ranks, strict=True)]
        drawn[direction] = names, shares
    highest = max((v for _, shares in drawn.values() for _, values in shares for v in values), default=1.0)
    for direction, (names, shares) in drawn.items():
        title = f"ranks of the gold, {direction}, {score}"
        drawing = svg.bars(title, names, shares, x_label="rank", y_label="share of prompts", y_high=highest)
        caption = f"{direction}: share of prompts by rank of the gold"
        yield Figure(f"ranks of the gold by {score}", caption, drawing, folded, legend=True)


def _ranks(items: Sequence[Item], score: str, direction: str, task: str) -> list[Ranks]:
    return [
        Ranks(
            better=i.scores["ranks"][score]["better"],
            tied=i.scores["ranks"][score]["tied"],
            num_candidates=i.scores["num_candidates"],
        )
        for i in items
        if str(i.extra.get("direction", task)) == direction and score in i.scores["ranks"]
    ]


def _ks(n: int) -> list[int]:
    return sorted({max(1, round(n ** (i / _CURVE_POINTS))) for i in range(_CURVE_POINTS + 1)})


def _curve(ranks: Sequence[Ranks], n: int) -> list[tuple[float, float]]:
    if not ranks:
        return []
    counts = Counter(ranks).items()
    return [(k, round(sum(c * r.recall_at(k) for r, c in counts) / len(ranks), 4)) for k in _ks(n)]


def _edges(n: int) -> list[tuple[int, int]]:
    ends = [e for e in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000) if e < n] + [n]
    return list(zip([1, *(e + 1 for e in ends[:-1])], ends, strict=True))


def _share(ranks: Sequence[Ranks], a: int, b: int) -> float:
    """Expected share of golds with a rank from `a` to `b`, ties in random order."""
    return sum(r.recall_at(b) - (r.recall_at(a - 1) if a > 1 else 0.0) for r in ranks) / max(len(ranks), 1)
