"""Runs side by side: paired differences to a baseline, corrected for how many there are, and why two runs differ."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config import build, digest, flatten
from harness.errors import InputError, UnknownNameError
from harness.results import Item, Metric, RunResult, TaskResult, headline
from harness.stats import PairedDifference, holm, paired_differences
from harness.task import AnyTask, ItemMetrics, task_registry

#: A corrected p-value below this is called significant.
ALPHA = 0.05
#: Parts of a task's protocol that say which items were asked, not how.
_WHICH_ITEMS = ("corpus", "corpus_digest", "split", "n", "examples", "seed")
#: What differs between two runs is told in these groups; the first whose prefix fits takes a field of `protocol.json`.
_GROUPS = (
    ("tokenizer", "model.card.tokenizers."),
    ("model", "model."),
    ("corpus", "corpus."),
    ("protocol", "tasks."),
    ("versions", "versions."),
    ("versions", "git"),
)
#: Values of items by metric key and item id.
ItemValues = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A run's metric minus the baseline's.

    Attributes:
        value: positive where the run is higher.
        ci95: 95 % interval; None where there is none.
        paired: whether both were compared item by item; otherwise the interval follows from their own two intervals
            and there is no test.
        p_value: of the sign-flip test; None if unpaired.
        p_corrected: the same, corrected for every test of the comparison.
        detectable: smallest true difference that such a test detects with 80 % power.
        n: common items; 0 if unpaired.
    """

    value: float
    ci95: tuple[float, float] | None
    paired: bool
    p_value: float | None = None
    p_corrected: float | None = None
    detectable: float | None = None
    n: int = 0

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below `ALPHA`."""
        return self.p_corrected is not None and self.p_corrected < ALPHA


@dataclass(frozen=True, slots=True)
class Entry:
    """One run's metric: its number, its difference to the baseline, whether no other run is better."""

    metric: Metric
    difference: Difference | None = None
    best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One metric over all runs; None where a run lacks it."""

    key: str
    task: str
    higher_is_better: bool | None
    chance: float | None
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Comparison:
    """A table over runs and metrics.

    Attributes:
        labels: what the runs are called.
        baseline: which of them is the baseline.
        rows: one for each metric.
        signatures: of every run, by task.
        differing: by run, the fields in which its protocols differ from the baseline's; empty unless forced.
        num_tests: the family that p-values are corrected for.
        correction: the method's name.
        num_resamples: bootstrap replicates and random flips.
        seed: of both.
    """

    labels: tuple[str, ...]
    baseline: int
    rows: tuple[Row, ...]
    signatures: tuple[Mapping[str, str], ...]
    differing: Mapping[str, tuple[str, ...]]
    num_tests: int
    num_resamples: int
    seed: int
    correction: str = "Holm"


def registered_tasks(results: Sequence[RunResult]) -> dict[str, AnyTask]:
    """The tasks of runs that are installed here, by name."""
    registry = task_registry()
    known = registry.sources()
    return {name: registry.load(name) for name in dict.fromkeys(n for r in results for n in r.tasks) if name in known}


def labels_of(results: Sequence[RunResult], names: Sequence[str]) -> tuple[str, ...]:
    """What to call runs: the model, and where that is not enough the run's folder or id, and its place."""
    models = [str(r.model["name"]) for r in results]
    short = [Path(name).name or name for name in names]
    labels = [m if models.count(m) == 1 else f"{m} ({s})" for m, s in zip(models, short, strict=True)]
    return tuple(
        label if labels.count(label) == 1 else f"{label} #{labels[: i + 1].count(label)}"
        for i, label in enumerate(labels)
    )


def find_baseline(wanted: str | None, results: Sequence[RunResult], names: Sequence[str]) -> int:
    """Which of the runs `wanted` names, by the name it was given, its model, its run id or its folder.

    Raises:
        InputError: if none has the name, or several.
    """
    if wanted is None:
        return 0
    tests: tuple[Callable[[int], bool], ...] = (
        lambda i: names[i] == wanted or Path(names[i]) == Path(wanted),
        lambda i: wanted in (results[i].model["name"], results[i].run_id),
        lambda i: Path(names[i]).name == wanted,
    )
    for test in tests:
        found = [i for i in range(len(results)) if test(i)]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"'{wanted}' is the name of {len(found)} of these runs; name the baseline by its folder.")
    raise UnknownNameError("run among these", wanted, labels_of(results, names))


