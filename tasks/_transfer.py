"""Transfer between modalities: fine-tune on speech, on text or on both, test on speech and on text.

What SLUE-SA and SLUE-NER share: which trainings there are and how the learning rate is chosen, the cells of the
matrix, the cascade and majority baselines, intervals. See docs/metrics.md, "SLUE transfer matrix".
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from harness.config import digest
from harness.corpora.corpus import Corpus
from harness.corpora.manifest import Utterance
from harness.engine.finetune import choose, drop_weights, load_fine_tuned
from harness.engine.finetune_config import FineTuning, TrainingExample, fine_tuning_digest
from harness.engine.finetuned_model import FineTunedModel, task_tokens
from harness.errors import CorpusError, OptionError
from harness.figures import Figure, HeatMap
from harness.model import Model
from harness.results import Item, Metric
from harness.segments import AudioSpan, Segment, Speech, Text
from harness.task import Session, TaskInfo

from ._cells import CellPredictions, Statistic, grouped, is_trained
from ._transfer_cascade import transcriber_of, transcripts_of
from ._transfer_examples import (
    Cell,
    Training,
    TransferExample,
    TransferPlan,
    permuted,
    records_of,
    train_split,
)
from ._transfer_metrics import cell_metrics, comparisons, linearized_values, matrix, score_values
from ._transfer_options import MODALITIES, TrainOn, TransferOptions
from ._transfer_text import utterance_ids

_END = "<end>"

OptionsT = TypeVar("OptionsT", bound=TransferOptions)


class TransferTask(ABC, Generic[OptionsT]):
    """The procedure of both tasks; a task says what its labels are and how they are learned, predicted and counted."""

    info: TaskInfo
    Options: type[OptionsT]
    #: Statistics of summed `columns` `(…, m)`, in per cent, by metric; the first is the headline.
    statistics: ClassVar[Mapping[str, Statistic]]
    #: Those with an interval.
    with_interval: ClassVar[frozenset[str]]
    #: What the mean of `score` is called.
    score_name: ClassVar[str]
    #: The token after which a prediction follows, and others that are added.
    task_token: ClassVar[str]
    more_tokens: ClassVar[tuple[str, ...]] = ()

    # --- what a task says ---------------------------------------------------------------------------------------------

    @abstractmethod
    def check(self, model: Model, options: OptionsT) -> None:
        """Refuses what the model or the options cannot do."""

    @abstractmethod
    def gold(self, utterance: Utterance) -> Any:
        """The label of an utterance as JSON values; None where it has none."""

    @abstractmethod
    def num_classes(self, options: OptionsT) -> int:
        """Outputs of the classification head; 0 for none."""

    @abstractmethod
    def training_example(
        self, model: Model, tokens: Mapping[str, int], segment: Segment, gold: Any, options: OptionsT
    ) -> TrainingExample:
        """What is learned of an utterance in one modality."""

    @abstractmethod
    def predict(
        self,
        tuned: FineTunedModel,
        segments: Mapping[str, Segment],
        options: OptionsT,
        *,
        longest: int,
        batch_tokens: int,
    ) -> Iterator[tuple[str, Any]]:
        """Predictions as JSON values by id; `longest` is the number of targets of the longest training example."""

    @abstractmethod
    def majority(self, golds: Sequence[Any]) -> Any:
        """What to predict of every utterance when nothing but the training labels is known."""

    @abstractmethod
    def columns(self, predicted: Any, gold: Any) -> list[float]:
        """Counts of one utterance, whose sums `statistics` are of."""

    @abstractmethod
    def score(self, predicted: Any, gold: Any) -> float:
        """The utterance's own score in per cent, higher is better."""

    def tokens(self, model: Model) -> tuple[str, ...]:
        """Names of the tokens to add; an end token among them for models without one."""
        return (self.task_token, *self.more_tokens, *(() if model.end is not None else (_END,)))

    def end(self, model: Model, tokens: Mapping[str, int]) -> int:
        """The token that ends a written answer."""
        return tokens[_END] if model.end is None else model.end

    def context(self, model: Model, tokens: Mapping[str, int], segment: Segment) -> list[int]:
        """What is read of an utterance before anything is predicted; it ends alike in both modalities."""
        return [*utterance_ids(model, segment), tokens[self.task_token]]

    def weights(self, golds: Sequence[Any], options: OptionsT) -> list[float]:
        """Weight in the loss of each training utterance."""
        return [1.0] * len(golds)

    def needed(self, tuned: FineTunedModel, segment: Segment, options: OptionsT, longest: int) -> int:
        """Tokens that the utterance and what is predicted of it may take together."""
        return len(self.context(tuned, tuned.tokens, segment)) + longest

    # --- the procedure ------------------------------------------------------------------------------------------------

    def plan(self, session: Session, options: OptionsT) -> TransferPlan:
        """Which utterances are trained, validated and tested on.

        Raises:
            OptionError: if the model cannot do what is asked, or the test split is one that is trained on.
            CorpusError: if utterances have no labels.
        """
        self.check(session.model, options)
        corpora = {"train": train_split(session), "dev": session.split("dev")}
        if session.corpus.split in (corpora["train"].split, "dev"):
            raise OptionError(
                f"{self.info.name} trains on '{corpora['train'].split}' and stops by 'dev'; test on another split "
                f"than '{session.corpus.split}'."
            )
        known = session.model.modalities
        train_on = tuple(c for c in options.train_on if (known >= set(MODALITIES) if c == "both" else c in known))
        test_on = tuple(m for m in options.test_on if m in known)
        if not train_on or not test_on:
            raise OptionError(
                f"A model of {' and '.join(sorted(known))} cannot be trained on {', '.join(options.train_on)} and "
                f"tested on {', '.join(options.test_on)}."
            )
        train = self._examples(corpora["train"], options.train_utterances, session.seed)
        dev = self._examples(corpora["dev"], options.dev_utterances, session.seed)
        test = self._examples(session.corpus, session.limit, session.seed)
        if options.control == "shuffled_labels":
            train, dev = permuted(train, session.seed), permuted(dev, session.seed)
        transcriber = transcriber_of(session, options, test_on, train_on)
        return TransferPlan(
            examples=test,
            protocol={
                "train_corpus_digest": corpora["train"].digest,
                "dev_corpus_digest": corpora["dev"].digest,
                "train_examples": digest([e.id for e in train]),
                "dev_examples": digest([e.id for e in dev]),
                "transcriber": transcriber.fingerprint if transcriber else None,
            },
            signature={"cascade": f"{transcriber.card.name}@{transcriber.fingerprint[:4]}" if transcriber else "none"},
            train=train,
            dev=dev,
            train_on=train_on,
            test_on=test_on,
        )

    def run(self, session: Session, plan: TransferPlan, options: OptionsT) -> list[Item]:
        """Trainings, then one record per utterance, cell and seed; then those of the baselines."""
        test = plan.examples
        session.model.prepare([e.segments[m] for m in plan.test_on for e in test])
        trainings = self._train(session, plan, options)
        inputs = {m: {e.id: e.segments[m] for e in test} for m in plan.test_on}
        transcripts = transcripts_of(session, plan, options)
        items = [training.item() for training in trainings]
        cells = [Cell(f"train_{t.condition}.test_{m}", t, inputs[m]) for t in trainings for m in plan.test_on]
        if transcripts:
            cells += [Cell("cascade.test_speech", t, transcripts) for t in trainings if t.condition == "text"]
        found = self._predictions(session, cells, options)
        by_id = {e.id: e for e in test}
        for cell in cells:
            for i in cell.inputs:
                extra = {"cell": cell.name, "seed": cell.training.seed, "utterance": i}
                item = Item(cell.request(i), group=by_id[i].speaker, extra=extra)
                items.append(self._answered(item, found[item.id], by_id[i], cell.inputs[i]))
        majority = self.majority([e.gold for e in plan.train])
        for e in test:
            extra = {"cell": "majority.test", "seed": 0, "utterance": e.id}
            item = Item(f"majority.test/{e.id}", group=e.speaker, extra=extra)
            items.append(self._answered(item, {"predicted": majority}, e, e.segments["text"]))
        return items

    def summarize(self, items: Sequence[Item], options: OptionsT, *, seed: int) -> dict[str, Metric]:
        """The matrix and its baselines: means over seeds, each with an interval over utterances and seeds."""
        metrics: dict[str, Metric] = {}
        for condition, rows in grouped([i for i in items if "best_loss" in i.scores], "condition").items():
            key, n = f"{self.info.name}.train_{condition}", len(rows)
            metrics[f"{key}.training.learning_rate"] = Metric(rows[0].scores["learning_rate"], n, None)
            metrics[f"{key}.training.dev_loss"] = Metric(
                float(np.mean([r.scores["best_loss"] for r in rows])), n, False
            )
        cells = {
            name: CellPredictions.of(rows, self.columns)
            for name, rows in grouped([i for i in items if "cell" in i.extra], "cell").items()
        }
        for name, table in cells.items():
            metrics |= cell_metrics(self, name, table, seed)
            if name != "majority.test":
                metrics |= comparisons(self, name, cells, seed)
        return metrics

    def item_values(self, items: Sequence[Item], options: OptionsT) -> dict[str, dict[str, float]]:
        """Of each cell the mean of the scores of utterances that all seeds answered."""
        return score_values(self, items)

    def linearized(self, items: Sequence[Item], options: OptionsT) -> dict[str, dict[str, float]]:
        """Of each cell the statistics with an interval that are no means, item by item."""
        return linearized_values(self, items)

    def replicate_of(self, item: Item) -> tuple[str, int] | None:
        """Utterance and training seed of a trained model's prediction."""
        cell = item.extra.get("cell", "")
        return (item.extra["utterance"], item.extra["seed"]) if is_trained(cell) else None

    def figures(self, items: Sequence[Item], metrics: Mapping[str, Metric]) -> list[Figure]:
        """The transfer matrix in the headline metric."""
        return [self.matrix_figure(next(iter(self.statistics)))]

    def matrix_figure(self, metric: str) -> HeatMap:
        """The transfer matrix in one metric."""
        title = f"{self.info.name}: {metric.replace('_', ' ')} by training and test"
        return HeatMap(name=f"transfer.{metric}", title=title, keys=matrix(self.info.name, metric))

    # --- steps --------------------------------------------------------------------------------------------------------

    def _examples(self, corpus: Corpus, number: int | None, seed: int) -> tuple[TransferExample, ...]:
        labeled = [(u, self.gold(u)) for u in sorted(corpus.utterances, key=lambda u: u.id)]
        if bare := [u.id for u, gold in labeled if gold is None]:
            raise CorpusError(
                f"{len(bare)} of {len(labeled)} utterances of {corpus.name}:{corpus.split}, such as '{bare[0]}', lack "
                f"the labels that {self.info.name} needs. Where labels are withheld (blind test sets), give another "
                "--split; else another --corpus."
            )
        if number is not None and number < len(labeled):
            draw = random.Random(f"{self.info.name} {corpus.split} {seed}")
            labeled = sorted(draw.sample(labeled, number), key=lambda pair: pair[0].id)
        return tuple(
            TransferExample(
                u.id, u.speaker, {"speech": Speech(AudioSpan(corpus.audio_path(u))), "text": Text(u.text)}, gold
            )
            for u, gold in labeled
        )

    def _train(self, session: Session, plan: TransferPlan, options: OptionsT) -> list[Training]:
        """Every condition with every seed, at the learning rate that was best with the first seed."""
        examples = {c: self._training_examples(session.model, plan, c, options) for c in plan.train_on}
        for condition, (train, _) in examples.items():
            if not train:
                raise CorpusError(f"No sequence to train on {condition} fits into {session.model.max_length} tokens.")

        def training(condition: TrainOn, rate: float, seed: int) -> Training:
            train, dev = examples[condition]
            recipe = options.recipe(rate)
            own = session.seed * options.seeds + seed
            job = FineTuning(self.tokens(session.model), self.num_classes(options), recipe, own, train, dev)
            return Training(condition, seed, job, fine_tuning_digest(session.model, job))

        rates = {c: [training(c, rate, 0) for rate in options.learning_rates] for c in plan.train_on}
        records = records_of(session, [t for tried in rates.values() for t in tried], "training")
        trainings = []
        for condition, tried in rates.items():
            best = choose([t.job for t in tried], [records[t.digest] for t in tried])
            for other in (t for t in tried if t is not tried[best]):
                drop_weights(session.model, other.job)
            rate = tried[best].job.config.learning_rate
            trainings += [tried[best], *(training(condition, rate, seed) for seed in range(1, options.seeds))]
        records |= records_of(session, [t for t in trainings if t.digest not in records], "training, more seeds")
        return [replace(t, record=records[t.digest]) for t in trainings]

    def _training_examples(
        self, model: Model, plan: TransferPlan, condition: TrainOn, options: OptionsT
    ) -> tuple[tuple[TrainingExample, ...], tuple[TrainingExample, ...]]:
        weights, tokens = self.weights([e.gold for e in plan.train], options), task_tokens(model, self.tokens(model))
        out = []
        for examples, weighed in ((plan.train, weights), (plan.dev, [1.0] * len(plan.dev))):
            # Of both, the modalities in turn: as many sequences, and steps, as of one.
            segments = [
                e.segments[MODALITIES[k % 2] if condition == "both" else condition] for k, e in enumerate(examples)
            ]
            model.prepare(segments)
            made = [
                replace(self.training_example(model, tokens, s, e.gold, options), weight=w)
                for s, e, w in zip(segments, examples, weighed, strict=True)
            ]
            out.append(tuple(example for example in made if len(example.ids) <= model.max_length))
        return out[0], out[1]

    def _predictions(self, session: Session, cells: Sequence[Cell], options: OptionsT) -> dict[str, Mapping[str, Any]]:
        asked = {
            cell.request(i): digest([cell.training.digest, i, segment.text if isinstance(segment, Text) else "speech"])
            for cell in cells
            for i, segment in cell.inputs.items()
        }

        def compute(ids: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
            wanted = set(ids)
            todo = [(cell, {i: s for i, s in cell.inputs.items() if cell.request(i) in wanted}) for cell in cells]
            for training in dict.fromkeys(cell.training for cell, own in todo if own):
                tuned = load_fine_tuned(session.model, training.job)
                longest = max(len(example.targets) for example in training.job.train)
                for cell, own in todo:
                    if cell.training == training and own:
                        yield from self._predict_cell(tuned, cell, own, options, longest, session.batch_tokens)

        return session.records(asked, compute, what="testing")

    def _predict_cell(
        self,
        tuned: FineTunedModel,
        cell: Cell,
        inputs: Mapping[str, Segment],
        options: OptionsT,
        longest: int,
        batch_tokens: int,
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        tuned.prepare(list(inputs.values()))
        lengths = {i: self.needed(tuned, s, options, longest) for i, s in inputs.items()}
        fitting = {i: s for i, s in inputs.items() if lengths[i] <= tuned.max_length}
        for i in lengths.keys() - fitting.keys():
            reason = f"input and answer take {lengths[i]} tokens, which is more than the model's {tuned.max_length}"
            yield cell.request(i), {"failed": reason}
        for i, predicted in self.predict(tuned, fitting, options, longest=longest, batch_tokens=batch_tokens):
            yield cell.request(i), {"predicted": predicted}

    def _answered(self, item: Item, found: Mapping[str, Any], example: TransferExample, segment: Segment) -> Item:
        """The item with what was read, the label, and either a prediction and its score or why there is none."""
        read = segment.text if isinstance(segment, Text) else None
        item = replace(item, prompt=read, reference=example.gold)
        if "failed" in found:
            return replace(item, failed=found["failed"])
        predicted = found["predicted"]
        return replace(item, output=predicted, scores={"score": self.score(predicted, example.gold)})
