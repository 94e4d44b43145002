"""Half order: does the model prefer the two halves of an utterance in the order in which they were said?

With A and B the words before and after the middle, the order A B scores log P(A) + log P(B | A) and the order B A
scores log P(B) + log P(A | B). Both hold the same words, so that neither length nor word frequency tells them apart.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from pathlib import Path

from pydantic.dataclasses import dataclass

from harness.config import STRICT
from harness.corpora.corpus import Corpus
from harness.corpora.manifest import Word
from harness.errors import CorpusError
from harness.results import Item, Metric
from harness.segments import AudioSpan, Modality, Segment, Speech, Text
from harness.stats import bootstrap_ci
from harness.task import Answer, Loglikelihoods, Request, TaskInfo, Unscorable

MODALITIES: tuple[Modality, ...] = ("text", "speech")
#: Scores closer than this (nats) tie: it is rounding, not preference.
TIE = 1e-4


@dataclass(frozen=True, config=STRICT)
class HalfOrderOptions:
    """The protocol of half order.

    Attributes:
        n: utterances, drawn by seed; `--limit` overrides it.
    """

    n: int = 100


@plain_dataclass(frozen=True)
class HalfOrderExample:
    """An utterance cut in two, in both modalities."""

    id: str
    speaker: str
    halves: dict[Modality, tuple[Segment, Segment]]


class HalfOrder:
    """The task; see the module's docstring."""

    info = TaskInfo(
        name="half_order",
        version=1,
        description="which order of an utterance's halves is likelier, in text and in speech",
        source="an example of sutlm-harness",
        headline=("half_order.text.accuracy", "half_order.speech.accuracy"),
    )
    Options = HalfOrderOptions

    def examples(
        self, corpus: Corpus, options: HalfOrderOptions, *, limit: int | None, seed: int
    ) -> list[HalfOrderExample]:
        """Utterances of at least two words, cut at the middle word.

        Raises:
            CorpusError: if no utterance has word times.
        """
        fitting = sorted((u for u in corpus.utterances if u.words and len(u.words) > 1), key=lambda u: u.id)
        if not fitting:
            raise CorpusError(f"half_order cuts between words; {corpus.name}:{corpus.split} has no word times.")
        chosen = random.Random(f"half_order {seed}").sample(fitting, min(limit or options.n, len(fitting)))
        return [HalfOrderExample(u.id, u.speaker, _halves(corpus.audio_path(u), u.words or ())) for u in chosen]

    def requests(
        self, examples: Sequence[HalfOrderExample], options: HalfOrderOptions, *, modalities: frozenset[Modality]
    ) -> list[Request]:
        """For each half its likelihood alone and after the other half."""
        return [request for m in MODALITIES if m in modalities for request in _requests(examples, m)]

    def score(
        self, examples: Sequence[HalfOrderExample], options: HalfOrderOptions, answers: Mapping[str, Answer]
    ) -> list[Item]:
        """One item for each utterance and modality; its margin is in nats, positive for the order as said."""
        asked = [m for m in MODALITIES if f"{m}/prior" in answers]
        return [_item(m, i, example, answers) for m in asked for i, example in enumerate(examples)]

    def summarize(self, items: Sequence[Item], options: HalfOrderOptions, *, seed: int) -> dict[str, Metric]:
        """The share of utterances whose order as said is likelier, 0 to 1, higher is better; ties count half."""
        metrics = {}
        for m in dict.fromkeys(i.extra["modality"] for i in items):
            own = [i for i in items if i.extra["modality"] == m]
            credits, groups = [i.scores["credit"] for i in own], [i.group for i in own]
            interval = bootstrap_ci(credits, groups, seed=seed, support=(0.0, 1.0))
            metrics[f"half_order.{m}.accuracy"] = interval.metric(higher_is_better=True, chance=0.5)
        return metrics


def _halves(path: Path, words: Sequence[Word]) -> dict[Modality, tuple[Segment, Segment]]:
    middle = len(words) // 2
    at = words[middle].start
    first, second = (Text(" ".join(w.word for w in half)) for half in (words[:middle], words[middle:]))
    return {"text": (first, second), "speech": (Speech(AudioSpan(path, 0.0, at)), Speech(AudioSpan(path, at)))}


def _requests(examples: Sequence[HalfOrderExample], m: Modality) -> Iterator[Request]:
    # All requests share one pool, so that each half is encoded once. Example i has the halves 2 i and 2 i + 1.
    pool = tuple(half for e in examples for half in e.halves[m])
    yield Request(f"{m}/prior", (), m, m, pool, tuple(range(len(pool))))
    for i, e in enumerate(examples):
        yield Request(f"{m}/{e.id}/said", e.halves[m][:1], m, m, pool, (2 * i + 1,))
        yield Request(f"{m}/{e.id}/turned", e.halves[m][1:], m, m, pool, (2 * i,))


def _item(m: Modality, i: int, example: HalfOrderExample, answers: Mapping[str, Answer]) -> Item:
    item = Item(f"{m}/{example.id}", group=example.speaker, extra={"modality": m})
    parts = [answers[f"{m}/{key}"] for key in ("prior", f"{example.id}/said", f"{example.id}/turned")]
    if reasons := [part.reason for part in parts if isinstance(part, Unscorable)]:
        return replace(item, failed=reasons[0])
    prior, said, turned = (part.values for part in parts if isinstance(part, Loglikelihoods))
    margin = float(prior[2 * i] + said[0] - prior[2 * i + 1] - turned[0])
    credit = 0.5 if abs(margin) <= TIE else float(margin > 0)
    return replace(item, scores={"margin": margin, "credit": credit})


TASK = HalfOrder()