def compare(
    results: Sequence[RunResult],
    labels: Sequence[str],
    *,
    tasks: Mapping[str, AnyTask],
    baseline: int = 0,
    metrics: Sequence[str] = (),
    force: bool = False,
    seed: int = 0,
    num_resamples: int = 10_000,
) -> Comparison:
    """Every run against the baseline on every metric.

    Where a metric is a mean over items (`ItemMetrics`) and both runs were asked the same items, the difference is
    paired on those that both scored: `stats.paired_difference`, clustered by the items' `group`. Other metrics, such
    as medians, get the interval that follows from the two runs' own (Zou & Donner 2008, Statistics in Medicine 27,
    which takes them as independent: on the same items it is on the wide side), and no test. P-values are corrected
    over all tests of the table by Holm's method.

    Args:
        results: runs with their items.
        labels: what they are called.
        tasks: by name; those absent are compared unpaired.
        baseline: index of the run that the others are compared with.
        metrics: metric keys or shell patterns; empty means the tasks' headline metrics.
        force: compares runs whose protocols differ, and marks them.
        seed: of resamples and flips.
        num_resamples: bootstrap replicates, and random flips.

    Raises:
        InputError: if protocols differ and `force` is not set, naming the fields; if there are fewer than two runs;
            if stored items do not average to the stored metrics.
        UnknownNameError: if a pattern fits no metric.
    """
    if len(results) < 2:
        raise InputError(f"A comparison needs at least two runs; found {len(results)}.")
    differing = _differing(results, labels, baseline)
    if differing and not force:
        lines = [f"  {label}: {'; '.join(fields)}" for label, fields in differing.items()]
        raise InputError(
            f"These runs do not answer the same question as {labels[baseline]}:\n" + "\n".join(lines) + "\n"
            "Run all of them with one protocol, or compare them all the same with --force, which marks them."
        )
    keys = _keys(results, tasks, metrics)
    values = [_item_values(result, tasks) for result in results]
    paired = _paired(results, values, keys, baseline, seed, num_resamples)
    tested = {f"{key}\n{i}": d.p_value for (key, i), d in paired.items()}
    corrected = holm(tested)
    rows = []
    for key, task in keys.items():
        found = [_metric(r, task, key) for r in results]
        base = found[baseline]
        entries: list[Entry | None] = []
        for i, metric in enumerate(found):
            if metric is None:
                entries.append(None)
            elif i == baseline or base is None:
                entries.append(Entry(metric))
            elif (key, i) in paired:
                entries.append(Entry(metric, _tested(paired[key, i], corrected[f"{key}\n{i}"])))
            else:
                entries.append(Entry(metric, _untested(metric, base)))
        first = next(m for m in found if m is not None)
        marked = {
            i for i, label in enumerate(labels) if any(f.startswith(f"{task}.") for f in differing.get(label, ()))
        }
        rows.append(Row(key, task, first.higher_is_better, first.chance, _with_best(entries, first, marked)))
    signatures = tuple({name: t.signature for name, t in r.tasks.items()} for r in results)
    return Comparison(
        tuple(labels), baseline, tuple(rows), signatures, differing, len(tested), num_resamples, seed
    )  # fmt: skip


def alone(result: RunResult, label: str, *, tasks: Mapping[str, AnyTask], metrics: Sequence[str] = ()) -> Comparison:
    """One run as a table without differences.

    Raises:
        UnknownNameError: if a pattern of `metrics` fits no metric.
    """
    rows = []
    for key, task in _keys([result], tasks, metrics).items():
        metric = result.tasks[task].metrics[key]
        rows.append(Row(key, task, metric.higher_is_better, metric.chance, (Entry(metric),)))
    signatures = ({name: t.signature for name, t in result.tasks.items()},)
    return Comparison((label,), 0, tuple(rows), signatures, {}, num_tests=0, num_resamples=0, seed=0)


