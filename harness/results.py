"""Records of a run, their one-line signatures, and how they lie on disk."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import flatten, plain
from harness.errors import OptionError, ResultsError
from harness.files import new_text_file, write_bytes, write_text

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Item:
    """What a run found out about one item of a task.

    Every entry of `scores` and `extra` has a name that no other entry and no other field has.

    Attributes:
        id: unique within the task.
        group: what items that depend on one another have in common: the speaker, or one value in each of two factors
            that cross, voice first, in which None stands alone; None: the item stands alone.
        prompt: what the model was given, as JSON values.
        reference: the right answer, as JSON values.
        output: the model's answer, as JSON values.
        scores: what metrics are made of, as JSON values.
        failed: why the item has no score; None where it has.
        extra: everything else, such as direction, seed, utterance or audio file, as JSON values.
    """

    id: str
    group: str | tuple[str | None, ...] | None = None
    prompt: Any = None
    reference: Any = None
    output: Any = None
    scores: Mapping[str, Any] = field(default_factory=dict)
    failed: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [*_FIELDS, *self.scores, *self.extra]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ResultsError(f"The item '{self.id}' has two fields called '{twice}'; give each its own name.")

    @property
    def clusters(self) -> tuple[str | None, ...]:
        """The group as a key of `harness.stats`: its value in each factor, None where the item stands alone."""
        return self.group if isinstance(self.group, tuple) else (self.group,)

    def data(self) -> dict[str, Any]:
        """The item as JSON values; fields that are None or an empty mapping are left out."""
        values = {name: plain(getattr(self, name)) for name in _FIELDS}
        return {name: value for name, value in values.items() if value is not None and value != {}}

    def columns(self) -> dict[str, Any]:
        """The item as one flat mapping with dotted names; `scores` and `extra` are opened."""
        data = self.data()
        opened = {key: value for name in _MAPPINGS for key, value in data.pop(name, {}).items()}
        return flatten(data | opened)

    @classmethod
    def of(cls, data: Any, *, where: str) -> Item:
        """The item that `data` gave.

        Args:
            data: a decoded line of an items file.
            where: its file and line, for messages.

        Raises:
            ResultsError: if `data` is not an object, has an unknown field, lacks its id, or a field has the wrong type.
        """
        if not isinstance(data, dict):
            raise ResultsError(f"{where}: an item is an object; found {type(data).__name__}.")
        if unknown := sorted(data.keys() - set(_FIELDS)):
            raise ResultsError(f"{where}: unknown field '{unknown[0]}'; an item has {', '.join(_FIELDS)}.")
        if not isinstance(data.get("id"), str):
            raise ResultsError(f"{where}: an item has an id, which is text; found {data.get('id')!r}.")
        for names, kind, what in ((("failed",), str, "text"), (_MAPPINGS, dict, "an object")):
            for name in names:
                if name in data and not isinstance(data[name], kind):
                    raise ResultsError(f"{where}: '{name}' is {what}; found {data[name]!r}.")
        group = data.get("group")
        values = group if isinstance(group, list) else [group]
        if not values or not all(value is None or isinstance(value, str) for value in values):
            raise ResultsError(f"{where}: 'group' is text, or a list of texts and nulls; found {group!r}.")
        try:
            return cls(**{**data, "group": tuple(group) if isinstance(group, list) else group})
        except ResultsError as error:
            raise ResultsError(f"{where}: {error}") from None


_FIELDS = ("id", "group", "prompt", "reference", "output", "scores", "failed", "extra")
_MAPPINGS = ("scores", "extra")


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with what is needed to read it.

    Attributes:
        value: finite.
        ci95: 95 % confidence interval, or None where none is defined.
        n: items it rests on.
        chance: its expected value without any ability, or None where there is none.
        higher_is_better: its direction; None for a description that is neither.
        support: least and greatest value possible, or None where it is not known.
        given: what the interval takes as it is and says nothing beyond: `"weights"` of a recipe that was trained with
            one seed, `"voices"` or `"groups"` of which there are fewer than 6.
    """

    value: float
    n: int
    higher_is_better: bool | None
    ci95: tuple[float, float] | None = None
    chance: float | None = None
    support: tuple[float, float] | None = None
    given: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Metric:
        """The metric that `plain` made these JSON values of; results of older versions lack the last two."""
        ci95, support = data["ci95"], data.get("support")
        pairs = {"ci95": ci95 and tuple(ci95), "support": support and tuple(support)}
        return cls(**{**data, **pairs, "given": tuple(data.get("given", ()))})

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ResultsError(f"A metric must be a finite number; found {self.value} over {self.n} items.")
        beside = [*(self.ci95 or ()), *([] if self.chance is None else [self.chance])]
        if not all(map(math.isfinite, beside)):
            raise ResultsError(f"Interval and chance must be finite or None; found {self.ci95} and {self.chance}.")


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

    def to_frame(self) -> pandas.DataFrame:
        """One row per metric, by its key, in the order of the run.

        The columns are `value`, `low` and `high` (the ends of the 95 % interval), `chance`, `n`, `higher_is_better`,
        `task` and `model`; what a metric does not have is missing (None or NaN).
        """
        import pandas

        rows = [
            (key, m.value, *(m.ci95 or (None, None)), m.chance, m.n, m.higher_is_better, name, self.model["name"])
            for name, task in self.tasks.items()
            for key, m in task.metrics.items()
        ]
        frame = pandas.DataFrame(rows, columns=["metric", *_FRAME]).set_index("metric")
        return frame.astype(dict.fromkeys(("value", "low", "high", "chance"), "float64"))


