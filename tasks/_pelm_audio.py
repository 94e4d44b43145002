"""Audio of PELM's spoken continuations: their units, looked up in other recordings of the speaker."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.segments import AudioSpan
from harness.speech.lookup import UnitLookup
from harness.task import Session
from harness.training.checkpoint import Tokenizers

from ._pelm_continuations import Found, unit_span
from ._pelm_items import Draft
from ._pelm_options import PelmOptions

#: Units are looked up in at most this much speech of one speaker.
_LOOKUP_SECONDS = 300.0


def add_audio(session: Session, items: Sequence[Draft], units: Mapping[str, Found], options: PelmOptions) -> None:
    """Adds audio to the first continuations of each direction, and to the true ones of these prompts.

    The latter tell what the lookup makes of speech that was spoken.
    """
    tokenizers = getattr(session.model, "tokenizers", None)
    if not isinstance(tokenizers, Tokenizers):
        return  # Nothing here says which audio has which units of this model.
    spoken = [i for i in items if i["id"] in units and i["seed"] == 0 and i["kind"] in ("output", "reference_units")]
    heard: dict[str, list[Draft]] = {}
    for item in sorted(spoken, key=lambda i: str(i["id"])):
        heard.setdefault(str(item.get("direction", item["kind"])), []).append(item)
    lookups: dict[str, UnitLookup | None] = {}
    for name, own in heard.items():
        for number, item in enumerate(own[: options.audio]):
            example = item["example"]
            if example not in lookups:
                lookups[example] = _lookup(session, tokenizers, example)
            lookup = lookups[example]
            sound = lookup and lookup.sound(unit_span(units[item["id"]]))
            if sound:
                file = f"{name}-{number}-{re.sub(r'[^A-Za-z0-9.-]+', '_', example)}.flac"
                item["audio_output"] = session.attach(file, sound.flac())
                item["segments"], item["missing_units"] = sound.num_segments, sound.num_missing


def _lookup(session: Session, tokenizers: Tokenizers, example: str) -> UnitLookup | None:
    """What else the speaker of an utterance says in the split; None where that is nothing."""
    corpus = session.corpus
    utterances = sorted(corpus.utterances, key=lambda u: u.id)
    own = next(u for u in utterances if u.id == example)
    chosen, seconds = [], 0.0
    for other in utterances:
        path = corpus.audio_path(other)
        if other.speaker == own.speaker and other.audio != own.audio and path.is_file() and seconds < _LOOKUP_SECONDS:
            chosen.append(path)
            seconds += other.seconds
    if not chosen:
        return None
    spans = tokenizers.speech.encode([AudioSpan(path) for path in chosen], device=str(session.model.device))
    return UnitLookup(dict(zip(chosen, spans, strict=True)), sample_rate=own.sample_rate)