def _keys(results: Sequence[RunResult], tasks: Mapping[str, AnyTask], wanted: Sequence[str]) -> dict[str, str]:
    """Metric keys in order, each with its task."""
    offered: dict[str, str] = {}
    shown: dict[str, str] = {}
    for task in dict.fromkeys(name for r in results for name in r.tasks):
        found = {k: m for r in results if task in r.tasks for k, m in r.tasks[task].metrics.items()}
        offered |= dict.fromkeys(found, task)
        shown |= dict.fromkeys(headline(found, tasks[task].info.headline) if task in tasks else found, task)
    if not wanted:
        return shown
    chosen: dict[str, str] = {}
    for pattern in wanted:
        fitting = [key for key in offered if fnmatch.fnmatchcase(key, pattern)]
        if not fitting:
            raise UnknownNameError("metric", pattern, offered)
        chosen |= {key: offered[key] for key in fitting}
    return chosen


def _differing(results: Sequence[RunResult], labels: Sequence[str], baseline: int) -> dict[str, tuple[str, ...]]:
    """By run, in words, every field of a task's protocol that is not what the baseline has."""
    found: dict[str, list[str]] = {}
    for task in dict.fromkeys(name for r in results for name in r.tasks):
        order = [baseline, *(i for i in range(len(results)) if i != baseline)]
        having = [i for i in order if task in results[i].tasks]
        reference = flatten(results[having[0]].tasks[task].protocol)
        for i in having[1:]:
            mine = flatten(results[i].tasks[task].protocol)
            for name in dict.fromkeys([*reference, *mine]):
                a, b = reference.get(name, "absent"), mine.get(name, "absent")
                if a != b:
                    found.setdefault(labels[i], []).append(f"{task}.{name} is {_short(b)}, not {_short(a)}")
    return {label: tuple(fields) for label, fields in found.items()}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"


def _metric(result: RunResult, task: str, key: str) -> Metric | None:
    return result.tasks[task].metrics.get(key) if task in result.tasks else None


def _with_best(entries: Sequence[Entry | None], metric: Metric, marked: set[int]) -> tuple[Entry | None, ...]:
    """A run of another protocol cannot be the best."""
    values = [e.metric.value for i, e in enumerate(entries) if e and i not in marked]
    if metric.higher_is_better is None or len(values) < 2:
        return tuple(entries)
    top = max(values) if metric.higher_is_better else min(values)
    return tuple(
        replace(e, best=True) if e and i not in marked and e.metric.value == top else e for i, e in enumerate(entries)
    )


def _tested(found: PairedDifference, corrected: float) -> Difference:
    return Difference(
        found.difference, found.ci95, True, found.p_value, corrected, found.minimum_detectable_effect, found.n
    )  # fmt: skip


def _untested(a: Metric, b: Metric) -> Difference:
    """From the two metrics' own intervals, as if they were independent: Zou & Donner 2008, equation 3."""
    value = a.value - b.value
    if not (a.ci95 and b.ci95):
        return Difference(value, None, paired=False)
    low = value - math.hypot(a.value - a.ci95[0], b.ci95[1] - b.value)
    high = value + math.hypot(a.ci95[1] - a.value, b.value - b.ci95[0])
    return Difference(value, (low, high), paired=False)


def _item_values(result: RunResult, tasks: Mapping[str, AnyTask]) -> dict[str, ItemValues]:
    """By task, what items add to its metrics; empty where the task is not here or now has another version."""
    found: dict[str, ItemValues] = {}
    for name, task_result in result.tasks.items():
        task = tasks.get(name)
        if not isinstance(task, ItemMetrics) or task_result.protocol.get("version") != task.info.version:
            continue
        options: Any = build(task.Options, task_result.protocol["options"], where=f"{result.run_id}: {name}.options")
        values = task.item_values(_scored(task_result), options)
        _check_means(result, task_result, values)
        found[name] = values
    return found


def _scored(task: TaskResult) -> list[Item]:
    return [item for item in task.items if "failed" not in item]


def _check_means(result: RunResult, task: TaskResult, values: ItemValues) -> None:
    for key, column in values.items():
        metric = task.metrics.get(key)
        mean = math.fsum(column.values()) / len(column)
        if metric is None or abs(mean - metric.value) > 1e-6 * max(1.0, abs(mean)):
            stored = "nothing" if metric is None else f"{metric.value:g}"
            raise InputError(
                f"The items of run {result.run_id} average to {key} = {mean:g}, but results.json says {stored}: one of "
                "the two files was changed. Run it again."
            )