_FRAME = ("value", "low", "high", "chance", "n", "higher_is_better", "task", "model")


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
        write_items(folder / "items" / f"{name}.jsonl", task.items)
    _write_json(folder / "protocol.json", result.protocol)
    _write_json(folder / "results.json", summary(result))


def _write_files(files: Mapping[str, bytes], folder: Path, under: str) -> None:
    """Files of items, in place of those that an earlier run left."""
    shutil.rmtree(folder / under, ignore_errors=True)
    for path, content in files.items():
        write_bytes(folder / path, content)


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


def read_results(folder: str | Path, *, items: bool = True) -> RunResult:
    """A run from its results folder.

    Args:
        folder: as `harness run --output` wrote it.
        items: False: without the items, which can be many.

    Raises:
        ResultsError: if the folder holds no finished run, or one that is damaged or of another version's format.
        OptionError: if `folder` is not a path.
    """
    if not isinstance(folder, str | Path):
        raise OptionError(f"A run is read from a results folder; found {folder!r}.")
    folder = Path(folder)
    path = folder / "results.json"
    if not path.is_file():
        raise ResultsError(
            f"{folder} holds no results.json, so it is not a finished run. Give the folder of 'harness run --output'."
        )
    try:
        return _read_run(folder, items=items)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OSError) as error:
        raise ResultsError(
            f"The run in {folder} cannot be read ({type(error).__name__}: {error}): it is damaged, or another version "
            "of the harness wrote it. Run the same 'harness run' again."
        ) from error


def _read_run(folder: Path, *, items: bool) -> RunResult:
    data = json.loads((folder / "results.json").read_text("utf-8"))
    tasks = {
        name: TaskResult(
            task=name,
            signature=data["signature"][name],
            metrics={key: Metric.of(value) for key, value in task["metrics"].items()},
            n_expected=task["n_expected"],
            n_scored=task["n_scored"],
            n_failed=task["n_failed"],
            protocol=task["protocol"],
            items=read_items(folder / "items" / f"{name}.jsonl") if items else [],
            notes=task["notes"],
        )
        for name, task in data["tasks"].items()
    }
    protocol = json.loads((folder / "protocol.json").read_text("utf-8"))
    return RunResult(data["run_id"], data["model"], data["corpus"], tasks, protocol)


def write_items(path: Path, items: Iterable[Item]) -> None:
    """One item a line as a JSON object, all of them or, if one cannot be written, none.

    Raises:
        ResultsError: if an item holds NaN or infinity.
    """
    with new_text_file(path) as stream:
        for item in items:
            stream.write(_json(item.data(), path) + "\n")


def read_items(path: Path) -> list[Item]:
    """The items of a file that a run wrote.

    Raises:
        ResultsError: naming file and line, if a line is not JSON or not an item, or the file is absent.
    """
    if not path.is_file():
        raise ResultsError(f"{path} is missing: the run's items were removed. Run it again.")
    items = []
    # Not splitlines(), which also splits at characters that JSON leaves as they are, such as U+2028.
    for number, line in enumerate(path.read_text("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            raise ResultsError(f"{where}: not valid JSON ({error}).") from None
        items.append(Item.of(data, where=where))
    return items


def _write_json(path: Path, value: Any) -> None:
    write_text(path, _json(value, path, indent=2) + "\n")


def _json(value: Any, path: Path, *, indent: int | None = None) -> str:
    try:
        return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ResultsError(
            f"{path} would hold NaN or infinity ({error}); what cannot be measured is a failed item with its reason."
        ) from None


def headline(metrics: Mapping[str, Metric], keys: Sequence[str]) -> dict[str, Metric]:
    """Those of `keys` that were measured, in their order; all metrics if `keys` is empty."""
    return {key: metrics[key] for key in keys if key in metrics} if keys else dict(metrics)
