"""Labeled utterances, trainings on them, and cells of the transfer matrix."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.corpora.corpus import Corpus
from harness.engine.finetune import fine_tune
from harness.engine.finetune_config import FineTuning
from harness.errors import CorpusError
from harness.results import Item
from harness.segments import Modality, Segment
from harness.task import ProcedurePlan, Session

from ._transfer_options import TrainOn


@dataclass(frozen=True)
class TransferExample:
    """A labeled utterance; `id` is the utterance's, `gold` its label as JSON values."""

    id: str
    speaker: str
    segments: Mapping[Modality, Segment]
    gold: Any


@dataclass(frozen=True)
class TransferPlan(ProcedurePlan[TransferExample]):
    """A plan with the utterances to learn and to validate on, and the conditions that the model's modalities allow."""

    train: tuple[TransferExample, ...] = ()
    dev: tuple[TransferExample, ...] = ()
    train_on: tuple[TrainOn, ...] = ()
    test_on: tuple[Modality, ...] = ()


@dataclass(frozen=True)
class Training:
    """One training: condition, number of the seed, what is learned, its digest, and once it is done its record."""

    condition: TrainOn
    seed: int
    job: FineTuning
    digest: str
    record: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __hash__(self) -> int:
        return hash(self.digest)

    def item(self) -> Item:
        """As an item of the task."""
        return Item(
            f"training.{self.condition}/seed{self.seed}",
            scores={"learning_rate": self.job.config.learning_rate, **self.record},
            extra={"condition": self.condition, "seed": self.seed, "weights": self.digest},
        )


@dataclass(frozen=True)
class Cell:
    """A training on some test input, `{utterance: segment}`."""

    name: str
    training: Training
    inputs: Mapping[str, Segment]

    def request(self, utterance: str) -> str:
        """The id of a prediction."""
        return f"{self.name}/seed{self.training.seed}/{utterance}"


def train_split(session: Session) -> Corpus:
    """The split `fine-tune`, SLUE's name for what is labeled; else `train`."""
    try:
        return session.split("fine-tune")
    except CorpusError as error:
        try:
            return session.split("train")
        except CorpusError:
            raise error from None


def records_of(session: Session, trainings: Sequence[Training], what: str) -> dict[str, Mapping[str, Any]]:
    """The record of each training by digest, trained now unless it was before."""
    names = {f"{t.condition}/{t.job.config.learning_rate:g}/seed{t.seed}": t for t in trainings}

    def compute(ids: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for i in ids:
            yield i, fine_tune(session.model, names[i].job)

    found = session.records({i: t.digest for i, t in names.items()}, compute, what=what)
    return {names[i].digest: record for i, record in found.items()}


def permuted(examples: Sequence[TransferExample], seed: int) -> tuple[TransferExample, ...]:
    """The examples with their labels permuted by seed: the control `shuffled_labels`."""
    golds = [e.gold for e in examples]
    random.Random(f"labels {seed}").shuffle(golds)
    return tuple(replace(e, gold=gold) for e, gold in zip(examples, golds, strict=True))
