"""Records of a run, their one-line signatures, and how they lie on disk."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config import plain
from harness.errors import InputError

Item = dict[str, Any]

#: What a field of an item is for, by its name; pages that put runs side by side show the first that an item has.
PROMPT_FIELDS = ("prompt", "input")
REFERENCE_FIELDS = ("reference", "gold", "label")
OUTPUT_FIELDS = ("output", "hypothesis", "prediction", "predicted", "top", "text")


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with what is needed to read it.

    Attributes:
        value: finite.
        ci95: 95 % confidence interval, or None where none is defined.
        n: items it rests on.
        chance: its expected value without any ability, or None where there is none.
        higher_is_better: its direction; None for a description that is neither.
    """

    value: float
    n: int
    higher_is_better: bool | None
    ci95: tuple[float, float] | None = None
    chance: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(f"A metric must be a finite number; found {self.value} over {self.n} items.")
        beside = [*(self.ci95 or ()), *([] if self.chance is None else [self.chance])]
        if not all(map(math.isfinite, beside)):
            raise InputError(f"Interval and chance must be finite or None; found {self.ci95} and {self.chance}.")


@dataclass(frozen=True)
class TaskResult:
    """What one task says of one model.

    Attributes:
        task: its registered name.
        signature: the protocol in one line.
        metrics: by key `<task>.<condition>.<metric>`.
        n_expected: items the corpus offered.
        n_scored: items with a score.
        n_failed: items without, each with its reason in the items file.
        protocol: every choice that can change a number.
        items: one record per item with every score.
        notes: how the result was computed (tokens evaluated, …); changes no number.
        files: what is to lie beside the items, by path relative to the results folder; not read back.
    """

    task: str
    signature: str
    metrics: dict[str, Metric]
    n_expected: int
    n_scored: int
    n_failed: int
    protocol: dict[str, Any]
    items: list[Item] = field(repr=False, default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(repr=False, compare=False, default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """One model on a list of tasks.

    Attributes:
        run_id: the model and a digest of what was asked; the same question has the same id.
        model: name, fingerprint, card.
        corpus: name, split, digest.
        tasks: by task name, in the order asked for.
        protocol: resolved configuration, versions, digests, git revision.
    """

    run_id: str
    model: dict[str, Any]
    corpus: dict[str, Any]
    tasks: dict[str, TaskResult]
    protocol: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Metric]:
        """All metrics of all tasks."""
        return {key: metric for task in self.tasks.values() for key, metric in task.metrics.items()}


def signature(parts: Mapping[str, Any]) -> str:
    """The protocol in one line, `name|v1|key:value|…`; values that are lists are joined by `+`.

    `parts` starts with the task's name and version under the keys `task` and `version`.
    """
    head = [str(parts["task"]), f"v{parts['version']}"]
    rest = [f"{k}:{_short(v)}" for k, v in parts.items() if k not in ("task", "version")]
    return "|".join([*head, *rest])


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def attachments_folder(task: str) -> str:
    """Where the files of a task's items lie, relative to the results folder."""
    return f"items/{task}"


def write_results(result: RunResult, folder: Path) -> None:
    """Writes `items/<task>.jsonl`, files of items under `items/<task>/`, `protocol.json` and, last, `results.json`."""
    (folder / "items").mkdir(parents=True, exist_ok=True)
    for name, task in result.tasks.items():
        _write_files(task.files, folder, attachments_folder(name))
        write_jsonl(folder / "items" / f"{name}.jsonl", task.items)
    _write_json(folder / "protocol.json", result.protocol)
    _write_json(folder / "results.json", summary(result))


def _write_files(files: Mapping[str, bytes], folder: Path, under: str) -> None:
    """Files of items, in place of those that an earlier run left."""
    shutil.rmtree(folder / under, ignore_errors=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def summary(result: RunResult) -> dict[str, Any]:
    """The content of `results.json`: everything but the items and the protocol."""
    return {
        "run_id": result.run_id,
        "signature": {name: task.signature for name, task in result.tasks.items()},
        "model": plain(result.model),
        "corpus": plain(result.corpus),
        "tasks": {
            name: {
                "metrics": {key: plain(metric) for key, metric in task.metrics.items()},
                "n_expected": task.n_expected,
                "n_scored": task.n_scored,
                "n_failed": task.n_failed,
                "protocol": plain(task.protocol),
                "notes": plain(task.notes),
            }
            for name, task in result.tasks.items()
        },
    }


def read_results(folder: Path, *, items: bool = True) -> RunResult:
    """A run from its results folder, with its items unless `items` is unset.

    Raises:
        InputError: if the folder holds no finished run.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no results.json: no finished run. Give the folder of 'harness run --output'.")
    data = json.loads(path.read_text("utf-8"))
    tasks = {
        name: TaskResult(
            task=name,
            signature=data["signature"][name],
            metrics={key: _metric(value) for key, value in task["metrics"].items()},
            n_expected=task["n_expected"],
            n_scored=task["n_scored"],
            n_failed=task["n_failed"],
            protocol=task["protocol"],
            items=read_jsonl(folder / "items" / f"{name}.jsonl") if items else [],
            notes=task["notes"],
        )
        for name, task in data["tasks"].items()
    }
    protocol = json.loads((folder / "protocol.json").read_text("utf-8"))
    return RunResult(data["run_id"], data["model"], data["corpus"], tasks, protocol)


def _metric(data: Mapping[str, Any]) -> Metric:
    ci95 = data["ci95"]
    return Metric(**{**data, "ci95": (ci95[0], ci95[1]) if ci95 else None})


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, whole or not at all.

    Raises:
        InputError: if a row holds NaN or infinity.
    """
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(_json(row, path) + "\n")
    os.replace(part, path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    # Not splitlines(), which also splits at characters that JSON leaves as they are, such as U+2028.
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]


def _write_json(path: Path, value: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(_json(value, path, indent=2) + "\n", "utf-8")
    os.replace(part, path)


def _json(value: Any, path: Path, *, indent: int | None = None) -> str:
    try:
        return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InputError(
            f"{path} would hold NaN or infinity ({error}); what cannot be measured is a failed item with its reason."
        ) from None


def headline(metrics: Mapping[str, Metric], keys: Sequence[str]) -> dict[str, Metric]:
    """Those of `keys` that were measured, in their order; all metrics if `keys` is empty."""
    return {key: metrics[key] for key in keys if key in metrics} if keys else dict(metrics)
