"""What the contracts of tasks and of procedures check alike."""
# ruff: noqa: S101 - assertions are what this module is for.

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from harness.config import build, plain
from harness.errors import ConfigError
from harness.figures import HeatMap
from harness.results import Item, Metric
from harness.task import (
    AnyTask,
    ItemMetrics,
    LinearizedMetrics,
    TaskFigures,
    TaskInfo,
)

METRIC_KEY = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+){2,}")


def check_info(info: TaskInfo, metrics: Collection[str]) -> None:
    assert all([info.name, info.description, info.source]), f"{info} leaves something empty"
    assert re.fullmatch(r"[A-Za-z0-9_]+", info.name), f"the name '{info.name}' cannot stand in a metric key"
    assert info.version >= 1
    shown = [*info.headline, *info.main]
    assert [key for key in shown if not key.startswith(f"{info.name}.")] == []
    assert not info.headline or set(info.headline) & set(metrics), f"no headline metric is among {list(metrics)}"


def check_options(options: type, where: str) -> None:
    assert dataclasses.is_dataclass(options)
    default = build(options, {}, where=where)
    assert build(options, plain(default), where=where) == default, "options do not survive the protocol record"
    assert refuses(lambda: build(options, {"no_such_option": 1}, where=where), ConfigError)
    for field in dataclasses.fields(options):
        change = functools.partial(setattr, default, field.name, None)
        assert refuses(change, AttributeError, ValueError), f"{field.name} can be changed afterwards"


def check_item_values(task: AnyTask, options: Any, items: Sequence[Item], metrics: Mapping[str, Metric]) -> None:
    scored = [i for i in items if i.failed is None]
    values = dict(task.item_values(scored, options)) if isinstance(task, ItemMetrics) else {}
    if isinstance(task, LinearizedMetrics):
        values |= task.linearized(scored, options)
    assert set(values) <= set(metrics), "values of metrics that there are not"
    assert {i for column in values.values() for i in column} <= {i.id for i in scored}
    means = {key: sum(column.values()) / len(column) for key, column in values.items()}
    off = {k: (m, metrics[k].value) for k, m in means.items() if abs(m - metrics[k].value) > 1e-9 * max(1.0, abs(m))}
    assert off == {}, "(mean of the items' values, metric)"


def check_figures(task: AnyTask, items: Sequence[Item], metrics: Mapping[str, Metric]) -> None:
    if not isinstance(task, TaskFigures):
        return
    figures = task.figures([i for i in items if i.failed is None], metrics)
    assert repeated(figure.name for figure in figures) == [], "two figures of one name"
    assert repeated(figure.title for figure in figures) == [], "two figures of one title"
    keys = {k for f in figures if isinstance(f, HeatMap) for row in f.keys.values() for k in row.values()}
    assert [key for key in sorted(keys) if not key.startswith(f"{task.info.name}.")] == []
    assert not keys or keys & set(metrics), "no heat map shows a metric that there is"


def holds(metric: Metric, value: float) -> bool:
    low, high = metric.ci95 or (metric.value, metric.value)
    return low - 1e-9 <= value <= high + 1e-9 or abs(metric.value - value) <= 1e-9


def repeated(ids: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]


def refuses(call: Callable[[], object], *errors: type[BaseException]) -> bool:
    try:
        call()
    except errors:
        return True
    return False
