"""The Task protocol, what tasks ask of models, and the registry of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from harness.errors import OptionError
from harness.figures import Figure
from harness.registry import Registry
from harness.results import Item, Metric
from harness.segments import Modality, Prompt, Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.corpora.corpus import Corpus
    from harness.model import Model


@dataclass(frozen=True)
class TaskInfo:
    """What a task is called and where its definition comes from.

    Attributes:
        name: the registered name, the file's name.
        version: goes up whenever the same outputs would give another number.
        description: one line.
        source: the paper or code that defines it.
        headline: metric keys for tables, in order; a key that a run lacks is left out.
        main: the few of them for where there is room for few; empty: the first ones.
        item_score: the score by which pages show items at first, a dotted name such as `ranks.pmi.rank`; empty: the
            first one.
    """

    name: str
    version: int
    description: str
    source: str
    headline: tuple[str, ...] = ()
    main: tuple[str, ...] = ()
    item_score: str = ""


@dataclass(frozen=True, slots=True)
class RankScore:
    """A score that candidates are ranked by: `(loglikelihood − prior) / divisor`, which grows with the loglikelihood.

    Attributes:
        divisor: `"tokens"` for the number of tokens, else one number > 0 for each of the pool; None: 1.
        prior: id of an earlier request over the whole pool, whose values are subtracted; None: nothing is subtracted.
        tolerance: scores no further apart than this tie, in the score's own unit.
    """

    divisor: Literal["tokens"] | tuple[float, ...] | None = None
    prior: str | None = None
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.divisor, tuple) and (least := min(self.divisor, default=1.0)) <= 0:
            place = self.divisor.index(least)
            raise OptionError(f"Scores are divided by numbers > 0; found {least} for continuation {place} of the pool.")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Only the gold's rank is wanted: candidates sure to end below it under every score may stay unfinished.

    Attributes:
        gold: its place in `chosen`.
        scores: what it is ranked under.
    """

    gold: int
    scores: tuple[RankScore, ...]


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
        ranking: where only the gold's rank is wanted; None: every likelihood.
    """

    id: str
    prompt: Prompt
    source: Modality
    target: Modality
    pool: tuple[Segment, ...]
    chosen: tuple[int, ...]
    ranking: Ranking | None = None


def prior_ids(requests: Sequence[Request]) -> frozenset[str]:
    """The requests that others are ranked against, by id."""
    return frozenset(s.prior for r in requests if r.ranking for s in r.ranking.scores if s.prior)


@dataclass(frozen=True)
class Loglikelihoods:
    """The answer to a request, in the order of `chosen`.

    Attributes:
        values: sums over continuation tokens (nats, ≤ 0).
        num_tokens: tokens of each continuation.
        complete: False where a value is only an upper bound, of a candidate below the gold under every score of the
            request's `ranking`; None: all are complete. Ranks by these scores are exact either way.
    """

    values: NDArray[np.float64]
    num_tokens: NDArray[np.int64]
    complete: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Unscorable:
    """A request without an answer.

    Attributes:
        reason: why there is none.
    """

    reason: str


Answer = Loglikelihoods | Unscorable


@dataclass(frozen=True, slots=True)
class Record:
    """What a procedure computed for one item.

    Attributes:
        data: as plain JSON values.
    """

    data: Mapping[str, Any]


class Identified(Protocol):
    """What has an id: every example of a task."""

    @property
    def id(self) -> str:
        """Unique within the task."""
        ...


#: A task's options: a frozen dataclass.
OptionsT = TypeVar("OptionsT")
_OptionsT_contra = TypeVar("_OptionsT_contra", contravariant=True)
#: What one item of a task is made of.
ExampleT = TypeVar("ExampleT", bound=Identified)
_ExampleT_co = TypeVar("_ExampleT_co", bound=Identified, covariant=True)
#: What a procedure is about to do.
PlanT = TypeVar("PlanT", bound="ProcedurePlan[Any]")


class Task(Protocol[OptionsT, ExampleT]):
    """A task by likelihood: requests → score → summarize, all pure.

    `Options` is a frozen dataclass (`config=STRICT`) whose fields and defaults are the task's protocol; the command
    line sets them with `--set <task>.<field>=value`.
    """

    info: TaskInfo
    Options: type[OptionsT]

    def examples(self, corpus: Corpus, options: OptionsT, *, limit: int | None, seed: int) -> Sequence[ExampleT]:
        """The examples, drawn from the corpus; each has an `id`."""
        ...

    def requests(
        self, examples: Sequence[ExampleT], options: OptionsT, *, modalities: frozenset[Modality]
    ) -> Sequence[Request]:
        """Every likelihood the task needs from a model that knows `modalities`."""
        ...

    def score(self, examples: Sequence[ExampleT], options: OptionsT, answers: Mapping[str, Answer]) -> list[Item]:
        """One item per example with every score; an item that cannot be scored has the reason in `failed`."""
        ...

    def summarize(self, items: Sequence[Item], options: OptionsT, *, seed: int) -> dict[str, Metric]:
        """Metrics over the items that were scored."""
        ...


class Session(Protocol):
    """What a run gives a procedure to work with."""

    #: The model under evaluation.
    model: Model
    #: The split under evaluation.
    corpus: Corpus
    #: `--limit`; None: the task's own number.
    limit: int | None
    seed: int
    #: Tokens per batch; has no effect on results.
    batch_tokens: int

    def split(self, name: str) -> Corpus:
        """Another split of the same corpus."""
        ...

    def load_model(self, name: str) -> Model:
        """Another model by registered name or card, on the same device; loaded once a run."""
        ...

    def records(
        self,
        requests: Mapping[str, str],
        compute: Callable[[Sequence[str]], Iterable[tuple[str, Mapping[str, Any]]]],
        *,
        what: str,
    ) -> dict[str, Mapping[str, Any]]:
        """The record of each item, looked up or computed; records are stored as they are found, so that runs resume.

        Args:
            requests: by item, a digest of what is requested.
            compute: given the items that this process is to compute, yields each with what was found (JSON values).
            what: names the step in progress reports.
        """
        ...

    def attach(self, name: str, content: bytes) -> str:
        """Adds a file, such as audio, to the results; returns its path relative to the results folder."""
        ...


@dataclass(frozen=True)
class ProcedurePlan(Generic[_ExampleT_co]):
    """What a procedure is about to do.

    Attributes:
        examples: the items, each with an `id`.
        protocol: choices beyond the options that can change a number: fingerprints of other models, for example.
        signature: which of these stand in the signature, in short.
    """

    examples: Sequence[_ExampleT_co]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    signature: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Procedure(Protocol[OptionsT, PlanT]):
    """A task that does more than ask for likelihoods: it generates, or trains and tests. `Options` as for `Task`."""

    info: TaskInfo
    Options: type[OptionsT]

    def plan(self, session: Session, options: OptionsT) -> PlanT:
        """What will be done; cheap, and the same every time."""
        ...

    def run(self, session: Session, plan: PlanT, options: OptionsT) -> list[Item]:
        """The items with every score; one that cannot be scored has the reason in `failed`."""
        ...

    def summarize(self, items: Sequence[Item], options: OptionsT, *, seed: int) -> dict[str, Metric]:
        """Metrics over the items that were scored."""
        ...


#: A task of either kind, whose options and examples are its own business.
AnyTask = Task[Any, Any] | Procedure[Any, Any]


@runtime_checkable
class ItemMetrics(Protocol[_OptionsT_contra]):
    """What a task may add to be compared pairwise: which of its metrics are means over items, and of what."""

    def item_values(self, items: Sequence[Item], options: _OptionsT_contra) -> dict[str, dict[str, float]]:
        """For metric keys of `summarize` that are plain means over items: the value of each item, by its id.

        `items` are those that were scored. The mean of a metric's values is the metric. Items depend on one another
        within their `group` (a speaker, a prompt); those without one stand alone. Metrics left out here (medians,
        ratios of sums) are compared by their own intervals.
        """
        ...


@runtime_checkable
class LinearizedMetrics(Protocol[_OptionsT_contra]):
    """What a task may add so that metrics that are not means over items, such as F1, are compared pairwise too."""

    def linearized(self, items: Sequence[Item], options: _OptionsT_contra) -> dict[str, dict[str, float]]:
        """As `ItemMetrics.item_values`, of values whose mean is the metric: `harness.stats.pseudo_values`."""
        ...


@runtime_checkable
class TrainedItems(Protocol):
    """What a task may add that trains: which seed answered an item, so that seeds are taken for replication."""

    def replicate_of(self, item: Item) -> tuple[str, int] | None:
        """What the item asks, the same for every seed, and the training seed that answered; None: nothing trained."""
        ...


@runtime_checkable
class TaskFigures(Protocol):
    """What a task may add to be drawn: in reports, in the results folder and in trackers."""

    info: TaskInfo

    def figures(self, items: Sequence[Item], metrics: Mapping[str, Metric]) -> Sequence[Figure]:
        """Figures of one run, from the items that were scored and all metrics of the task."""
        ...


def task_registry() -> Registry[AnyTask]:
    """Tasks: files of `tasks/`, and the entry point group `harness.tasks`."""
    return Registry(
        kind="task", package="harness.tasks", attribute="TASK", group="harness.tasks", members=("info", "Options")
    )