def _paired(
    results: Sequence[RunResult],
    values: Sequence[Mapping[str, ItemValues]],
    keys: Mapping[str, str],
    baseline: int,
    seed: int,
    num_resamples: int,
) -> dict[tuple[str, int], PairedDifference]:
    """Every comparison item by item, by metric and run; those over the same items share their resamples."""
    batches: dict[tuple[str, tuple[str, ...]], dict[tuple[str, int], NDArray[np.float64]]] = {}
    for key, task in keys.items():
        mine = values[baseline].get(task, {}).get(key)
        if mine is None:
            continue
        for i, result in enumerate(results):
            theirs = values[i].get(task, {}).get(key)
            if i == baseline or theirs is None or not _same_items(results[baseline], result, task):
                continue
            ids = tuple(sorted(mine.keys() & theirs.keys()))
            if len(ids) >= 2:
                difference = np.array([theirs[x] - mine[x] for x in ids])
                batches.setdefault((task, ids), {})[key, i] = difference
    found: dict[tuple[str, int], PairedDifference] = {}
    for (task, ids), columns in batches.items():
        clusters = _clusters(results[baseline].tasks[task], ids)
        table = np.column_stack(list(columns.values()))
        compared = paired_differences(table, clusters, seed=seed, num_resamples=num_resamples)
        found |= dict(zip(columns, compared, strict=True))
    return found


def _same_items(a: RunResult, b: RunResult, task: str) -> bool:
    return all(a.tasks[task].protocol.get(k) == b.tasks[task].protocol.get(k) for k in _WHICH_ITEMS)


def _clusters(task: TaskResult, ids: Sequence[str]) -> list[Hashable]:
    groups = {item["id"]: item.get("group") for item in task.items}
    return [("alone", i) if groups[i] is None else ("group", groups[i]) for i in ids]


# --- why --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A field of `protocol.json` that differs between two runs; a side that lacks it has `"absent"`."""

    group: str
    field: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class ItemChange:
    """An item that two runs score differently.

    Attributes:
        task: its task.
        id: of the item.
        change: mean over its metrics of |difference|, each in units of that metric's root mean square difference over
            all items: 1 is usual, 0 is none.
        values: by metric, what the two runs give it, the most changed first.
        texts: fields that are text, of the first run and of the second.
    """

    task: str
    id: str
    change: float
    values: Mapping[str, tuple[float, float]]
    texts: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Why:
    """In what two runs differ, and where it shows most."""

    labels: tuple[str, str]
    changes: tuple[Change, ...]
    items: tuple[ItemChange, ...] = field(default=())


def why(a: RunResult, b: RunResult, labels: tuple[str, str], *, tasks: Mapping[str, AnyTask], top: int = 10) -> Why:
    """What differs between two runs, and for each task the `top` common items whose scores changed most.

    An item's scores are the values it adds to the task's metrics, or, where the task does not say, every number in its
    record.
    """
    mine, theirs = flatten(a.protocol), flatten(b.protocol)
    changes = []
    for name in dict.fromkeys([*mine, *theirs]):
        group = next((g for g, prefix in _GROUPS if name.startswith(prefix)), None)
        x, y = mine.get(name, "absent"), theirs.get(name, "absent")
        if group and x != y:
            changes.append(Change(group, name, x, y))
    order = list(dict.fromkeys(group for group, _ in _GROUPS))
    changes.sort(key=lambda c: order.index(c.group))
    items = [change for task in a.tasks if task in b.tasks for change in _item_changes(a, b, task, tasks)[:top]]
    return Why(labels, tuple(changes), tuple(items))


