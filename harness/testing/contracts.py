"""What plug-in authors test with: two models whose scores are known beforehand, and contracts to subclass.

    from harness.testing.contracts import ModelContract, ProcedureContract, TaskContract

    class TestMyTask(TaskContract):
        name = "my_task"

    class TestMyProcedure(ProcedureContract):
        name = "my_procedure"

    class TestMyModel(ModelContract):
        card = "card.yaml"

pytest collects the inherited tests under the subclass's name. The harness holds its own tasks and adapters to the same
contracts.
"""
# ruff: noqa: S101 - assertions are what this module is for.

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.config import build, digest, parse_settings, plain
from harness.corpora.corpus import Corpus, open_corpus
from harness.engine.generation import Continue, Generator, Sampling
from harness.engine.scoring import Scorer
from harness.errors import ConfigError, InputError, UnitSystemError
from harness.evaluation.evaluate import RunConfig, evaluate
from harness.evaluation.store import RowStore
from harness.model import Hidden, Model, ModelCard, load_model
from harness.results import Item, Metric, TaskResult
from harness.segments import (
    DIRECTIONS,
    AudioSpan,
    Modality,
    Prompt,
    Segment,
    Speech,
    Text,
    UnitSpan,
    modalities_of,
)
from harness.speech.audio import audio_info
from harness.task import (
    AnyTask,
    ItemMetrics,
    Loglikelihoods,
    Procedure,
    Request,
    Task,
    TaskInfo,
    Unscorable,
    task_registry,
)
from harness.training.vocabulary import EOS, START, SWITCH_TO, Vocabulary

#: Frames per second of the units below: one token for every 40 ms.
RATE_HZ = 25.0
#: The unit system of the models below, which is nobody else's.
SYSTEM = "harness.testing"

_BOTH: frozenset[Modality] = frozenset({"speech", "text"})
_VOCABULARY = Vocabulary(num_units=50, num_text=256)
#: Logit of a token that the oracle expects, the others' being 0: exp(-30) is below float32's resolution at 1.
_SURE = 30.0
_METRIC_KEY = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+){2,}")


@functools.lru_cache(maxsize=4096)
def fake_units(path: Path) -> UnitSpan:
    """Units of an audio file, one per 40 ms: drawn by the file's name, not heard; only its header is read.

    Raises:
        AudioError: if the file is absent or no audio.
    """
    draw, num_frames = random.Random(path.name), int(audio_info(path)[1] * RATE_HZ)
    units = [draw.randrange(_VOCABULARY.num_units)]
    while len(units) < num_frames:
        units.append((units[-1] + draw.randrange(1, _VOCABULARY.num_units)) % _VOCABULARY.num_units)
    return UnitSpan.from_frames(units, rate_hz=RATE_HZ, system=SYSTEM)


