"""Continuations that a model makes of prompts, and the transcripts of those that it speaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.config import digest
from harness.engine.generation import Continue, Generated, Generator
from harness.engine.sampling import Sampling
from harness.model import Model
from harness.segments import Modality, Speech, Text, UnitSpan, modalities_of
from harness.task import Session

from ._halves import Halves
from ._pelm_options import PelmOptions
from ._pelm_prompts import ContinuationSpec, speaks

Found = Mapping[str, Any]


def make_continuations(
    session: Session,
    wanted: Sequence[ContinuationSpec],
    halves: Sequence[Halves],
    options: PelmOptions,
    protocol: Found,
) -> dict[str, Found]:
    """What the model said, or why it could not, by id."""
    by_id = {w.id: w for w in wanted}
    unit_seconds: list[float] = []

    def compute(ids: Sequence[str]) -> Iterator[tuple[str, Found]]:
        if options.max_seconds is not None and not unit_seconds and speaks(w.direction for w in wanted):
            unit_seconds.append(_unit_seconds(session.model, halves))
        for temperature in dict.fromkeys(by_id[i].temperature for i in ids):
            generator = Generator(
                session.model,
                sampling=options.sampling(temperature),
                seed=session.seed,
                batch_tokens=session.batch_tokens,
                unit_seconds=unit_seconds[0] if unit_seconds else None,
            )
            chosen = {by_id[i].id: _request(by_id[i], options) for i in ids if by_id[i].temperature == temperature}
            session.model.prepare([s for r in chosen.values() for s in r.prompt])
            refused = {i: why for i, r in chosen.items() if (why := generator.refusal(r))}
            yield from ((i, {"failed": why}) for i, why in refused.items())
            # The noise is that of the prompt, at every temperature the same.
            name = {r.id: i for i, r in chosen.items()}
            for request, generated in generator.generate([r for i, r in chosen.items() if i not in refused]):
                yield name[request.id], _said(generated, request.target)

    asked = [options.max_new_tokens, options.min_new_tokens, options.max_seconds, options.switching]
    return session.records(
        {w.id: digest([protocol["prompts"], w.direction, w.temperature, w.seed, asked]) for w in wanted},
        compute,
        what="continuations",
    )


def _request(wanted: ContinuationSpec, options: PelmOptions) -> Continue:
    source, target = modalities_of(wanted.direction)
    return Continue(
        f"{wanted.direction}/{wanted.halves.id}/{wanted.seed}",
        (wanted.halves.prompt[source],),
        target,
        options.max_new_tokens,
        options.min_new_tokens,
        options.max_seconds if target == "speech" else None,
        switching=options.switching,
    )


def _said(generated: Generated, target: Modality) -> Found:
    spans = [s.units for s in generated.segments if isinstance(s, Speech) and s.units]
    said: dict[str, Any] = {
        "num_tokens": len(generated.ids),
        "ended": generated.ended,
        "switched": generated.switched,
    }
    if target == "text":
        return {**said, "text": " ".join(s.text for s in generated.segments if isinstance(s, Text))}
    return {**said, "units": _span(spans)}


def _span(spans: Sequence[UnitSpan]) -> dict[str, Any] | None:
    if not any(span.units for span in spans):
        return None
    return {"ids": [u for s in spans for u in s.units], "rate_hz": spans[0].rate_hz, "system": spans[0].system}


def unit_span(found: Found) -> UnitSpan:
    """The units of a record; how long each lasts is not known."""
    own = tuple(found["ids"])
    return UnitSpan(own, (1,) * len(own), found["rate_hz"], found["system"])


def reference_units(model: Model, halves: Sequence[Halves]) -> dict[str, Found]:
    """The units of the true continuations, by id of their item."""
    segments = [h.continuation["speech"] for h in halves]
    model.prepare(segments)
    decoded = [model.decode(model.encode_continuation(segment)) for segment in segments]
    spans = [_span([s.units for s in d if isinstance(s, Speech) and s.units]) for d in decoded]
    return {f"reference_units/{h.id}": span for h, span in zip(halves, spans, strict=True) if span}


def _unit_seconds(model: Model, halves: Sequence[Halves]) -> float:
    """Mean length of a unit in the true continuations, in seconds."""
    return sum(h.seconds for h in halves) / sum(len(r["ids"]) for r in reference_units(model, halves).values())


def transcribe(session: Session, units: Mapping[str, Found], options: PelmOptions, protocol: Found) -> dict[str, Found]:
    """The likeliest text of units, or why there is none, by id."""
    if not units:
        return {}

    def compute(ids: Sequence[str]) -> Iterator[tuple[str, Found]]:
        transcriber = session.load_model(options.transcriber)
        generator = Generator(
            transcriber, sampling=Sampling(temperature=0.0), seed=0, batch_tokens=session.batch_tokens
        )
        requests = [
            # Several times the text that speech takes, so that only loops are cut short.
            Continue(i, (Speech(units=unit_span(units[i])),), "text", len(units[i]["ids"]) // 2 + 16)
            for i in ids
        ]
        refused = {r.id: why for r in requests if (why := generator.refusal(r))}
        yield from ((i, {"failed": f"'{options.transcriber}': {why}"}) for i, why in refused.items())
        for request, found in generator.generate([r for r in requests if r.id not in refused]):
            yield request.id, _said(found, "text")

    judge = protocol["transcriber"]["fingerprint"]
    return session.records({i: digest([judge, units[i]]) for i in units}, compute, what="transcripts")
