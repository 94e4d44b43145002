"""Pages that need no network: the report of runs, a comparison, leaderboards; one file each, from Jinja2 templates."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import math
import mimetypes
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from harness.config import flatten, plain
from harness.errors import InputError
from harness.metrics.retrieval import Ranks
from harness.report import figures as svg
from harness.report import tables as report
from harness.report.compare import Board, Comparison, alone, compare
from harness.results import OUTPUT_FIELDS, PROMPT_FIELDS, REFERENCE_FIELDS, Item, Metric, RunResult
from harness.task import AnyTask

Audio = Literal["link", "embed", "none"]

#: Fields that name an audio file or several, relative to the results folder or the corpus.
_AUDIO = re.compile(r"(^|[._])audio([._]|$)")
#: The page's item data stays below this, so that the file stays below 2 MB; what is left out is said.
_ITEM_BYTES = 1_400_000
_TEXT_CHARS = 2_000
_CONDITION = ("cell", "train_on", "train", "test_on", "test", "condition", "direction")
_TRANSFER = re.compile(r"(?P<task>\w+)\.train_(?P<train>\w+)\.test_(?P<test>\w+)\.(?P<metric>\w+)")
_TRANSFER_METRICS = ("macro_f1", "f1", "label_f1", "accuracy")
#: Two outputs are a classification if there are no more labels than this.
_MAX_LABELS = 10
#: Metrics by row and column of a figure.
_Cells = Mapping[str, Mapping[str, Metric]]
#: R@k is drawn at so many values of k at most.
_CURVE_POINTS = 40


def comparison_page(c: Comparison) -> str:
    """A comparison as a page."""
    return _render("comparison.html", title=report.comparison_title(c), table=_rows(c), c=c)


def leaderboard_page(boards: Sequence[Board], experiment: str) -> str:
    """Leaderboards of an experiment as a page."""
    tables = [(board, report.board_table(board)) for board in boards]
    return _render("leaderboard.html", title=f"Leaderboard of {experiment}", tables=tables)


def report_page(
    results: Sequence[RunResult],
    labels: Sequence[str],
    *,
    tasks: Mapping[str, AnyTask],
    folders: Sequence[Path],
    output: Path,
    audio: Audio = "link",
    force: bool = False,
) -> str:
    """All that runs have to say, on one page.

    Args:
        results: runs with their items.
        labels: what they are called.
        tasks: by name; for figures and headline metrics.
        folders: their results folders, where generated audio lies.
        output: where the page will lie; audio is linked relative to it.
        audio: how items bring their audio.
        force: takes runs whose protocols differ, and marks them.

    Raises:
        InputError: if there are more runs than can be told apart, or their protocols differ and `force` is not set.
    """
    if len(results) > svg.NUM_SERIES:
        raise InputError(f"A report tells {svg.NUM_SERIES} runs apart; found {len(results)}. Choose some of them.")
    if len(results) == 1:
        summary = alone(results[0], labels[0], tasks=tasks)
        everything = alone(results[0], labels[0], tasks=tasks, metrics=["*"])
    else:
        summary = compare(results, labels, tasks=tasks, force=force)
        everything = compare(results, labels, tasks=tasks, force=force, metrics=["*"], num_resamples=1000)
    sources = [_AudioFiles(r, f, output, audio) for r, f in zip(results, folders, strict=True)]
    return _render(
        "report.html",
        title=", ".join(labels),
        heading=f"Report of {len(labels)} runs" if len(labels) > 1 else labels[0],
        asked=_asked(results),
        c=summary,
        table=_rows(summary),
        everything=everything,
        everything_table=_rows(everything),
        figures=[(name, _figures(name, results, labels, tasks)) for name in _task_names(results)],
        legend=svg.legend(labels),
        runs=[_about(r, label) for r, label in zip(results, labels, strict=True)],
        payload=_payload(results, labels, sources),
    )


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=report.number, p=report.p_text, pretty=_pretty, broken=_broken)
    environment.globals.update(
        better=report.better,
        chance=report.chance,
        decimals=report.row_decimals,
        notes=report.comparison_notes,
        raw=_raw,
    )
    return environment


def _raw(name: str) -> Markup:
    """A style sheet or script of ours, as it is."""
    loader = _environment().loader
    if loader is None:
        raise InputError("The templates of the harness are missing; reinstall sutlm-harness.")
    return Markup(loader.get_source(_environment(), name)[0])


def _pretty(value: Any) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def _task_names(results: Sequence[RunResult]) -> list[str]:
    return list(dict.fromkeys(name for r in results for name in r.tasks))


def _rows(c: Comparison) -> list[tuple[str, list[Any]]]:
    """The rows of each task, in a form that templates can walk through."""
    return [(task, list(rows)) for task, rows in itertools.groupby(c.rows, key=lambda row: row.task)]


def _broken(text: str) -> Markup:
    """A key that may be broken after its dots and underscores."""
    return Markup("<wbr>").join(re.findall(r"[^._]+[._]*|[._]+", text))


def _asked(results: Sequence[RunResult]) -> list[str]:
    """What was asked, task by task, in words."""
    found = []
    for name in _task_names(results):
        task = next(r.tasks[name] for r in results if name in r.tasks)
        corpora = dict.fromkeys(f"{r.corpus['name']}:{r.corpus['split']}" for r in results if name in r.tasks)
        found.append(f"{name} on {', '.join(corpora)} ({task.n_expected:,} items)")
    return found


# --- about a run ------------------------------------------------------------------------------------------------------


def _about(result: RunResult, label: str) -> dict[str, Any]:
    return {
        "label": label,
        "result": result,
        "signatures": [task.signature for task in result.tasks.values()],
        "counts": [(name, t.n_expected, t.n_scored, t.n_failed) for name, t in result.tasks.items()],
        "command": command(result),
        "versions": result.protocol.get("versions") or {},
        "git": result.protocol.get("git") or "unknown",
    }


def command(result: RunResult) -> str:
    """The command line that asks the same question of the same model."""
    asked = result.protocol.get("run") or {}
    parts = [
        "harness",
        "run",
        "--model",
        str(result.model["name"]),
        "--tasks",
        ",".join(asked.get("tasks") or result.tasks),
    ]
    for option in ("corpus", "split", "limit", "seed"):
        if asked.get(option) is not None:
            parts += [f"--{option}", str(asked[option])]
    for key, value in flatten(asked.get("settings") or {}).items():
        if key:
            parts += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(parts)


# --- figures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A drawing with what is said of it; those of one `group` stand together, `folded` groups closed at first."""

    group: str
    caption: str
    drawing: Markup
    folded: bool = False
    legend: bool = False