class UniformModel:
    """Finds every next token equally likely: each task must measure chance.

    Text becomes its UTF-8 bytes; speech becomes `fake_units`, so that real audio needs no tokenizer.

    Args:
        modalities: what it takes.
        max_length: tokens it reads at most.
    """

    module: nn.Module | None = None
    end: int | None = EOS

    def __init__(self, modalities: Collection[Modality] = _BOTH, *, max_length: int = 1 << 16) -> None:
        self.card = ModelCard(name="uniform", adapter="uniform", checkpoint="none")
        self.fingerprint = digest("harness.testing.contracts.UniformModel/1")
        self.modalities = frozenset(modalities)
        self.device = torch.device("cpu")
        self.max_length = max_length

    def prepare(self, segments: Sequence[Segment]) -> None:
        """Does nothing: reading a header is cheap."""

    def encode_prompt(self, prompt: Prompt, target: Modality) -> list[int]:
        """Start token, segments with switch tokens between modalities, and a switch to `target` where needed."""
        if not prompt:
            raise InputError("A prompt needs at least one segment; use encode_prior for the likelihood without one.")
        ids, modality = [START[prompt[0].modality]], prompt[0].modality
        for segment in prompt:
            ids += [] if segment.modality == modality else [SWITCH_TO[segment.modality]]
            modality = segment.modality
            ids += self.encode_continuation(segment)
        return ids if modality == target else [*ids, SWITCH_TO[target]]

    def encode_prior(self, source: Modality, target: Modality) -> list[int]:
        """Start token of `source`, then the switch to `target` if it is another."""
        return [START[source]] if source == target else [START[source], SWITCH_TO[target]]

    def encode_continuation(self, segment: Segment) -> list[int]:
        """One id per byte of text or per 40 ms of speech."""
        if segment.modality not in self.modalities:
            raise InputError(f"Model '{self.card.name}' takes {', '.join(sorted(self.modalities))}; got {segment}.")
        local = segment.text.encode() if isinstance(segment, Text) else _units(segment).units
        return [_VOCABULARY.offset(segment.modality) + i for i in local]

    def tokens_of(self, modality: Modality) -> Sequence[int]:
        """The ids of bytes or of units."""
        return _VOCABULARY.id_range(modality) if modality in self.modalities else ()

    def decode(self, ids: Sequence[int]) -> Prompt:
        """Segments of consecutive ids of one modality; specials are dropped."""
        known = [(modality, i) for i in ids if (modality := _VOCABULARY.modality_of(i))]
        return tuple(
            _segment(modality, [i - _VOCABULARY.offset(modality) for _, i in run])
            for modality, run in groupby(known, key=lambda pair: pair[0])
        )

    def forward(self, ids: Tensor, *, lengths: Tensor | None = None, past: Any = None, keep: bool = False) -> Hidden:
        """States `(batch, time, 1)`, and as `past` all ids so far."""
        seen = _Seen.of(ids, lengths) if past is None else past.then(_Seen.of(ids, lengths))
        states = self._states(seen.ids) if past is None or seen.whole else self._states_row_by_row(seen)
        return Hidden(states[:, -ids.shape[1] :, None], seen if keep else None)

    def logits(self, states: Tensor) -> Tensor:
        """Zeros, `(…, vocabulary)`."""
        return torch.zeros(*states.shape[:-1], _VOCABULARY.size)

    def _states(self, ids: Tensor) -> Tensor:
        return torch.zeros(ids.shape)

    def _states_row_by_row(self, seen: _Seen) -> Tensor:
        # Padding in the middle is no token of the sequence: each row is read without it.
        states = torch.zeros(seen.ids.shape)
        for row, (ids, real) in enumerate(zip(seen.ids, seen.real, strict=True)):
            states[row, real] = self._states(ids[real][None])[0]
        return states


@dataclass(frozen=True, slots=True)
class _Seen:
    """All ids of rows so far, `(rows, time)`, and which of them are not padding."""

    ids: Tensor
    real: Tensor

    @classmethod
    def of(cls, ids: Tensor, lengths: Tensor | None) -> _Seen:
        real = torch.ones_like(ids, dtype=torch.bool)
        return cls(ids, real if lengths is None else torch.arange(ids.shape[1]) < lengths[:, None])

    @property
    def whole(self) -> bool:
        return bool(self.real.all())

    def then(self, other: _Seen) -> _Seen:
        return _Seen(torch.cat([self.ids, other.ids], 1), torch.cat([self.real, other.real], 1))

    def select(self, rows: Tensor) -> _Seen:
        return _Seen(self.ids[rows], self.real[rows])


class OracleModel(UniformModel):
    """Expects the true continuation of every prompt it was told of, and anything alike elsewhere.

    A prompt with several true continuations expects each of them alike. The end of a true continuation expects the
    end of the sequence, so that a candidate which goes on after it is a wrong one.

    Args:
        truth: prompts with their true continuations; an empty prompt stands for the likelihood without one.
        modalities: what it takes.
    """

    def __init__(self, truth: Iterable[tuple[Prompt, Segment]], modalities: Collection[Modality] = _BOTH) -> None:
        super().__init__(modalities)
        self.card = ModelCard(name="oracle", adapter="oracle", checkpoint="none")
        #: A tree of all that was told: `(node, token)` → node, from the root 0.
        self._children: dict[tuple[int, int], int] = {}
        #: The tokens expected at a node.
        self._expected: dict[int, set[int]] = {}
        told = []
        for prompt, continuation in truth:
            modality = continuation.modality
            context = self.encode_prompt(prompt, modality) if prompt else self.encode_prior(modality, modality)
            told.append((context, self.encode_continuation(continuation)))
            self._tell(*told[-1])
        self.fingerprint = digest(["harness.testing.contracts.OracleModel/1", told])

    def logits(self, states: Tensor) -> Tensor:
        """Large at expected tokens, else 0; `(…, vocabulary)`."""
        out = torch.zeros(*states.shape[:-1], _VOCABULARY.size)
        for row, node in zip(out.view(-1, _VOCABULARY.size), states.flatten().tolist(), strict=True):
            row[list(self._expected.get(int(node), ()))] = _SURE
        return out

    def _tell(self, context: Sequence[int], continuation: Sequence[int]) -> None:
        node = 0
        for place, token in enumerate([*context, *continuation, EOS]):
            if place >= len(context):
                self._expected.setdefault(node, set()).add(token)
            node = self._children.setdefault((node, token), len(self._children) + 1)

    def _states(self, ids: Tensor) -> Tensor:
        return torch.tensor([self._walk(row) for row in ids.tolist()], dtype=torch.float32)

    def _walk(self, ids: Sequence[int]) -> list[int]:
        node, path = 0, []
        for token in ids:
            node = self._children.get((node, token), -1)
            path.append(node)
        return path


