"""Why two runs differ: the fields of their protocols, and the items whose scores changed most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.config import flatten
from harness.report.item_values import ItemValues, item_values, scored
from harness.report.tables import Table, decimals, number
from harness.results import Item, RunResult, TaskResult
from harness.task import AnyTask

#: Groups of fields of `protocol.json`: a field belongs to the first group whose prefix fits.
_GROUPS = (
    ("tokenizer", "model.card.tokenizers."),
    ("model", "model."),
    ("corpus", "corpus."),
    ("protocol", "tasks."),
    ("versions", "versions."),
    ("versions", "git"),
)


@dataclass(frozen=True, slots=True)
class ProtocolChange:
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
    changes: tuple[ProtocolChange, ...]
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
            changes.append(ProtocolChange(group, name, x, y))
    order = list(dict.fromkeys(group for group, _ in _GROUPS))
    changes.sort(key=lambda c: order.index(c.group))
    items = [change for task in a.tasks if task in b.tasks for change in _item_changes(a, b, task, tasks)[:top]]
    return Why(labels, tuple(changes), tuple(items))


def _item_changes(a: RunResult, b: RunResult, task: str, tasks: Mapping[str, AnyTask]) -> list[ItemChange]:
    known = {name: t for name, t in tasks.items() if name == task}
    sides = [item_values(r, known).get(task) or _numbers(r.tasks[task]) for r in (a, b)]
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
    records = [{item.id: item for item in r.tasks[task].items} for r in (a, b)]
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
    for item in scored(task):
        for name, value in item.columns().items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                columns.setdefault(name, {})[item.id] = float(value)
    return columns


def _texts(a: Item, b: Item) -> dict[str, tuple[str, str]]:
    x, y = a.columns(), b.columns()
    names = [n for n in x if isinstance(x[n], str) and isinstance(y.get(n), str) and n not in ("id", "group", "audio")]
    return {n: (x[n], y[n]) for n in names}


def why_tables(found: Why) -> list[Table]:
    """What differs between two runs, and the items that changed most."""
    changes = tuple((c.group, c.field, _text(c.a), _text(c.b)) for c in found.changes)
    tables = [Table("what differs", ("group", "field", *found.labels), changes, left=frozenset(range(4)))]
    for task in dict.fromkeys(item.task for item in found.items):
        rows = []
        for item in (i for i in found.items if i.task == task):
            key, (a, b) = next(iter(item.values.items()))
            digits = decimals((a, b))
            rows.append((item.id, f"{item.change:.2f}", key, number(a, digits), number(b, digits)))
            for name, (x, y) in item.texts.items():
                rows.append((f"  {name}", "", "", x, "=" if x == y else y))
        title = f"{task}: items that changed most (1 is a usual change), each by the metric that moved most"
        columns = ("item", "change", "metric", *found.labels)
        tables.append(Table(title, columns, tuple(rows), left=frozenset({0, 2, 3, 4})))
    return tables


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)
