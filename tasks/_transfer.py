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
from harness.engine.generation import Continue, Generator
from harness.engine.sampling import Sampling
from harness.errors import CorpusError, InputError
from harness.figures import Figure, HeatMap
from harness.model import Model
from harness.results import Item, Metric
from harness.segments import AudioSpan, Segment, Speech, Text
from harness.stats import bootstrap_ci
from harness.task import Session, TaskInfo

from ._cells import RESAMPLES, Floats, Statistic, Table, compare, grouped
from ._transfer_examples import Cell, Example, Training, TransferPlan, permuted, records_of, train_split, transcriber_of
from ._transfer_options import MODALITIES, TrainOn, TransferOptions
from ._transfer_text import text_of, utterance_ids

#: How often gold is dealt out anew to find what predictions reach that have nothing to do with their utterances.
_SHUFFLES = 20
#: A transcript has at most so many tokens for each token of speech, and so many more.
_TRANSCRIPT_SHARE, _TRANSCRIPT_MORE = 2, 16
_END = "<end>"

OptionsT = TypeVar("OptionsT", bound=TransferOptions)


class TransferTask(ABC, Generic[OptionsT]):
    """The procedure of both tasks; a task says what its labels are and how they are learned, told and counted."""

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
    def lesson(
        self, model: Model, tokens: Mapping[str, int], segment: Segment, gold: Any, options: OptionsT
    ) -> TrainingExample:
        """What is to be learned of an utterance in one modality."""

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
        """Predictions as JSON values by id; `longest` is the number of targets of the longest lesson."""

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
            InputError: if the model cannot do what is asked, or the test split is one that is trained on.
            CorpusError: if utterances have no labels.
        """
        self.check(session.model, options)
        corpora = {"train": train_split(session), "dev": session.split("dev")}
        if session.corpus.split in (corpora["train"].split, "dev"):
            raise InputError(
                f"{self.info.name} trains on '{corpora['train'].split}' and stops by 'dev'; test on another split "
                f"than '{session.corpus.split}'."
            )
        known = session.model.modalities
        train_on = tuple(c for c in options.train_on if (known >= set(MODALITIES) if c == "both" else c in known))
        test_on = tuple(m for m in options.test_on if m in known)
        if not train_on or not test_on:
            raise InputError(
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
            signature={"cascade": f"{options.transcriber}@{transcriber.fingerprint[:4]}" if transcriber else "none"},
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
        transcripts = self._transcripts(session, plan, options)
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
        """The matrix and its baselines: means over seeds, each with an interval over speakers and seeds."""
        metrics: dict[str, Metric] = {}
        for condition, rows in grouped([i for i in items if "best_loss" in i.scores], "condition").items():
            key, n = f"{self.info.name}.train_{condition}", len(rows)
            metrics[f"{key}.training.learning_rate"] = Metric(rows[0].scores["learning_rate"], n, None)
            metrics[f"{key}.training.dev_loss"] = Metric(
                float(np.mean([r.scores["best_loss"] for r in rows])), n, False
            )
        cells = {
            name: Table.of(rows, self.columns)
            for name, rows in grouped([i for i in items if "cell" in i.extra], "cell").items()
        }
        for name, table in cells.items():
            metrics |= self._cell_metrics(name, table, seed)
            if name != "majority.test":
                metrics |= self._compared(name, cells, seed)
        return metrics

    def item_values(self, items: Sequence[Item], options: OptionsT) -> dict[str, dict[str, float]]:
        """Of each cell the mean of the utterances' own scores."""
        cells = grouped([i for i in items if "cell" in i.extra], "cell")
        return {
            f"{self.info.name}.{name}.{self.score_name}": {i.id: float(i.scores["score"]) for i in rows}
            for name, rows in cells.items()
        }

    def figures(self, items: Sequence[Item], metrics: Mapping[str, Metric]) -> list[Figure]:
        """The transfer matrix in the headline metric."""
        return [self.matrix_figure(next(iter(self.statistics)))]

    def matrix_figure(self, metric: str) -> HeatMap:
        """The transfer matrix in one metric."""
        title = f"{self.info.name}: {metric.replace('_', ' ')} by training and test"
        return HeatMap(name=f"transfer.{metric}", title=title, keys=matrix(self.info.name, metric))

    # --- steps --------------------------------------------------------------------------------------------------------

    def _examples(self, corpus: Corpus, number: int | None, seed: int) -> tuple[Example, ...]:
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
            Example(u.id, u.speaker, {"speech": Speech(AudioSpan(corpus.audio_path(u))), "text": Text(u.text)}, gold)
            for u, gold in labeled
        )

    def _train(self, session: Session, plan: TransferPlan, options: OptionsT) -> list[Training]:
        """Every condition with every seed, at the learning rate that was best with the first seed."""
        lessons = {c: self._lessons(session.model, plan, c, options) for c in plan.train_on}
        for condition, (train, _) in lessons.items():
            if not train:
                raise InputError(f"No sequence to train on {condition} fits into {session.model.max_length} tokens.")

        def training(condition: TrainOn, rate: float, seed: int) -> Training:
            train, dev = lessons[condition]
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

    def _lessons(
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
                replace(self.lesson(model, tokens, s, e.gold, options), weight=w)
                for s, e, w in zip(segments, examples, weighed, strict=True)
            ]
            out.append(tuple(lesson for lesson in made if len(lesson.ids) <= model.max_length))
        return out[0], out[1]

    def _transcripts(self, session: Session, plan: TransferPlan, options: OptionsT) -> dict[str, Segment]:
        """What the transcriber hears in each test utterance; nothing where there is no cascade."""
        transcriber = transcriber_of(session, options, plan.test_on, plan.train_on)
        if transcriber is None:
            return {}
        speech = {e.id: e.segments["speech"] for e in plan.examples}
        asked = {f"transcript/{i}": digest([transcriber.fingerprint, i]) for i in speech}

        def compute(ids: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
            wanted = {i: speech[i.removeprefix("transcript/")] for i in ids}
            transcriber.prepare(list(wanted.values()))
            requests = [
                Continue(
                    i, (s,), "text", _TRANSCRIPT_SHARE * len(transcriber.encode_continuation(s)) + _TRANSCRIPT_MORE
                )
                for i, s in wanted.items()
            ]
            generator = Generator(
                transcriber, sampling=Sampling(temperature=0), seed=0, batch_tokens=session.batch_tokens
            )
            for request, generated in generator.generate(requests):
                yield request.id, {"text": text_of(generated.segments)}

        found = session.records(asked, compute, what="transcripts")
        return {i: Text(str(found[f"transcript/{i}"]["text"])) for i in speech}

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
                longest = max(len(lesson.targets) for lesson in training.job.train)
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

    def _answered(self, item: Item, found: Mapping[str, Any], example: Example, segment: Segment) -> Item:
        """The item with what was read, the label, and either a prediction and its score or why there is none."""
        read = segment.text if isinstance(segment, Text) else None
        item = replace(item, prompt=read, reference=example.gold)
        if "failed" in found:
            return replace(item, failed=found["failed"])
        predicted = found["predicted"]
        return replace(item, output=predicted, scores={"score": self.score(predicted, example.gold)})

    # --- statistics ---------------------------------------------------------------------------------------------------

    def _cell_metrics(self, cell: str, table: Table, seed: int) -> dict[str, Metric]:
        key, headline = f"{self.info.name}.{cell}", next(iter(self.statistics))
        learned = cell != "majority.test"
        shuffled = self._shuffled(table, seed) if learned else None
        out: dict[str, Metric] = {}
        for name, statistic in self.statistics.items():
            per_seed, out_key = statistic(table.sums), f"{key}.{name}"
            higher = None if name.startswith("confusion") else not name.startswith("unparsable")
            if name in self.with_interval:
                chance = None if shuffled is None else float(statistic(shuffled).mean())
                out[out_key] = compare([(table, statistic)], lambda mean: mean, seed, higher, (0.0, 100.0), chance)
            else:
                out[out_key] = Metric(float(per_seed.mean()), table.n, higher)
            if name == headline and len(per_seed) > 1:
                out[f"{out_key}_seed_std"] = Metric(float(per_seed.std(ddof=1)), len(per_seed), False)
            if name == headline and shuffled is not None:
                out[f"{out_key}_shuffled"] = Metric(float(statistic(shuffled).mean()), table.n, None)
        if self.score_name not in self.statistics:
            scores = [[self.score(p, g) for p, g in zip(row, table.gold, strict=True)] for row in table.predicted]
            interval = bootstrap_ci(
                np.mean(scores, axis=0), table.groups, seed=seed, num_resamples=RESAMPLES, support=(0.0, 100.0)
            )
            out[f"{key}.{self.score_name}"] = interval.metric(higher_is_better=True)
        return out

    def _shuffled(self, table: Table, seed: int) -> Floats:
        """Sums `(deals, seeds, m)` of the same predictions, dealt out to the utterances at random."""
        rng = np.random.default_rng([seed, table.n])
        deals = []
        for _ in range(_SHUFFLES):
            golds = [table.gold[k] for k in rng.permutation(table.n)]
            rows = [[self.columns(p, g) for p, g in zip(row, golds, strict=True)] for row in table.predicted]
            deals.append(np.sum(rows, axis=1))
        return np.array(deals)

    def _compared(self, name: str, cells: Mapping[str, Table], seed: int) -> dict[str, Metric]:
        """How far a cell is above the majority baseline, and a zero-shot one from training on the tested modality."""
        headline, statistic = next(iter(self.statistics.items()))
        key, out = f"{self.info.name}.{name}", {}

        def both(other: str) -> list[tuple[Table, Statistic]]:
            common = cells[name].common(cells[other])
            return [(cells[name].only(common), statistic), (cells[other].only(common), statistic)]

        out[f"{key}.{headline}_above_majority"] = compare(
            both("majority.test"), lambda a, b: a - b, seed, True, (-100.0, 100.0), 0.0
        )
        train, test = name.split(".")
        within = f"train_{test.removeprefix('test_')}.{test}"
        if train in ("train_speech", "train_text") and name != within and within in cells:
            out[f"{key}.transfer_gap"] = compare(both(within), lambda a, b: b - a, seed, False, (-100.0, 100.0), None)
            if statistic(cells[within].sums).mean() > 0:
                out[f"{key}.transfer_ratio"] = compare(both(within), lambda a, b: a / b, seed, True, None, None)
        return out


def matrix_keys(task: str, metric: str) -> tuple[str, ...]:
    """The metric in every cell and in the baselines, for tables."""
    return (*cell_keys(task, metric), f"{task}.cascade.test_speech.{metric}", f"{task}.majority.test.{metric}")


def cell_keys(task: str, metric: str) -> tuple[str, ...]:
    """The metric in every cell."""
    return tuple(key for row in matrix(task, metric).values() for key in row.values())


def matrix(task: str, metric: str) -> dict[str, dict[str, str]]:
    """The layout of the transfer matrix as a heat map: training by row, test by column."""
    return {
        f"train: {c}": {f"test: {m}": f"{task}.train_{c}.test_{m}.{metric}" for m in MODALITIES}
        for c in (*MODALITIES, "both")
    }
