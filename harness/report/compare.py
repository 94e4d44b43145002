"""Runs side by side: paired differences to a baseline, corrected for how many there are."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.config import flatten
from harness.errors import ComparisonError, UnknownNameError
from harness.report.labels import labels_of, registered_tasks
from harness.report.pairing import ALPHA, paired_with
from harness.results import Metric, RunResult, headline
from harness.stats import PairedDifference, holm
from harness.task import AnyTask

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Difference:
    """A run's metric minus the baseline's.

    Attributes:
        value: positive where the run is higher.
        ci95: 95 % interval; None where there is none.
        paired: whether both were compared item by item; otherwise the interval follows from their own two intervals
            and no test is made.
        p_value: None if unpaired.
        p_corrected: the same, corrected for every test of the comparison.
        detectable: smallest true difference that this test, corrected, detects with 80 % power; None where it cannot.
        n: common items; 0 if unpaired.
        test: `sign-flip` over items in clusters, or `t` where seeds or two factors cross the items; None if unpaired.
        given: what interval and test take as it is, as `Metric.given`.
    """

    value: float
    ci95: tuple[float, float] | None
    paired: bool
    p_value: float | None = None
    p_corrected: float | None = None
    detectable: float | None = None
    n: int = 0
    test: str | None = None
    given: tuple[str, ...] = ()

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below `ALPHA`; never of recipes that were trained with one seed."""
        return self.p_corrected is not None and self.p_corrected < ALPHA and "weights" not in self.given


@dataclass(frozen=True, slots=True)
class ComparisonCell:
    """One run's metric: its number, its difference to the baseline, whether no other run is better."""

    metric: Metric
    difference: Difference | None = None
    best: bool = False


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One metric over all runs; None where a run lacks it."""

    key: str
    task: str
    higher_is_better: bool | None
    chance: float | None
    entries: tuple[ComparisonCell | None, ...]


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
    rows: tuple[ComparisonRow, ...]
    signatures: tuple[Mapping[str, str], ...]
    differing: Mapping[str, tuple[str, ...]]
    num_tests: int
    num_resamples: int
    seed: int
    correction: str = "Holm"

    def to_frame(self) -> pandas.DataFrame:
        """One row for each metric of each run, with its difference to the baseline: the columns of the CSV format."""
        import pandas

        from harness.report.comparison_tables import RECORD, comparison_records

        return pandas.DataFrame(comparison_records(self), columns=list(RECORD))

    def __str__(self) -> str:
        from harness.report.comparison_tables import comparison_table

        return comparison_table(self).plain()


def compare(
    results: Sequence[RunResult],
    labels: Sequence[str] | None = None,
    *,
    tasks: Mapping[str, AnyTask] | None = None,
    baseline: int = 0,
    metrics: Sequence[str] = (),
    force: bool = False,
    seed: int = 0,
    num_resamples: int = 10_000,
) -> Comparison:
    """Every run against the baseline on every metric.

    Where a metric is a mean over items (`ItemMetrics`) or linearized (`LinearizedMetrics`) and both runs were asked the
    same items, the difference is paired on those that both scored, clustered by the items' `group`:
    `stats.seeded_difference` over training seeds, else `stats.paired_difference`. Other metrics, such as medians, get
    the interval that follows from the two runs' own (Zou & Donner 2008, Statistics in Medicine 27,
    which takes them as independent: on the same items it is on the wide side), and no test. P-values are corrected
    over all tests of the table by Holm's method.

    Args:
        results: runs with their items.
        labels: what they are called; None: by their models.
        tasks: by name; those absent are compared unpaired; None: all that are installed.
        baseline: index of the run that the others are compared with.
        metrics: metric keys or shell patterns; empty means the tasks' headline metrics.
        force: compares runs whose protocols differ, and marks them.
        seed: of resamples and flips.
        num_resamples: bootstrap replicates, and random flips.

    Raises:
        ComparisonError: if protocols differ and `force` is False, naming the fields; if there are fewer than two runs.
        ResultsError: if stored items do not average to the stored metrics.
        UnknownNameError: if a pattern fits no metric.
    """
    if not isinstance(results, Sequence) or not all(isinstance(result, RunResult) for result in results):
        raise ComparisonError("Compared are results, as 'read_results' gives them, in a list; found something else.")
    if not isinstance(baseline, int) or not 0 <= baseline < max(len(results), 1):
        raise ComparisonError(f"'baseline' is the place of a run, from 0 to {len(results) - 1}; found {baseline!r}.")
    labels = labels_of(results, [r.run_id for r in results]) if labels is None else labels
    tasks = registered_tasks(results) if tasks is None else tasks
    if len(results) < 2:
        raise ComparisonError(f"A comparison needs at least two runs; found {len(results)}.")
    differing = _differing(results, labels, baseline)
    if differing and not force:
        lines = [f"  {label}: {'; '.join(fields)}" for label, fields in differing.items()]
        raise ComparisonError(
            f"These runs do not have the protocol of {labels[baseline]}:\n" + "\n".join(lines) + "\n"
            "Run all of them with one protocol, or compare them anyway with --force, which marks them."
        )
    keys = _keys(results, tasks, metrics)
    paired = paired_with(results, tasks, keys, baseline=baseline, seed=seed, num_resamples=num_resamples)
    tested = {f"{key}\n{i}": d.p_value for (key, i), d in paired.items()}
    corrected = holm(tested)
    rows = []
    for key, task in keys.items():
        found = [_metric(r, task, key) for r in results]
        base = found[baseline]
        entries: list[ComparisonCell | None] = []
        for i, metric in enumerate(found):
            if metric is None:
                entries.append(None)
            elif i == baseline or base is None:
                entries.append(ComparisonCell(metric))
            elif (key, i) in paired:
                entries.append(ComparisonCell(metric, _tested(paired[key, i], corrected[f"{key}\n{i}"])))
            else:
                entries.append(ComparisonCell(metric, _untested(metric, base)))
        first = next(m for m in found if m is not None)
        marked = {
            i for i, label in enumerate(labels) if any(f.startswith(f"{task}.") for f in differing.get(label, ()))
        }
        rows.append(ComparisonRow(key, task, first.higher_is_better, first.chance, _with_best(entries, first, marked)))
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
        rows.append(ComparisonRow(key, task, metric.higher_is_better, metric.chance, (ComparisonCell(metric),)))
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


def _with_best(
    entries: Sequence[ComparisonCell | None], metric: Metric, marked: set[int]
) -> tuple[ComparisonCell | None, ...]:
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
        found.difference, found.ci95, True, found.p_value, corrected, found.minimum_detectable_effect, found.n,
        found.test, found.interval.given,
    )  # fmt: skip


def _untested(a: Metric, b: Metric) -> Difference:
    """From the two metrics' own intervals, as if they were independent: Zou & Donner 2008, equation 3."""
    value, given = a.value - b.value, tuple(dict.fromkeys((*a.given, *b.given)))
    if not (a.ci95 and b.ci95):
        return Difference(value, None, paired=False, given=given)
    low = value - math.hypot(a.value - a.ci95[0], b.ci95[1] - b.value)
    high = value + math.hypot(a.ci95[1] - a.value, b.value - b.ci95[0])
    return Difference(value, (low, high), paired=False, given=given)
