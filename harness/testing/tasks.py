"""The contract of tasks by likelihood, and what it is tried on."""
# ruff: noqa: S101 - assertions are what this module is for.

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.config import build, digest, parse_settings, plain
from harness.corpora.corpus import Corpus, open_corpus
from harness.engine.scoring import Scorer
from harness.errors import InputError
from harness.model import Model
from harness.results import Item, Metric
from harness.segments import (
    Prompt,
    Segment,
)
from harness.task import (
    ExampleT,
    OptionsT,
    Procedure,
    Task,
    Unscorable,
    task_registry,
)
from harness.testing._checks import (
    METRIC_KEY,
    check_figures,
    check_info,
    check_item_values,
    check_options,
    holds,
    repeated,
)
from harness.testing.models import BOTH, OracleModel, UniformModel


@dataclass(frozen=True)
class Measured:
    """Items and metrics of one task on one model."""

    items: list[Item]
    metrics: dict[str, Metric]


def measure(
    task: Task[OptionsT, ExampleT], model: Model, corpus: Corpus, options: OptionsT, *, seed: int = 0
) -> Measured:
    """Every example of a corpus held in memory, without the bookkeeping of a run.

    Raises:
        InputError: as the task does.
    """
    examples = task.examples(corpus, options, limit=None, seed=seed)
    requests = task.requests(examples, options, modalities=model.modalities)
    answers = {request.id: answer for request, answer in Scorer(model).answer(requests)}
    items = task.score(examples, options, answers)
    return Measured(items, task.summarize([i for i in items if i.failed is None], options, seed=seed))


@dataclass(frozen=True)
class Sample:
    """What a task contract is tried on: a task by name, some options and the first utterances of a corpus split."""

    name: str
    settings: tuple[str, ...]
    corpus: str
    split: str
    num_utterances: int

    def task(self) -> Task[Any, Any]:
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
        code = "from harness.testing import Sample; print(Sample(**json.loads(sys.argv[1])).fingerprint())"
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
        check_info(self.sample().task().info, _uniform(self.sample()).metrics)

    def test_options_are_a_frozen_strict_record_with_defaults(self) -> None:
        """`--set` can name every field, no other, and nothing is required."""
        check_options(self.sample().task().Options, self.name)

    def test_examples_follow_from_the_seed(self) -> None:
        """The same seed draws the same examples, no more than asked for, each with an id of its own."""
        limit = max(2, len(self.examples()) - 2)
        examples = self.examples(limit=limit, seed=3)
        assert 0 < len(examples) <= limit
        assert plain(examples) == plain(self.examples(limit=limit, seed=3))
        assert repeated(e.id for e in examples) == []

    def test_requests_are_well_formed(self) -> None:
        """Ids are unique, choices lie in the pool, prompt and pool have the modalities they are said to have."""
        sample = self.sample()
        requests = sample.task().requests(self.examples(), sample.options(), modalities=BOTH)
        assert repeated(r.id for r in requests) == []
        for request in requests:
            assert request.chosen, f"{request.id} asks for nothing"
            assert 0 <= min(request.chosen) <= max(request.chosen) < len(request.pool), request.id
            assert {s.modality for s in request.pool} == {request.target}, request.id
            assert not request.prompt or request.prompt[0].modality == request.source, request.id

    def test_a_model_of_one_modality_is_asked_for_that_alone(self) -> None:
        """Or the task says that it has nothing to ask of such a model."""
        sample = self.sample()
        for modality in sorted(BOTH):
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
        assert repeated(i.id for i in items) == []
        lines = [json.dumps(item.data(), allow_nan=False) for item in items]
        assert plain([Item.of(json.loads(line), where="item") for line in lines]) == plain(items)

    def test_what_cannot_be_scored_fails_and_says_why(self) -> None:
        """It is not dropped, not 0 and not NaN."""
        sample, examples = self.sample(), self.examples()
        task, options = sample.task(), sample.options()
        requests = task.requests(examples, options, modalities=BOTH)
        items = task.score(examples, options, {r.id: Unscorable("too long, it was") for r in requests})
        assert {i.id for i in items} == {i.id for i in _uniform(self.sample()).items}
        assert {i.failed for i in items} == {"too long, it was"}

    def test_what_a_model_cannot_read_fails_and_says_why(self) -> None:
        """A sequence longer than the model takes is not a wrong answer."""
        sample = self.sample()
        task, options, examples = sample.task(), sample.options(), self.examples()
        requests = task.requests(examples, options, modalities=BOTH)
        answers = {r.id: a for r, a in Scorer(UniformModel(max_length=1)).answer(requests)}
        assert [i.id for i in task.score(examples, options, answers) if not i.failed] == []

    def test_metric_keys_name_task_condition_and_metric(self) -> None:
        """In letters, digits, `_` and `.`, which every tracker takes."""
        keys = list(_uniform(self.sample()).metrics)
        assert keys
        task = self.sample().task().info.name
        assert [k for k in keys if not (METRIC_KEY.fullmatch(k) and k.startswith(f"{task}."))] == []

    def test_values_of_items_average_to_their_metrics(self) -> None:
        """Where the task says what items add to a metric, the metric is their mean."""
        sample = self.sample()
        measured = _uniform(sample)
        check_item_values(sample.task(), sample.options(), measured.items, measured.metrics)

    def test_figures_have_names_of_their_own_and_show_metrics_of_the_task(self) -> None:
        """Where the task draws any."""
        measured = _uniform(self.sample())
        check_figures(self.sample().task(), measured.items, measured.metrics)

    def test_the_order_of_utterances_changes_no_number(self) -> None:
        """Neither of an item nor of a metric."""
        sample = self.sample()
        usual = _uniform(sample)
        corpus = sample.utterances()
        turned = replace(corpus, utterances=corpus.utterances[::-1])
        other = measure(sample.task(), UniformModel(), turned, sample.options())
        assert {i.id for i in other.items} == {i.id for i in usual.items}
        assert list(other.metrics) == list(usual.metrics)
        for key, metric in usual.metrics.items():
            assert abs(other.metrics[key].value - metric.value) <= 1e-9 * max(1.0, abs(metric.value)), key

    def test_another_process_finds_the_same_numbers(self) -> None:
        """Nothing depends on hashing, on the clock or on what ran before."""
        sample = self.sample()
        assert sample.fingerprint_elsewhere() == sample.fingerprint()

    def test_a_uniform_model_is_at_chance(self) -> None:
        """Every metric with a chance level has it inside its interval, or equals it."""
        metrics = {k: m for k, m in _uniform(self.sample()).metrics.items() if m.chance is not None}
        assert metrics, "no metric states its chance level"
        away = {k: m for k, m in metrics.items() if not holds(m, m.chance or 0.0)}
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