def _figures(
    task: str, results: Sequence[RunResult], labels: Sequence[str], tasks: Mapping[str, AnyTask]
) -> dict[str, list[Figure]]:
    having = [(r, label) for r, label in zip(results, labels, strict=True) if task in r.tasks]
    drawn = tasks[task].info.figures if task in tasks else {}
    found = [
        *(_heat_maps(task, having, drawn) if task in tasks else _transfer_matrices(task, having)),
        *([] if any("confusion" in name for name in drawn) else _confusions(task, having)),
        *_scatter(task, having),
        *_rank_figures(task, results, labels),
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
    digits = report.decimals(m.value for m in metrics)
    told = ["per cent of the row"] if shares else ["value and 95 % interval"] if any(m.ci95 for m in metrics) else []
    told += [f"chance {c}" for c in dict.fromkeys(report.number(m.chance, digits) for m in metrics if m.chance)]
    for label, cells in grids.items():
        shown = {r: {c: (m.value, _label(m, digits)) for c, m in row.items()} for r, row in cells.items()}
        drawing = svg.heat_map(
            f"{group} of {label}", shown, low=low, high=high, reverse=metrics[0].higher_is_better is False
        )
        yield Figure(group, f"{label}: {'; '.join(told)}" if told else label, drawing, folded=shares)


def _label(metric: Metric, digits: int) -> str:
    bounds = f"\n{' – '.join(report.number(x, digits) for x in metric.ci95)}" if metric.ci95 else ""
    return f"{report.number(metric.value, digits)}{bounds}"


def _confusions(task: str, having: Sequence[tuple[RunResult, str]]) -> Iterable[Figure]:
    """Of items whose reference and output are labels."""
    for result, label in having:
        counts: dict[str, dict[str, dict[str, int]]] = {}
        names: set[str] = set()
        for item in result.tasks[task].items:
            gold, output = _first(item, REFERENCE_FIELDS), _first(item, OUTPUT_FIELDS)
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


def _first(item: Item, names: Sequence[str]) -> Any:
    return next((item[name] for name in names if name in item), None)


def _condition(item: Item) -> str:
    return ", ".join(f"{name} {item[name]}" for name in _CONDITION if name in item)


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


def _rank_figures(task: str, results: Sequence[RunResult], labels: Sequence[str]) -> Iterable[Figure]:
    """R@k and ranks of the gold, where items bring `ranks` and `num_candidates`, by direction and score."""
    rows = [
        [i for i in r.tasks[task].items if "ranks" in i and "num_candidates" in i] if task in r.tasks else []
        for r in results
    ]
    scores = list(dict.fromkeys(s for run in rows for i in run[:1] for s in i["ranks"]))
    scores.sort(key=lambda s: s != "pmi")  # stable: the others in their order
    directions = list(dict.fromkeys(str(i.get("direction", task)) for run in rows for i in run))
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
        Ranks(better=i["ranks"][score]["better"], tied=i["ranks"][score]["tied"], num_candidates=i["num_candidates"])
        for i in items
        if str(i.get("direction", task)) == direction and score in i["ranks"]
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


# --- items ------------------------------------------------------------------------------------------------------------


class _AudioFiles:
    """Where the audio of a run's items is, as the page refers to it."""

    def __init__(self, result: RunResult, folder: Path, output: Path, how: Audio) -> None:
        root = (result.protocol.get("corpus") or {}).get("root")
        self._places = [folder, *([Path(root)] if root else [])]
        self._output, self._how = output, how
        self._known: dict[str, str | None] = {}

    def find(self, name: object) -> str | None:
        """A link or `data:` URI; None where there is no such file, or none is wanted."""
        if self._how == "none" or not isinstance(name, str) or not name:
            return None
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> str | None:
        path = next((p / name for p in self._places if (p / name).is_file()), None)
        if path is None:
            return None
        if self._how == "embed":
            kind = mimetypes.guess_type(path.name)[0] or "audio/wav"
            return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
        return quote(os.path.relpath(path.resolve(), self._output.parent.resolve()))


class _Strings:
    """Texts that occur once in the page, however many items share them."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """The index of a text."""
        if text not in self._places:
            self._places[text] = len(self.all)
            whole = len(text) <= _TEXT_CHARS or text.startswith("data:")
            self.all.append(text if whole else text[: _TEXT_CHARS - 1] + "…")
        return self._places[text]


def _payload(results: Sequence[RunResult], labels: Sequence[str], sources: Sequence[_AudioFiles]) -> Markup:
    """The items for the page's script: JSON that cannot end the element it stands in."""
    wanted = max((len(t.items) for r in results for t in r.tasks.values()), default=0)
    while True:
        strings = _Strings()
        tasks = [_task_items(name, results, sources, strings, wanted) for name in _task_names(results)]
        clips = {
            i: strings.all[i] for t in tasks for c in t["columns"] if c["kind"] == "audio" for i in _flat(c["values"])
        }
        data = {"runs": list(labels), "strings": strings.all, "tasks": tasks}
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        audio = sum(len(clip) for clip in clips.values() if clip.startswith("data:"))
        size = len(text.encode()) - audio
        if size <= _ITEM_BYTES or wanted <= 1:
            safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
            return Markup(safe)
        wanted = max(1, int(wanted * 0.95 * _ITEM_BYTES / size))


def _flat(values: Any) -> list[int]:
    if isinstance(values, list):
        return [i for inner in values for i in _flat(inner)]
    return [] if values is None else [values]


def _task_items(
    task: str, results: Sequence[RunResult], sources: Sequence[_AudioFiles], strings: _Strings, wanted: int
) -> dict[str, Any]:
    """Items by column: a value for each item where all runs agree, else one for each run and item."""
    tables = [{i["id"]: flatten(i) for i in r.tasks[task].items} if task in r.tasks else {} for r in results]
    everything = list(dict.fromkeys(i for table in tables for i in table))
    # An even sample of what does not fit, so that every condition stays in it.
    ids = (
        everything
        if len(everything) <= wanted
        else [everything[int(j * len(everything) / wanted)] for j in range(wanted)]
    )
    names = list(dict.fromkeys(n for table in tables for i in ids for n in table.get(i, ()) if n != "id"))
    columns = []
    for name in names:
        columns.append(
            _column(name, [[t.get(i, {}).get(name) for i in ids] for t in tables], tables, ids, sources, strings)
        )
    return {
        "name": task,
        "total": len(everything),
        "ids": [strings.place(str(i)) for i in ids],
        "roles": {
            role: next((n for n in known if n in names), None)
            for role, known in (("prompt", PROMPT_FIELDS), ("reference", REFERENCE_FIELDS), ("output", OUTPUT_FIELDS))
        },
        "columns": columns,
    }


def _column(
    name: str,
    values: list[list[Any]],
    tables: Sequence[Mapping[str, Any]],
    ids: Sequence[str],
    sources: Sequence[_AudioFiles],
    strings: _Strings,
) -> dict[str, Any]:
    audio = bool(_AUDIO.search(name))
    if audio:
        values = [[source.find(v) for v in row] for source, row in zip(sources, values, strict=True)]
    numeric = all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for row in values for v in row)
    cells = [[_short(v) if numeric else None if v is None else strings.place(_text(v)) for v in row] for row in values]
    having = [row for row, table in zip(cells, tables, strict=True) if table]
    complete = all(i in table for table in tables if table for i in ids)
    shared = complete and all(row == having[0] for row in having[1:])
    kind = "audio" if audio else "number" if numeric else "text"
    return {"name": name, "kind": kind, "shared": shared, "values": having[0] if shared else cells}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: float | None) -> float | int | None:
    if value is None or isinstance(value, int):
        return value
    return value if not math.isfinite(value) or value == 0 else float(f"{value:.4g}")
