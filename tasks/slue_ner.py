"""SLUE named entity recognition with the transfer matrix: fine-tune on speech, on text or on both, test on either.

Task and scoring: Shon et al. 2022 (arXiv 2111.10367), SLUE-VoxPopuli; micro F1 of (label, phrase) pairs, here in per
cent. The model writes the transcript with inline tags, `in <PLACE> europe </>`, whichever modality it is given. That it
is tested in the modality that it was not fine-tuned on follows Chou et al. 2023 (arXiv 2310.08715); the protocol is
ours, `sutlm-style`: see docs/metrics.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from harness.config import STRICT
from harness.corpora.manifest import Utterance
from harness.corpora.slue_labels import COMBINED_LABELS, combined_entities
from harness.engine.example_losses import target_logprobs
from harness.engine.finetune_config import TrainingExample, continuation_example
from harness.engine.finetuned_model import FineTunedModel, task_tokens
from harness.errors import OptionError
from harness.figures import Figure, HeatMap
from harness.metrics.ner import (
    Counts,
    label_counts,
    macro_f1,
    mention_counts,
    micro_f1,
    precision,
    recall,
    seqeval_scores,
)
from harness.metrics.tags import END_TAG, bio_labels, bio_mentions, format_tags, parse_tags, strip_tags
from harness.model import Model
from harness.results import Item, Metric
from harness.segments import Segment, Text
from harness.task import Procedure, TaskInfo

from ._cells import Floats, Statistic, grouped
from ._transfer import TransferTask
from ._transfer_examples import TransferPlan
from ._transfer_metrics import cell_keys, matrix_keys
from ._transfer_options import TransferOptions
from ._transfer_text import greedy_decode, start_of_text, text_of

_TAGS = (*(f"<{label}>" for label in COMBINED_LABELS), END_TAG)
_BIO = ("O", *(f"{place}-{label}" for label in COMBINED_LABELS for place in "BI"))
#: A transcript may be longer than the longest that was learned by this share.
_LONGER = 1.25


@dataclass(frozen=True, config=STRICT)
class SlueNerOptions(TransferOptions):
    """The protocol of SLUE-NER.

    Attributes:
        head: `generation` writes the tagged transcript; `tokens` classifies the words of a text given twice (B, I, O),
            which can be trained and tested on text alone.
    """

    head: Literal["generation", "tokens"] = "generation"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head == "tokens" and (self.train_on, self.test_on) != (("text",), ("text",)):
            raise OptionError(
                "head=tokens classifies words, which only text has: set slue_ner.train_on=[text] and "
                "slue_ner.test_on=[text] with it."
            )


def _by_label(sums: Floats) -> Floats:
    """`(…, 2, labels, 3)`: of phrases with labels, then of labels alone; tp, gold and predicted of each label."""
    return sums.reshape(*sums.shape[:-1], 2, len(COMBINED_LABELS), 3)


def _summed(score: Statistic, measure: int) -> Statistic:
    """A score of counts `(…, 3)` summed over labels, in per cent; `measure` 0 compares phrases, 1 labels alone."""
    return lambda sums: 100 * score(_by_label(sums)[..., measure, :, :].sum(axis=-2))


def _label(place: int) -> Statistic:
    return lambda sums: 100 * micro_f1(_by_label(sums)[..., 0, place, :])


_STATISTICS: dict[str, Statistic] = {
    "f1": _summed(micro_f1, 0),
    "precision": _summed(precision, 0),
    "recall": _summed(recall, 0),
    "macro_f1": lambda sums: 100 * macro_f1(_by_label(sums)[..., 0, :, :]),
    "label_f1": _summed(micro_f1, 1),
    "label_precision": _summed(precision, 1),
    "label_recall": _summed(recall, 1),
    **{f"f1_{label.lower()}": _label(k) for k, label in enumerate(COMBINED_LABELS)},
}


class SlueNer(TransferTask[SlueNerOptions]):
    """The task; see the module's docstring."""

    info = TaskInfo(
        name="slue_ner",
        version=3,
        description="named entities, fine-tuned on speech, text or both and tested on either; per cent",
        source="SLUE-VoxPopuli (Shon et al. 2022, arXiv 2111.10367); transfer after Chou et al. 2023, arXiv 2310.08715",
        headline=(*matrix_keys("slue_ner", "f1"), *matrix_keys("slue_ner", "label_f1")),
        main=(*cell_keys("slue_ner", "f1"), *cell_keys("slue_ner", "label_f1")),
    )
    Options = SlueNerOptions
    statistics = _STATISTICS
    with_interval = frozenset({"f1", "precision", "recall", "label_f1"})
    score_name = "utterance_f1"
    task_token, more_tokens = "<entities>", _TAGS

    def check(self, model: Model, options: SlueNerOptions) -> None:
        """Refuses models without a decoder or without text."""
        task_tokens(model, ())
        if "text" not in model.modalities:
            raise OptionError(f"'{model.card.name}' writes no text, which tagged transcripts need.")

    def gold(self, utterance: Utterance) -> dict[str, Any] | None:
        """The tagged text and its mentions, under combined labels."""
        if utterance.entities is None:
            return None
        tagged = format_tags(utterance.text, combined_entities(utterance.entities))
        return {"text": tagged, "entities": [list(mention) for mention in parse_tags(tagged)]}

    def context(self, model: Model, tokens: Mapping[str, int], segment: Segment) -> list[int]:
        """As of both tasks, then the start of text: a transcript begins as the texts do that were seen in training."""
        return [*super().context(model, tokens, segment), *start_of_text(model)]

    def num_classes(self, options: SlueNerOptions) -> int:
        """B and I of each label and O, with `tokens`."""
        return len(_BIO) if options.head == "tokens" else 0

    def training_example(
        self,
        model: Model,
        tokens: Mapping[str, int],
        segment: Segment,
        gold: Mapping[str, Any],
        options: SlueNerOptions,
    ) -> TrainingExample:
        """The tagged transcript and the end, or the class of each word."""
        context = self.context(model, tokens, segment)
        if options.head == "tokens":
            return self._word_example(model, context, gold["text"])
        end = self.end(model, tokens)
        return continuation_example(context, [*_tagged_ids(model, tokens, gold["text"]), end])

    def predict(
        self,
        tuned: FineTunedModel,
        segments: Mapping[str, Segment],
        options: SlueNerOptions,
        *,
        longest: int,
        batch_tokens: int,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The tagged transcript with its mentions."""
        if options.head == "generation":
            most = math.ceil(_LONGER * longest)
            for name, ids in greedy_decode(tuned, self.context, segments, most, batch_tokens):
                text = _tagged_text(tuned, ids)
                yield name, {"text": text, "entities": [list(mention) for mention in parse_tags(text)]}
            return
        names = [name for name, segment in segments.items() if isinstance(segment, Text)]
        texts = [text_of((segments[name],)) for name in names]
        examples = [self._word_example(tuned, self.context(tuned, tuned.tokens, Text(text)), text) for text in texts]
        for i, logprobs in target_logprobs(tuned, examples, batch_tokens=batch_tokens):
            labels = [_BIO[k] for k in logprobs.argmax(-1).tolist()]
            yield names[i], {"entities": [list(m) for m in bio_mentions(texts[i].split(), labels)], "bio": labels}

    def needed(self, tuned: FineTunedModel, segment: Segment, options: SlueNerOptions, longest: int) -> int:
        """With `tokens` about the text twice."""
        if options.head == "tokens":
            return 2 * len(self.context(tuned, tuned.tokens, segment))
        return super().needed(tuned, segment, options, longest)

    def majority(self, golds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The commonest mentions of the training utterances, as many as these have on average; there is no class."""
        counts = Counter((label, phrase) for gold in golds for label, phrase in gold["entities"])
        number = round(counts.total() / len(golds))
        ranked = sorted(counts, key=lambda mention: (-counts[mention], mention))
        return {"entities": [list(mention) for mention in ranked[:number]]}

    def columns(self, predicted: Mapping[str, Any], gold: Mapping[str, Any]) -> list[float]:
        """tp, gold and predicted of each label: of phrases with labels, then of labels alone."""
        own = [[(label, phrase) for label, phrase in side["entities"]] for side in (gold, predicted)]
        rows = []
        for counts in (mention_counts(*own), label_counts(*own)):
            of_labels = [counts.get(label, Counts(0, 0, 0)) for label in COMBINED_LABELS]
            rows += [float(n) for c in of_labels for n in (c.tp, c.gold, c.predicted)]
        return rows

    def score(self, predicted: Mapping[str, Any], gold: Mapping[str, Any]) -> float:
        """F1 of the utterance; 100 where there is no mention on either side."""
        counts = np.array(self.columns(predicted, gold))
        return float(_STATISTICS["f1"](counts)) if counts.any() else 100.0

    def figures(self, items: Sequence[Item], metrics: Mapping[str, Metric]) -> list[Figure]:
        """The transfer matrix of phrases with labels and of labels alone, and F1 of each label."""
        keys = {
            f"train: {c}, test: {m}": {
                label: f"slue_ner.train_{c}.test_{m}.f1_{label.lower()}" for label in COMBINED_LABELS
            }
            for c in ("speech", "text", "both")
            for m in ("speech", "text")
        }
        labels = HeatMap(name="labels", title="slue_ner: F1 of each label", keys=keys)
        return [*super().figures(items, metrics), self.matrix_figure("label_f1"), labels]

    def summarize(self, items: Sequence[Item], options: SlueNerOptions, *, seed: int) -> dict[str, Metric]:
        """The matrix, and with `tokens` what seqeval says of the same words."""
        metrics = super().summarize(items, options, seed=seed)
        tested = [i for i in items if "bio" in (i.output or {})]
        for cell in dict.fromkeys(i.extra["cell"] for i in tested):
            rows = [i for i in tested if i.extra["cell"] == cell]
            found = [
                100 * seqeval_scores([bio_labels(i.reference["text"]) for i in own], [i.output["bio"] for i in own]).f1
                for own in grouped(rows, "seed").values()
            ]
            metrics[f"slue_ner.{cell}.seqeval_f1"] = Metric(float(np.mean(found)), len(rows) // len(found), True)
        return metrics

    def _word_example(self, model: Model, context: Sequence[int], tagged: str) -> TrainingExample:
        """Text, task token, the text again word by word: the second time, all of it has been read."""
        ids, positions = list(context), []
        for word in strip_tags(tagged).split():
            ids += model.encode_continuation(Text(word))
            positions.append(len(ids) - 1)
        return TrainingExample(tuple(ids), tuple(positions), tuple(_BIO.index(label) for label in bio_labels(tagged)))


def _tagged_ids(model: Model, tokens: Mapping[str, int], tagged: str) -> list[int]:
    """Tags as their tokens, the words between them as the model encodes text."""
    ids: list[int] = []
    for is_tag, parts in groupby(tagged.split(), key=lambda part: part in _TAGS):
        run = list(parts)
        ids += [tokens[part] for part in run] if is_tag else model.encode_continuation(Text(" ".join(run)))
    return ids


def _tagged_text(tuned: FineTunedModel, ids: Sequence[int]) -> str:
    """What `_tagged_ids` encodes; other task tokens are dropped."""
    tags = {tuned.tokens[tag]: tag for tag in _TAGS}
    words = []
    for tag, run in groupby(ids, key=tags.get):
        found = list(run)
        words += [tag] * len(found) if tag else [text_of(tuned.decode(found))]
    return " ".join(word for word in words if word)


TASK: Procedure[SlueNerOptions, TransferPlan] = SlueNer()