def _item_changes(a: RunResult, b: RunResult, task: str, tasks: Mapping[str, AnyTask]) -> list[ItemChange]:
    known = {name: t for name, t in tasks.items() if name == task}
    sides = [_item_values(r, known).get(task) or _numbers(r.tasks[task]) for r in (a, b)]
    columns: dict[str, dict[str, tuple[float, float]]] = {}
    for key in sides[0].keys() & sides[1].keys():
        first, second = sides[0][key], sides[1][key]
        columns[key] = {i: (first[i], second[i]) for i in first.keys() & second.keys()}
    changes: dict[str, dict[str, float]] = {}
    for key in sorted(columns):
        gaps = {i: abs(y - x) for i, (x, y) in columns[key].items()}
        usual = math.sqrt(math.fsum(g * g for g in gaps.values()) / len(gaps)) if gaps else 0.0
        for i, gap in gaps.items():
            changes.setdefault(i, {})[key] = gap / usual if usual else 0.0
    records = [{item["id"]: item for item in r.tasks[task].items} for r in (a, b)]
    found = [
        ItemChange(
            task,
            i,
            math.fsum(by_key.values()) / len(by_key),
            {key: columns[key][i] for key in sorted(by_key, key=lambda k: (-by_key[k], k))},
            _texts(records[0][i], records[1][i]),
        )
        for i, by_key in changes.items()
    ]
    return sorted((c for c in found if c.change > 0), key=lambda c: (-c.change, c.id))


def _numbers(task: TaskResult) -> ItemValues:
    columns: dict[str, dict[str, float]] = {}
    for item in _scored(task):
        for name, value in flatten(item).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                columns.setdefault(name, {})[item["id"]] = float(value)
    return columns


def _texts(a: Item, b: Item) -> dict[str, tuple[str, str]]:
    x, y = flatten(a), flatten(b)
    names = [n for n in x if isinstance(x[n], str) and isinstance(y.get(n), str) and n not in ("id", "group", "audio")]
    return {n: (x[n], y[n]) for n in names}


# --- leaderboard ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """A model's latest run under one protocol; `when` in seconds since 1970."""

    model: str
    run: str
    when: float
    metrics: Mapping[str, Metric]


@dataclass(frozen=True)
class Board:
    """All models under one protocol of one task, the best first; `signature` is the protocol without the model."""

    task: str
    signature: str
    keys: tuple[str, ...]
    by: str
    standings: tuple[Standing, ...]


def leaderboard(
    runs: Sequence[tuple[RunResult, float]], *, tasks: Mapping[str, AnyTask], by: str | None = None
) -> list[Board]:
    """A board for each task and protocol, of each model the latest run.

    Args:
        runs: with the time each was made, in seconds; items are not needed.
        tasks: by name; those absent show all their metrics.
        by: metric that models are sorted by; unset takes each task's first headline metric.

    Raises:
        UnknownNameError: if no run has the metric `by`.
    """
    offered = {key for result, _ in runs for key in result.metrics}
    if by is not None and by not in offered:
        raise UnknownNameError("metric", by, offered)
    latest: dict[tuple[str, str, str], tuple[TaskResult, Standing]] = {}
    for result, when in sorted(runs, key=lambda pair: pair[1]):
        for name, task in result.tasks.items():
            standing = Standing(str(result.model["name"]), result.run_id, when, task.metrics)
            latest[name, digest(task.protocol), standing.model] = task, standing
    boards: dict[tuple[str, str], list[tuple[TaskResult, Standing]]] = {}
    for (name, protocol, _), pair in latest.items():
        boards.setdefault((name, protocol), []).append(pair)
    return [_board(name, pairs, tasks, by) for (name, _), pairs in sorted(boards.items())]


def _board(
    name: str, pairs: Sequence[tuple[TaskResult, Standing]], tasks: Mapping[str, AnyTask], by: str | None
) -> Board:
    found = {key: metric for task, _ in pairs for key, metric in task.metrics.items()}
    keys = tuple(headline(found, tasks[name].info.headline) if name in tasks else found)
    first = by if by in found else next((k for k in keys if found[k].higher_is_better is not None), keys[0])
    sign = -1 if found[first].higher_is_better else 1
    standings = sorted(
        (s for _, s in pairs),
        key=lambda s: (sign * s.metrics[first].value if first in s.metrics else math.inf, s.model),
    )
    parts = [p for p in pairs[0][0].signature.split("|") if not p.startswith(("model:", "harness:"))]
    return Board(name, "|".join(parts), keys if first in keys else (first, *keys), first, tuple(standings))
