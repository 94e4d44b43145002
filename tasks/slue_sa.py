"""SLUE sentiment analysis with the transfer matrix: fine-tune on speech, on text or on both, test on either.

Task and scoring: Shon et al. 2022 (arXiv 2111.10367), SLUE-VoxCeleb; macro F1 over Negative, Neutral and Positive in
per cent. That one model is tested in the modality that it was not fine-tuned on follows Chou et al. 2023 (arXiv
2310.08715); the protocol is ours, `sutlm-style`: see docs/metrics.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic.dataclasses import dataclass

from harness.config import STRICT
from harness.corpora.manifest import SENTIMENTS, Utterance
from harness.engine.example_losses import loglikelihoods, target_logprobs
from harness.engine.finetune_config import TrainingExample, continuation_example
from harness.engine.finetuned_model import FineTunedModel, task_tokens
from harness.errors import OptionError
from harness.figures import ConfusionMatrix, Figure
from harness.metrics.classification import accuracy, f1s, macro_f1, precisions, predicted_class, recalls, unparsable
from harness.metrics.ratios import ratio
from harness.model import Model
from harness.results import Item, Metric
from harness.segments import Segment, Text
from harness.task import Procedure, TaskInfo

from ._cells import Statistic, grouped
from ._transfer import TransferTask
from ._transfer_examples import TransferPlan
from ._transfer_metrics import cell_keys, matrix_keys
from ._transfer_options import TransferOptions
from ._transfer_text import greedy_decode, text_of

_CLASSES = len(SENTIMENTS)


@dataclass(frozen=True, config=STRICT)
class SlueSaOptions(TransferOptions):
    """The protocol of SLUE-SA.

    Attributes:
        head: `classifier` predicts the class from the last state; `likelihood` takes the label whose word is the
            likeliest answer; `generation` writes the answer, which may be no label.
        class_weights: `balanced` weighs each class of the training utterances by the inverse of its frequency.
    """

    head: Literal["classifier", "likelihood", "generation"] = "classifier"
    class_weights: Literal["none", "balanced"] = "none"


def _of_confusion(statistic: Statistic) -> Statistic:
    """A statistic of confusion matrices `(…, 3, 4)` as one of summed `columns`."""
    return lambda sums: statistic(sums.reshape(*sums.shape[:-1], _CLASSES, _CLASSES + 1))


def _of_class(scores: Statistic, place: int) -> Statistic:
    """Of one class in per cent."""
    return _of_confusion(lambda matrix: 100 * scores(matrix)[..., place])


def _mean(scores: Statistic) -> Statistic:
    return _of_confusion(lambda matrix: (100 * scores(matrix)).mean(axis=-1))


def _cell(gold: int, predicted: int) -> Statistic:
    """Per cent of the utterances of a class that are predicted to be of another, or the same."""
    return _of_confusion(lambda matrix: 100 * ratio(matrix[..., gold, predicted], matrix[..., gold, :].sum(axis=-1)))


_COLUMNS = (*SENTIMENTS, "unparsable")
_STATISTICS: dict[str, Statistic] = {
    "macro_f1": _of_confusion(macro_f1),
    "macro_precision": _mean(precisions),
    "macro_recall": _mean(recalls),
    "accuracy": _of_confusion(accuracy),
    "unparsable": _of_confusion(unparsable),
    **{f"f1_{name.lower()}": _of_class(f1s, k) for k, name in enumerate(SENTIMENTS)},
    **{f"precision_{name.lower()}": _of_class(precisions, k) for k, name in enumerate(SENTIMENTS)},
    **{f"recall_{name.lower()}": _of_class(recalls, k) for k, name in enumerate(SENTIMENTS)},
    **{
        f"confusion_{gold.lower()}_{predicted.lower()}": _cell(g, p)
        for g, gold in enumerate(SENTIMENTS)
        for p, predicted in enumerate(_COLUMNS)
    },
}


class SlueSa(TransferTask[SlueSaOptions]):
    """The task; see the module's docstring."""

    info = TaskInfo(
        name="slue_sa",
        version=3,
        description="sentiment, fine-tuned on speech, text or both and tested on either; per cent",
        source="SLUE-VoxCeleb (Shon et al. 2022, arXiv 2111.10367); transfer after Chou et al. 2023, arXiv 2310.08715",
        headline=matrix_keys("slue_sa", "macro_f1"),
        main=cell_keys("slue_sa", "macro_f1"),
    )
    Options = SlueSaOptions
    statistics = _STATISTICS
    with_interval = frozenset({"macro_f1", "macro_precision", "macro_recall", "accuracy"})
    score_name = "accuracy"
    task_token = "<sentiment>"

    def check(self, model: Model, options: SlueSaOptions) -> None:
        """Refuses models without a decoder; those without text can only have a classifier."""
        task_tokens(model, ())
        if options.head != "classifier" and "text" not in model.modalities:
            raise OptionError(f"'{model.card.name}' writes no text; use slue_sa.head=classifier.")

    def gold(self, utterance: Utterance) -> str | None:
        """One of the three labels."""
        return utterance.sentiment

    def num_classes(self, options: SlueSaOptions) -> int:
        """Three with a classifier."""
        return _CLASSES if options.head == "classifier" else 0

    def training_example(
        self, model: Model, tokens: Mapping[str, int], segment: Segment, gold: str, options: SlueSaOptions
    ) -> TrainingExample:
        """The class, or the word for it and the end."""
        context = self.context(model, tokens, segment)
        if options.head == "classifier":
            return TrainingExample(tuple(context), (len(context) - 1,), (SENTIMENTS.index(gold),))
        end = self.end(model, tokens)
        return continuation_example(context, [*model.encode_continuation(Text(gold.lower())), end])

    def weights(self, golds: Sequence[str], options: SlueSaOptions) -> list[float]:
        """Equal, or each class as much as the others."""
        if options.class_weights == "none":
            return [1.0] * len(golds)
        counts = Counter(golds)
        return [len(golds) / (len(counts) * counts[gold]) for gold in golds]

    def predict(
        self,
        tuned: FineTunedModel,
        segments: Mapping[str, Segment],
        options: SlueSaOptions,
        *,
        longest: int,
        batch_tokens: int,
    ) -> Iterator[tuple[str, str]]:
        """A label, or with `generation` whatever is written."""
        if options.head == "generation":
            yield from self._generated(tuned, segments, longest, batch_tokens)
            return
        names = list(segments)
        # The gold label plays no part where there is a classifier: it reads the context alone.
        labels = SENTIMENTS[:1] if options.head == "classifier" else SENTIMENTS
        examples = [
            self.training_example(tuned, tuned.tokens, segments[n], label, options) for n in names for label in labels
        ]
        if options.head == "classifier":
            for i, logprobs in target_logprobs(tuned, examples, batch_tokens=batch_tokens):
                yield names[i], SENTIMENTS[int(logprobs[0].argmax())]
        else:
            found = np.array(loglikelihoods(tuned, examples, batch_tokens=batch_tokens)).reshape(-1, _CLASSES)
            yield from zip(names, (SENTIMENTS[k] for k in found.argmax(1)), strict=True)

    def _generated(
        self, tuned: FineTunedModel, segments: Mapping[str, Segment], longest: int, batch_tokens: int
    ) -> Iterator[tuple[str, str]]:
        for name, ids in greedy_decode(tuned, self.context, segments, longest, batch_tokens):
            answer = text_of(tuned.decode(ids))
            yield name, next((label for label in SENTIMENTS if label.lower() == answer), answer)

    def majority(self, golds: Sequence[str]) -> str:
        """The commonest label; of equals the first in alphabetical order."""
        counts = Counter(golds)
        return min(counts, key=lambda label: (-counts[label], label))

    def columns(self, predicted: str, gold: str) -> list[float]:
        """A 1 in the cell of the confusion matrix `(3, 4)`, whose last column is for what is not a label."""
        row = np.zeros((_CLASSES, _CLASSES + 1))
        row[SENTIMENTS.index(gold), predicted_class(predicted, SENTIMENTS)] = 1
        return [float(value) for value in row.ravel()]

    def figures(self, items: Sequence[Item], metrics: Mapping[str, Metric]) -> list[Figure]:
        """The transfer matrix, and a confusion matrix for each of its cells, over all seeds."""
        found = super().figures(items, metrics)
        for cell, rows in grouped([i for i in items if "cell" in i.extra], "cell").items():
            if cell.startswith("train_"):
                found.append(_confusion_figure(cell, [(i.reference, _known(i.output)) for i in rows]))
        return found

    def score(self, predicted: str, gold: str) -> float:
        """100 for the right label, else 0."""
        return 100.0 * (predicted == gold)


def _known(output: str) -> str:
    """The label that was predicted, or `unparsable`."""
    return output if output in SENTIMENTS else _COLUMNS[-1]


def _confusion_figure(cell: str, pairs: Sequence[tuple[str, str]]) -> ConfusionMatrix:
    """Of a cell `train_<condition>.test_<modality>`."""
    trained, tested = (part.partition("_")[2] for part in cell.split("."))
    return ConfusionMatrix(
        name=f"confusion.{cell}",
        title=f"confusion, trained on {trained}, tested on {tested}",
        group="confusion matrices",
        caption=f"trained on {trained}, tested on {tested}, all seeds",
        counts=ConfusionMatrix.count(pairs, _COLUMNS),
    )


TASK: Procedure[SlueSaOptions, TransferPlan] = SlueSa()