def _units(segment: Speech) -> UnitSpan:
    if segment.units is None:
        assert segment.audio is not None  # a Speech has audio or units
        return fake_units(segment.audio.path).cut(segment.audio.start_s, segment.audio.end_s)
    if segment.units.system != SYSTEM:
        raise UnitSystemError(f"Units of system {segment.units.system} were given to a model of system {SYSTEM}.")
    return segment.units


def _segment(modality: Modality, local: Sequence[int]) -> Segment:
    if modality == "text":
        return Text(bytes(local).decode(errors="replace"))
    return Speech(units=UnitSpan.from_frames(list(local), rate_hz=RATE_HZ, system=SYSTEM))


@dataclass(frozen=True)
class Measured:
    """Items and metrics of one task on one model."""

    items: list[Item]
    metrics: dict[str, Metric]


def measure(task: Task, model: Model, corpus: Corpus, options: Any, *, seed: int = 0) -> Measured:
    """Every example of a corpus held in memory, without the bookkeeping of a run.

    Raises:
        InputError: as the task does.
    """
    examples = task.examples(corpus, options, limit=None, seed=seed)
    requests = task.requests(examples, options, modalities=model.modalities)
    answers = {request.id: answer for request, answer in Scorer(model).answer(requests)}
    items = task.score(examples, options, answers)
    return Measured(items, task.summarize([i for i in items if "failed" not in i], options, seed=seed))


