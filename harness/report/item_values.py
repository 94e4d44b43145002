"""What items add to the metrics that are means over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from harness.config import build
from harness.errors import ResultsError
from harness.results import Item, RunResult, TaskResult
from harness.task import AnyTask, ItemMetrics, LinearizedMetrics

#: Values of items by metric key and item id.
ItemValues = Mapping[str, Mapping[str, float]]


def item_values(result: RunResult, tasks: Mapping[str, AnyTask]) -> dict[str, ItemValues]:
    """By task, what items add to its metrics; empty where the task is not here or now has another version."""
    return _values(result, tasks, lambda task: task.item_values if isinstance(task, ItemMetrics) else None)


def linearized_values(result: RunResult, tasks: Mapping[str, AnyTask]) -> dict[str, ItemValues]:
    """The same of metrics that are not means over items: values that average to them and spread as they do."""
    return _values(result, tasks, lambda task: task.linearized if isinstance(task, LinearizedMetrics) else None)


def _values(
    result: RunResult, tasks: Mapping[str, AnyTask], method_of: Callable[[AnyTask], Callable[..., ItemValues] | None]
) -> dict[str, ItemValues]:
    found: dict[str, ItemValues] = {}
    for name, task_result in result.tasks.items():
        task = tasks.get(name)
        method = method_of(task) if task is not None else None
        if task is None or method is None or task_result.protocol.get("version") != task.info.version:
            continue
        options: Any = build(task.Options, task_result.protocol["options"], where=f"{result.run_id}: {name}.options")
        values = method(scored(task_result), options)
        _check_means(result, task_result, values)
        found[name] = values
    return found


def scored(task: TaskResult) -> list[Item]:
    """The items that have a score."""
    return [item for item in task.items if item.failed is None]


def _check_means(result: RunResult, task: TaskResult, values: ItemValues) -> None:
    for key, column in values.items():
        metric = task.metrics.get(key)
        mean = math.fsum(column.values()) / len(column)
        if metric is None or abs(mean - metric.value) > 1e-6 * max(1.0, abs(mean)):
            stored = "nothing" if metric is None else f"{metric.value:g}"
            raise ResultsError(
                f"The items of run {result.run_id} average to {key} = {mean:g}, but results.json says {stored}: one of "
                "the two files was changed. Run it again."
            )
