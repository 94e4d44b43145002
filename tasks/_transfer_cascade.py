"""The cascade baseline: a transcriber turns the speech of test utterances into text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.config import digest
from harness.engine.generation import Continue, Generator
from harness.engine.sampling import Sampling
from harness.errors import UnknownNameError
from harness.model import Model, read_card
from harness.segments import Modality, Segment, Text
from harness.task import Session

from ._transfer_examples import TransferPlan
from ._transfer_options import TrainOn, TransferOptions
from ._transfer_text import text_of

#: A transcript has at most so many tokens for each token of speech, and so many more.
_TRANSCRIPT_SHARE, _TRANSCRIPT_MORE = 2, 16


def transcriber_of(
    session: Session, options: TransferOptions, test_on: Sequence[Modality], train_on: Sequence[TrainOn]
) -> Model | None:
    """The model of the cascade; None where it has no weights or there is no cell to set it beside."""
    if options.transcriber is None or "speech" not in test_on or "text" not in train_on:
        return None
    try:
        card = read_card(options.transcriber)
    except UnknownNameError:
        if options.transcriber != TransferOptions.transcriber:
            raise
        return None
    return session.load_model(options.transcriber) if card.available else None


def transcripts_of(session: Session, plan: TransferPlan, options: TransferOptions) -> dict[str, Segment]:
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
            Continue(i, (s,), "text", _TRANSCRIPT_SHARE * len(transcriber.encode_continuation(s)) + _TRANSCRIPT_MORE)
            for i, s in wanted.items()
        ]
        generator = Generator(transcriber, sampling=Sampling(temperature=0), seed=0, batch_tokens=session.batch_tokens)
        for request, generated in generator.generate(requests):
            yield request.id, {"text": text_of(generated.segments)}

    found = session.records(asked, compute, what="transcripts")
    return {i: Text(str(found[f"transcript/{i}"]["text"])) for i in speech}