@dataclass(frozen=True)
class Sample:
    """What a task contract is tried on: a task by name, some options and the first utterances of a corpus split."""

    name: str
    settings: tuple[str, ...]
    corpus: str
    split: str
    num_utterances: int

    def task(self) -> Task:
        """The task by likelihood, by registered name or `path/to/file.py:TASK`."""
        task = task_registry().load(self.name)
        assert not isinstance(task, Procedure), f"'{self.name}' is a procedure; hold it to ProcedureContract"
        return task

    def options(self) -> Any:
        """The task's options with the settings."""
        return build(self.task().Options, parse_settings(self.settings), where=self.name)

    def utterances(self) -> Corpus:
        """The corpus, cut to the sample."""
        corpus = open_corpus(self.corpus, self.split)
        return replace(corpus, utterances=corpus.utterances[: self.num_utterances])

    def fingerprint(self) -> str:
        """Digest of all that the task says of `UniformModel`."""
        return digest(measure(self.task(), UniformModel(), self.utterances(), self.options()))

    def fingerprint_elsewhere(self) -> str:
        """`fingerprint` as another process finds it, one that hashes otherwise.

        Raises:
            RuntimeError: if that process fails, with what it wrote.
        """
        code = "from harness.testing.contracts import Sample; print(Sample(**json.loads(sys.argv[1])).fingerprint())"
        path = os.pathsep.join(p for p in sys.path if p)
        done = subprocess.run(
            [sys.executable, "-c", f"import json, sys; {code}", json.dumps(plain(self))],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "20231015"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.split()[-1]


def _check_info(info: TaskInfo, metrics: Collection[str]) -> None:
    assert all([info.name, info.description, info.source]), f"{info} leaves something empty"
    assert re.fullmatch(r"[A-Za-z0-9_]+", info.name), f"the name '{info.name}' cannot stand in a metric key"
    assert info.version >= 1
    shown = [*info.headline, *(k for f in info.figures.values() for row in f.values() for k in row.values())]
    assert [key for key in shown if not key.startswith(f"{info.name}.")] == []
    assert not info.headline or set(info.headline) & set(metrics), f"no headline metric is among {list(metrics)}"


def _check_options(options: type, where: str) -> None:
    assert dataclasses.is_dataclass(options)
    default = build(options, {}, where=where)
    assert build(options, plain(default), where=where) == default, "options do not survive the protocol record"
    assert _refuses(lambda: build(options, {"no_such_option": 1}, where=where), ConfigError)
    for field in dataclasses.fields(options):
        change = functools.partial(setattr, default, field.name, None)
        assert _refuses(change, AttributeError, ValueError), f"{field.name} can be changed afterwards"


def _check_item_values(task: AnyTask, options: Any, items: Sequence[Item], metrics: Mapping[str, Metric]) -> None:
    if not isinstance(task, ItemMetrics):
        return
    scored = [i for i in items if "failed" not in i]
    values = task.item_values(scored, options)
    assert set(values) <= set(metrics), "values of metrics that there are not"
    assert {i for column in values.values() for i in column} <= {i["id"] for i in scored}
    means = {key: sum(column.values()) / len(column) for key, column in values.items()}
    off = {k: (m, metrics[k].value) for k, m in means.items() if abs(m - metrics[k].value) > 1e-9 * max(1.0, abs(m))}
    assert off == {}, "(mean of the items' values, metric)"


@functools.cache
def _uniform(sample: Sample) -> Measured:
    return measure(sample.task(), UniformModel(), sample.utterances(), sample.options())


class TaskContract:
    """What every task by likelihood keeps. Subclass it, set `name`, and let pytest collect the subclass.

    Attributes:
        name: the task's registered name, or `path/to/file.py:TASK`.
        settings: options it is tried with, as after `--set <task>.`: `("num_candidates=4",)`.
        corpus: a corpus that has what the task needs.
        split: of the corpus.
        num_utterances: the first so many are asked; few, so that the contract is fast.
    """

    name: str
    settings: tuple[str, ...] = ()
    corpus: str = "demo"
    split: str = "test"
    num_utterances: int = 12

    def truth(self, examples: Sequence[Any]) -> Iterable[tuple[Prompt, Segment]]:
        """Prompts with their true continuations: what a perfect model knows."""
        return ()

    def perfect(self) -> Mapping[str, float]:
        """Metrics with the values that they take for a model that knows the truth."""
        return {}

    @classmethod
    def sample(cls) -> Sample:
        """What the contract is tried on."""
        return Sample(cls.name, cls.settings, cls.corpus, cls.split, cls.num_utterances)

    @classmethod
    def examples(cls, *, limit: int | None = None, seed: int = 0) -> Sequence[Any]:
        """The task's examples of the sample."""
        sample = cls.sample()
        return sample.task().examples(sample.utterances(), sample.options(), limit=limit, seed=seed)

    def test_info_is_complete(self) -> None:
        """Name, version, description, source; headline and figures name metrics of the task."""
        _check_info(self.sample().task().info, _uniform(self.sample()).metrics)

    def test_options_are_a_frozen_strict_record_with_defaults(self) -> None:
        """`--set` can name every field, no other, and nothing is required."""
        _check_options(self.sample().task().Options, self.name)

    def test_examples_follow_from_the_seed(self) -> None:
        """The same seed draws the same examples, no more than asked for, each with an id of its own."""
        limit = max(2, len(self.examples()) - 2)
        examples = self.examples(limit=limit, seed=3)
        assert 0 < len(examples) <= limit
        assert plain(examples) == plain(self.examples(limit=limit, seed=3))
        assert _repeated(e.id for e in examples) == []

    def test_requests_are_well_formed(self) -> None:
        """Ids are unique, choices lie in the pool, prompt and pool have the modalities they are said to have."""
        sample = self.sample()
        requests = sample.task().requests(self.examples(), sample.options(), modalities=_BOTH)
        assert _repeated(r.id for r in requests) == []
        for request in requests:
            assert request.chosen, f"{request.id} asks for nothing"
            assert 0 <= min(request.chosen) <= max(request.chosen) < len(request.pool), request.id
            assert {s.modality for s in request.pool} == {request.target}, request.id
            assert not request.prompt or request.prompt[0].modality == request.source, request.id

    def test_a_model_of_one_modality_is_asked_for_that_alone(self) -> None:
        """Or the task says that it has nothing to ask of such a model."""
        sample = self.sample()
        for modality in sorted(_BOTH):
            try:
                requests = sample.task().requests(self.examples(), sample.options(), modalities=frozenset({modality}))
            except InputError:
                continue
            spoken = {s.modality for r in requests for s in (*r.prompt, *r.pool)}
            assert spoken | {r.target for r in requests} == {modality}

    def test_items_are_records_with_ids_of_their_own(self) -> None:
        """They go to JSON and come back the same."""
        items = _uniform(self.sample()).items
        assert items
        assert _repeated(i["id"] for i in items) == []
        assert json.loads(json.dumps(items, allow_nan=False)) == plain(items)

    def test_what_cannot_be_scored_fails_and_says_why(self) -> None:
        """It is not dropped, not 0 and not NaN."""
        sample, examples = self.sample(), self.examples()
        task, options = sample.task(), sample.options()
        requests = task.requests(examples, options, modalities=_BOTH)
        items = task.score(examples, options, {r.id: Unscorable("too long, it was") for r in requests})
        assert {i["id"] for i in items} == {i["id"] for i in _uniform(self.sample()).items}
        assert {i.get("failed") for i in items} == {"too long, it was"}

    def test_what_a_model_cannot_read_fails_and_says_why(self) -> None:
        """A sequence longer than the model takes is no wrong answer."""
        sample = self.sample()
        task, options, examples = sample.task(), sample.options(), self.examples()
        requests = task.requests(examples, options, modalities=_BOTH)
        answers = {r.id: a for r, a in Scorer(UniformModel(max_length=1)).answer(requests)}
        assert [i["id"] for i in task.score(examples, options, answers) if not i.get("failed")] == []

    def test_metric_keys_name_task_condition_and_metric(self) -> None:
        """In letters, digits, `_` and `.`, which every tracker takes."""
        keys = list(_uniform(self.sample()).metrics)
        assert keys
        task = self.sample().task().info.name
        assert [k for k in keys if not (_METRIC_KEY.fullmatch(k) and k.startswith(f"{task}."))] == []

    def test_values_of_items_average_to_their_metrics(self) -> None:
        """Where the task says what items add to a metric, the metric is their mean."""
        sample = self.sample()
        measured = _uniform(sample)
        _check_item_values(sample.task(), sample.options(), measured.items, measured.metrics)

    def test_the_order_of_utterances_changes_no_number(self) -> None:
        """Neither of an item nor of a metric."""
        sample = self.sample()
        usual = _uniform(sample)
        corpus = sample.utterances()
        turned = replace(corpus, utterances=corpus.utterances[::-1])
        other = measure(sample.task(), UniformModel(), turned, sample.options())
        assert {i["id"] for i in other.items} == {i["id"] for i in usual.items}
        assert list(other.metrics) == list(usual.metrics)
        for key, metric in usual.metrics.items():
            assert abs(other.metrics[key].value - metric.value) <= 1e-9 * max(1.0, abs(metric.value)), key

    def test_another_process_finds_the_same_numbers(self) -> None:
        """Nothing hangs on hashing, on the clock or on what ran before."""
        sample = self.sample()
        assert sample.fingerprint_elsewhere() == sample.fingerprint()

    def test_a_uniform_model_is_at_chance(self) -> None:
        """Every metric with a chance level has it inside its interval, or equals it."""
        metrics = {k: m for k, m in _uniform(self.sample()).metrics.items() if m.chance is not None}
        assert metrics, "no metric states its chance level"
        away = {k: m for k, m in metrics.items() if not _holds(m, m.chance or 0.0)}
        assert away == {}, "a model without ability is not at chance"

    def test_a_model_that_knows_the_truth_is_perfect(self) -> None:
        """Every metric in `perfect` takes its value."""
        expected, sample = self.perfect(), self.sample()
        if not expected:
            return
        oracle = OracleModel(self.truth(self.examples()))
        metrics = measure(sample.task(), oracle, sample.utterances(), sample.options()).metrics
        found = {key: metrics[key].value for key in expected}
        assert {k: v for k, v in found.items() if abs(v - expected[k]) > 1e-6} == {}, f"expected {expected}"


@functools.cache
def _procedure(name: str, settings: tuple[str, ...], model: str, corpus: str, split: str, limit: int) -> TaskResult:
    config = RunConfig((name,), corpus, split, limit=limit, settings=_settings(name, settings))
    return next(iter(evaluate(load_model(model), config).tasks.values()))


def _settings(name: str, settings: tuple[str, ...]) -> dict[str, Any]:
    return {task_registry().load(name).info.name: parse_settings(settings)}


class ProcedureContract:
    """What every procedure keeps. Subclass it, set `name`, and let pytest collect the subclass.

    Attributes:
        name: the task's registered name, or `path/to/file.py:TASK`.
        settings: options it is tried with, as after `--set <task>.`; cheap ones, so that the contract is fast.
        model: the card that it is run on.
        corpus: a corpus that has what the task needs.
        split: of the corpus.
        limit: items asked for.
    """

    name: str
    settings: tuple[str, ...] = ()
    model: str = "sutlm-tiny"
    corpus: str = "demo"
    split: str = "test"
    limit: int = 6

    def result(self) -> TaskResult:
        """What the task says of the model, computed once."""
        return _procedure(self.name, self.settings, self.model, self.corpus, self.split, self.limit)

    def again(self, **changes: Any) -> TaskResult:
        """The same, computed anew, with operational changes to the run or a store."""
        store, progress = changes.pop("store", None), changes.pop("progress", None)
        settings = _settings(self.name, self.settings)
        config = RunConfig((self.name,), self.corpus, self.split, limit=self.limit, settings=settings, **changes)
        found = evaluate(load_model(self.model), config, store=store, progress=progress)
        return next(iter(found.tasks.values()))

    def test_info_and_options(self) -> None:
        """As for tasks by likelihood."""
        task = task_registry().load(self.name)
        assert isinstance(task, Procedure)
        _check_info(task.info, self.result().metrics)
        _check_options(task.Options, self.name)

    def test_items_are_records_with_ids_of_their_own(self) -> None:
        """They go to JSON and come back the same."""
        items = self.result().items
        assert items
        assert _repeated(i["id"] for i in items) == []
        assert json.loads(json.dumps(items, allow_nan=False)) == plain(items)

    def test_metric_keys_name_task_condition_and_metric(self) -> None:
        """In letters, digits, `_` and `.`, which every tracker takes."""
        result = self.result()
        keys = list(result.metrics)
        assert keys
        assert [k for k in keys if not (_METRIC_KEY.fullmatch(k) and k.startswith(f"{result.task}."))] == []

    def test_values_of_items_average_to_their_metrics(self) -> None:
        """As for tasks by likelihood."""
        task = task_registry().load(self.name)
        options: Any = build(task.Options, parse_settings(self.settings), where=self.name)
        _check_item_values(task, options, self.result().items, self.result().metrics)

    def test_a_stopped_run_goes_on_and_ends_with_the_same_record(self, tmp_path: Path) -> None:
        """Whatever was found before is used, nothing is lost, and the batch size changes no number."""
        with RowStore(tmp_path / "rows.sqlite3") as store:
            told: list[tuple[str, int, int]] = []

            def stop(what: str, done: int, total: int) -> None:
                told.append((what, done, total))
                if len(told) == 2:
                    raise KeyboardInterrupt

            if _refuses(lambda: self.again(store=store, progress=stop), KeyboardInterrupt):
                store.commit()
                assert store.entries(), "nothing was kept of a stopped run"
            again = self.again(store=store, batch_tokens=512)
        assert plain(again.items) == plain(self.result().items)
        assert again.metrics == self.result().metrics


def _holds(metric: Metric, value: float) -> bool:
    low, high = metric.ci95 or (metric.value, metric.value)
    return low - 1e-9 <= value <= high + 1e-9 or abs(metric.value - value) <= 1e-9


def _repeated(ids: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]


def _refuses(call: Callable[[], object], *errors: type[BaseException]) -> bool:
    try:
        call()
    except errors:
        return True
    return False


@dataclass(frozen=True)
class Row:
    """A continuation under its context, as token ids."""

    context: list[int]
    continuation: list[int]

    @property
    def ids(self) -> list[int]:
        """Both, in order."""
        return self.context + self.continuation


class ModelContract:
    """What every model keeps. Subclass it, set `card`, and let pytest collect the subclass.

    Attributes:
        card: a registered model or the path of a card; or override `load`.
        texts: whole words that the model's text tokenizer knows.
        corpus: where speech is taken from, for models that take speech.
        split: of the corpus.
    """

    card: str | Path
    texts: ClassVar[tuple[str, str, str]] = ("the train was late", "and nobody knew why", "we went home")
    corpus: str = "demo"
    split: str = "test"
    _shared: ClassVar[Model]

    @classmethod
    def load(cls) -> Model:
        """A fresh instance of the model."""
        return load_model(str(cls.card))

    @classmethod
    def model(cls) -> Model:
        """The instance that the tests share."""
        if "_shared" not in vars(cls):
            cls._shared = cls.load()
        return cls._shared

    @classmethod
    def segments(cls, modality: Modality) -> list[Segment]:
        """Three things to say: the texts, or the first second of three utterances."""
        if modality == "text":
            return [Text(text) for text in cls.texts]
        corpus = open_corpus(cls.corpus, cls.split)
        return [Speech(AudioSpan(corpus.audio_path(u), 0.0, 1.0)) for u in corpus.utterances[:3]]

    @classmethod
    def rows(cls) -> list[Row]:
        """Two continuations after a prompt and one without, in every direction that the model knows."""
        model, out = cls.model(), []
        for source, target in (modalities_of(d) for d in DIRECTIONS):
            if {source, target} <= model.modalities:
                first = cls.segments(source)[0]
                _, second, third = cls.segments(target)
                model.prepare([first, second, third])
                context, prior = model.encode_prompt((first,), target), model.encode_prior(source, target)
                second_ids, third_ids = model.encode_continuation(second), model.encode_continuation(third)
                out += [Row(context, second_ids), Row(context, third_ids), Row(prior, third_ids)]
        return out

    def test_it_says_what_it_is(self) -> None:
        """Card, modalities and length are stated."""
        model = self.model()
        assert isinstance(model.card, ModelCard)
        assert set() < model.modalities <= _BOTH
        assert model.max_length > 0

    def test_it_says_what_continuations_are_made_of(self) -> None:
        """Ascending ids of each modality it takes, its own tokens among them, the end token not."""
        model = self.model()
        modalities: tuple[Modality, ...] = ("speech", "text")
        tokens = {m: list(model.tokens_of(m)) for m in modalities}
        for modality, ids in tokens.items():
            assert bool(ids) == (modality in model.modalities)
            assert ids == sorted(set(ids))
            assert model.end not in ids
        assert not set(tokens["speech"]) & set(tokens["text"])
        for modality in model.modalities:
            for segment in self.segments(modality):
                assert set(model.encode_continuation(segment)) <= set(tokens[modality])

    def test_the_fingerprint_is_the_same_at_every_load(self) -> None:
        """Else no result could be found again."""
        assert self.model().fingerprint
        assert self.load().fingerprint == self.model().fingerprint

    def test_what_is_said_becomes_tokens_within_its_length(self) -> None:
        """Prompt and continuation together; neither is empty."""
        for row in self.rows():
            assert row.context, "the first token needs something to be predicted from"
            assert row.continuation
            assert len(row.ids) <= self.model().max_length

    def test_the_prior_is_the_context_without_the_prompt(self) -> None:
        """It starts as prompts do, and ends as they do where the modality changes."""
        model = self.model()
        for source, target in (modalities_of(d) for d in DIRECTIONS):
            if {source, target} <= model.modalities:
                prior = model.encode_prior(source, target)
                context = model.encode_prompt((self.segments(source)[0],), target)
                assert context[0] == prior[0]
                assert len(context) > len(prior)
                assert source == target or context[-1] == prior[-1], f"{source} → {target} ends in no switch"

    def test_text_comes_back_from_its_tokens(self) -> None:
        """`decode` undoes `encode_continuation`."""
        model = self.model()
        if "text" not in model.modalities:
            return
        for segment in self.segments("text"):
            assert model.decode(model.encode_continuation(segment)) == (segment,)

    def test_units_come_back_from_their_tokens(self) -> None:
        """But for how long each lasted."""
        model = self.model()
        if "speech" not in model.modalities:
            return
        ids = model.encode_continuation(self.segments("speech")[0])
        (segment,) = model.decode(ids)
        assert isinstance(segment, Speech)
        assert model.encode_continuation(segment) == ids

    def test_states_and_logits_have_their_shapes(self) -> None:
        """`(batch, time, width)` and `(…, vocabulary)`, with every id inside the vocabulary."""
        model, rows = self.model(), self.rows()[:2]
        ids, lengths = _padded(model, [r.ids for r in rows])
        states = model.forward(ids, lengths=lengths).states
        assert states.shape[:2] == ids.shape
        logits = model.logits(states)
        assert logits.shape[:-1] == ids.shape
        assert logits.shape[-1] > int(ids.max())
        assert torch.isfinite(logits[0, : lengths[0]]).all()

    def test_likelihoods_do_not_depend_on_the_batch(self) -> None:
        """Neither on padding nor on what else is in it, to 1e-4."""
        rows = self.rows()
        alone = [_loglikelihoods(self.model(), [row])[0] for row in rows]
        _assert_close(_loglikelihoods(self.model(), rows), alone)
        assert max(alone) <= 1e-4, "a loglikelihood is at most 0"

    def test_likelihoods_do_not_depend_on_what_padding_holds(self) -> None:
        """Padding is told by `lengths`, not by an id."""
        rows = self.rows()
        _assert_close(_loglikelihoods(self.model(), rows, padding=1), _loglikelihoods(self.model(), rows))

    def test_the_future_does_not_reach_back(self) -> None:
        """Logits before a token are the same whatever the token is."""
        model, row = self.model(), self.rows()[0]
        ids = torch.tensor([row.ids], device=model.device)
        changed = ids.clone()
        changed[0, -1] = row.ids[0]
        before, after = (model.logits(model.forward(i).states)[0, :-1].float() for i in (ids, changed))
        assert torch.allclose(before, after, atol=1e-4)

    def test_going_on_from_what_was_kept_changes_nothing(self) -> None:
        """A prompt first and its continuation after, or both at once."""
        model, row = self.model(), self.rows()[0]
        ids = torch.tensor([row.ids], device=model.device)
        at = len(row.context)
        with torch.inference_mode():
            whole = model.logits(model.forward(ids).states)[0, at:].float()
            past = model.forward(ids[:, :at], keep=True).past
            rest = model.logits(model.forward(ids[:, at:], past=past).states)[0].float()
        assert torch.allclose(whole, rest, atol=1e-4)

    def test_rows_go_on_each_at_its_own_length(self) -> None:
        """Padding in what was kept is seen by nothing, and rows can leave; or `past` has no `select`."""
        model, rows = self.model(), self.rows()[:3]
        sequences = [row.ids[: len(row.context) + place] for place, row in enumerate(rows)]
        ids, lengths = _padded(model, sequences)
        with torch.inference_mode():
            past = model.forward(ids, lengths=lengths, keep=True).past
            if not hasattr(past, "select") or isinstance(past, Tensor):
                return
            chosen = list(range(len(rows)))[::-2]
            past = past.select(torch.tensor(chosen, device=model.device))
            for added in ([rows[0].ids[-1]], [rows[0].ids[-1], rows[0].ids[0]]):
                last = torch.tensor([added[-1:]] * len(chosen), device=model.device)
                hidden = model.forward(last, past=past, keep=True)
                past = hidden.past
                for place, state in zip(chosen, hidden.states, strict=True):
                    whole = model.forward(torch.tensor([sequences[place] + added], device=model.device)).states
                    expected, found = model.logits(whole[0, -1]).float(), model.logits(state[-1]).float()
                    assert torch.allclose(expected, found, atol=1e-4), f"row {place} after {len(added)} tokens"

    def test_a_generator_says_the_same_in_any_batch(self) -> None:
        """And only what it may say."""
        model = self.model()
        for target in sorted(model.modalities):
            asked = [Continue(f"{i}", (s,), target, 4 + i) for i, s in enumerate(self.segments(target))]
            alone, together = (
                {r.id: g.ids for r, g in Generator(model, sampling=Sampling(), seed=0, batch_tokens=n).generate(asked)}
                for n in (1, 8192)
            )
            assert alone == together
            assert {i for ids in alone.values() for i in ids} <= set(model.tokens_of(target))

    def test_a_scorer_finds_the_same_likelihoods(self) -> None:
        """Whatever it shares between candidates."""
        model = self.model()
        for source, target in (modalities_of(d) for d in DIRECTIONS):
            if {source, target} <= model.modalities:
                _assert_close(*_scored_and_plain(model, self.segments(source)[0], tuple(self.segments(target))))

    def test_units_of_another_system_are_refused(self) -> None:
        """So is speech by a model that takes none."""
        stranger = Speech(units=UnitSpan((0, 1), (1, 1), 50.0, "the units of somebody else"))
        expected = UnitSystemError if "speech" in self.model().modalities else InputError
        assert _refuses(lambda: self.model().encode_continuation(stranger), expected)


def _scored_and_plain(model: Model, prompt: Segment, pool: tuple[Segment, ...]) -> tuple[list[float], list[float]]:
    target = pool[0].modality
    request = Request("r", (prompt,), prompt.modality, target, pool, tuple(range(len(pool))))
    [(_, answer)] = Scorer(model).answer([request])
    assert isinstance(answer, Loglikelihoods), answer
    context = model.encode_prompt((prompt,), target)
    plainly = _loglikelihoods(model, [Row(context, model.encode_continuation(s)) for s in pool])
    return [float(v) for v in answer.values], plainly


def _assert_close(found: Sequence[float], expected: Sequence[float]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert abs(a - b) <= 1e-4 * max(1.0, abs(b)), f"{a} nats, alone {b}"


def _padded(model: Model, sequences: Sequence[Sequence[int]], padding: int = 0) -> tuple[Tensor, Tensor]:
    lengths = [len(s) for s in sequences]
    rows = [[*s, *[padding] * (max(lengths) - len(s))] for s in sequences]
    return torch.tensor(rows, device=model.device), torch.tensor(lengths, device=model.device)


@torch.inference_mode()
def _loglikelihoods(model: Model, rows: Sequence[Row], *, padding: int = 0) -> list[float]:
    ids, lengths = _padded(model, [r.ids for r in rows], padding)
    logprobs = model.logits(model.forward(ids, lengths=lengths).states).float().log_softmax(-1)
    out = []
    for line, row in zip(logprobs, rows, strict=True):
        places = range(len(row.context) - 1, len(row.ids) - 1)
        out.append(sum(float(line[place, token]) for place, token in zip(places, row.continuation, strict=True)))
    return out
