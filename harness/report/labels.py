"""What runs are called, and which of them is the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import ComparisonError, UnknownNameError
from harness.results import RunResult
from harness.task import AnyTask, task_registry


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
        ComparisonError: if several have the name.
        UnknownNameError: if none has it.
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
            raise ComparisonError(
                f"'{wanted}' is the name of {len(found)} of these runs; name the baseline by its folder."
            )
    raise UnknownNameError("run among these", wanted, labels_of(results, names))


def task_names(results: Sequence[RunResult]) -> list[str]:
    """The tasks of runs, in the order of their first occurrence."""
    return list(dict.fromkeys(name for r in results for name in r.tasks))
