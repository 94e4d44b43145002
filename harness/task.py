"""The Task protocol, what tasks ask of models, and the registry of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from harness.registry import Registry
from harness.results import Item, Metric
from harness.segments import Modality, Prompt, Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.corpora.corpus import Corpus


@dataclass(frozen=True)
class TaskInfo:
    """What a task is called and where its definition comes from.

    Attributes:
        name: the registered name, the file's name.
        version: goes up whenever the same outputs would give another number.
        description: one line.
        source: the paper or code that defines it.
        headline: metric keys for tables, in order; a key that a run lacks is left out.
        figures: `{name: {row: {column: metric key}}}`: heat maps that trackers and reports draw.
    """

    name: str
    version: int
    description: str
    source: str
    headline: tuple[str, ...] = ()
    figures: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One context with all the continuations whose likelihood is wanted under it.

    Attributes:
        id: unique within the task.
        prompt: the context; empty asks for the likelihood without a prompt (the model's prior, source → target).
        source: modality of the prompt.
        target: modality of the continuations.
        pool: the continuations that requests share; the same tuple object in every request, encoded once.
        chosen: which of the pool, by index.
    """

    id: str
    prompt: Prompt
    source: Modality
    target: Modality
    pool: tuple[Segment, ...]
    chosen: tuple[int, ...]


@dataclass(frozen=True)
class Loglikelihoods:
    """The answer to a request: sums over continuation tokens (nats, ≤ 0) and token counts, in the order of `chosen`."""

    values: NDArray[np.float64]
    num_tokens: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Unscorable:
    """Why a request has no answer."""

    reason: str


Answer = Loglikelihoods | Unscorable


class Task(Protocol):
    """A task by likelihood: requests → score → summarize, all pure.

    `Options` is a frozen dataclass (`config=STRICT`) whose fields and defaults are the task's protocol; the command
    line sets them with `--set <task>.<field>=value`.
    """

    info: TaskInfo
    Options: type

    def examples(self, corpus: Corpus, options: Any, *, limit: int | None, seed: int) -> Sequence[Any]:
        """What is asked, drawn from the corpus; each has an `id`."""
        ...

    def requests(self, examples: Sequence[Any], options: Any, *, modalities: frozenset[Modality]) -> Sequence[Request]:
        """Every likelihood the task needs from a model that knows `modalities`."""
        ...

    def score(self, examples: Sequence[Any], options: Any, answers: Mapping[str, Answer]) -> list[Item]:
        """One record per item with every score; an item that cannot be scored carries `failed` with the reason."""
        ...

    def summarize(self, items: Sequence[Item], options: Any, *, seed: int) -> dict[str, Metric]:
        """Metrics over the items that were scored."""
        ...


def task_registry() -> Registry[Task]:
    """Tasks: files of `tasks/`, and the entry point group `harness.tasks`."""
    return Registry(kind="task", package="harness.tasks", attribute="TASK", group="harness.tasks")
