"""Perplexity of continuations under an external language model, with the measures that it is blind to beside it.

After the perplexity evaluation of Chou et al. 2023 (arXiv 2310.08715) and of Lakhotia et al. 2021 (Generative Spoken
Language Modeling, arXiv 2102.01192); the protocol is ours, `sutlm-style`: see docs/metrics.md. Each utterance is cut as
in CRA. The model continues the first half in four directions, a named transcriber turns speech units into text, and a
named language model judges the continuation without the prompt. A model that repeats its prompt gets a good perplexity,
so repetition, diversity, copying and agreement with the true second half are measured on the same outputs.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from importlib.metadata import version
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from harness.config import STRICT, digest
from harness.engine.generation import Continue, Generated, Generator, Sampling
from harness.engine.scoring import Scorer
from harness.errors import CorpusError, InputError, UnitSystemError
from harness.metrics import agreement, repetition
from harness.metrics.repetition import words_of
from harness.metrics.retrieval import rank_of_gold
from harness.model import Model
from harness.results import Item, Metric
from harness.segments import DIRECTIONS, AudioSpan, Direction, Modality, Speech, Text, UnitSpan, modalities_of
from harness.speech.lookup import UnitLookup
from harness.task import Loglikelihoods, Plan, Request, Session, TaskInfo
from harness.training.checkpoint import Tokenizers

from ._halves import Halves, cut_in_halves, num_words, with_distinct_continuations, written
from ._pelm_metrics import Summary, values_of, vert_of

Found = Mapping[str, Any]

#: What the external model reads before the continuation: nothing, or the prompt's reference text.
SCOPES = ("alone", "given_prompt")
#: What is judged beside the model's outputs.
LEVELS = ("reference_text", "reference_units", "shuffled_reference")
#: Texts that the external model reads together, and tokens of a batch: fixed, so that no rounding hangs on the run.
_LM_BLOCK, _LM_BATCH_TOKENS = 64, 4096
#: Units are looked up in at most this much speech of one speaker.
_LOOKUP_SECONDS = 300.0


@dataclass(frozen=True, config=STRICT)
class PelmOptions:
    """The protocol of PELM.

    Attributes:
        n: prompts, drawn by seed from the split; `--limit` overrides it.
        seeds: continuations of each prompt.
        directions: prompt modality → continuation modality, u speech units, t text.
        transcriber: model that turns units into text; its units are those of the model under evaluation.
        lm: external language model of text.
        force: lets the model under evaluation be its own judge.
        temperature: of sampling; 0 takes the likeliest token.
        top_k: only the k likeliest tokens; unset means all.
        top_p: only the likeliest tokens that together reach this probability.
        scan: further temperatures, one continuation a prompt each, to find the perplexity at the reference's VERT;
            none leaves that out.
        vert_slack: outputs count as repeating no more than the references up to a VERT higher by this (per cent).
        min_new_tokens: the model may not end a continuation before.
        max_new_tokens: a continuation is no longer.
        max_seconds: of speech, by the mean length of a unit in the true continuations; unset means no such limit.
        switching: whether the model may switch modality; what it then says in the other one is dropped.
        normalizer: of all texts before they are judged: `words` keeps lower-case words of letters, digits and
            apostrophes, `none` keeps texts as they are.
        min_words: shortest utterance that is cut.
        audio: prompts a direction whose spoken continuation becomes audio to listen to, where the model's own tokenizer
            can look its units up in other recordings of the speaker; 0 makes none. Changes no number.
    """

    n: int = 100
    seeds: int = 3
    directions: tuple[Direction, ...] = DIRECTIONS
    transcriber: str = "transcriber-tiny"
    lm: str = "textlm-tiny"
    force: bool = False
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    scan: tuple[float, ...] = (0.4, 1.2, 1.6, 2.0)
    vert_slack: float = 5.0
    min_new_tokens: int = 0
    max_new_tokens: int = 64
    max_seconds: float | None = None
    switching: bool = False
    normalizer: Literal["words", "none"] = "words"
    min_words: int = 4
    audio: int = field(default=4, metadata={"changes_numbers": False})

    def __post_init__(self) -> None:
        if self.n < 2 or self.seeds < 1 or self.min_words < 2 or self.audio < 0:
            raise InputError(
                f"PELM needs n ≥ 2 prompts, seeds ≥ 1, min_words ≥ 2 and audio ≥ 0; found n={self.n}, "
                f"seeds={self.seeds}, min_words={self.min_words}, audio={self.audio}."
            )
        if self.temperature in self.scan or len(set(self.scan)) < len(self.scan):
            raise InputError(f"pelm.scan holds further temperatures than {self.temperature:g}; found {self.scan}.")
        for temperature in (self.temperature, *self.scan):
            self.sampling(temperature)

    def sampling(self, temperature: float) -> Sampling:
        """How continuations are drawn at a temperature."""
        return Sampling(temperature, self.top_k, self.top_p)

    def normalize(self, text: str) -> str:
        """A text as it is judged."""
        return " ".join(re.findall(r"[\w']+", text.lower())) if self.normalizer == "words" else text


@plain_dataclass(frozen=True)
class Wanted:
    """A continuation to be made: `seed` counts those of one prompt at one temperature."""

    id: str
    direction: Direction
    halves: Halves
    seed: int
    temperature: float
    scan: bool


_FIGURE = {
    "prompt: speech": {"continuation: speech": "pelm.u2u.ppl_corpus", "continuation: text": "pelm.u2t.ppl_corpus"},
    "prompt: text": {"continuation: speech": "pelm.t2u.ppl_corpus", "continuation: text": "pelm.t2t.ppl_corpus"},
}


class Pelm:
    """The task; see the module's docstring."""

    info = TaskInfo(
        name="pelm",
        version=2,
        description="perplexity of continuations under an external language model, in u2u, u2t, t2u, t2t",
        source="after Chou et al. 2023, arXiv 2310.08715; protocol sutlm-style",
        headline=(
            *(f"pelm.{d}.ppl_corpus" for d in DIRECTIONS),
            *(f"pelm.{d}.given_prompt.ppl_corpus" for d in DIRECTIONS),
            *(f"pelm.{d}.at_reference_vert.ppl_corpus" for d in DIRECTIONS),
            *(f"pelm.{d}.vert" for d in DIRECTIONS),
            *(f"pelm.{r}.{key}" for r in LEVELS for key in ("ppl_corpus", "given_prompt.ppl_corpus")),
            "pelm.reference_units.wer",
            "pelm.reference_units.uer",
        ),
        figures={"pelm_ppl_corpus": _FIGURE},
    )
    Options = PelmOptions

    def plan(self, session: Session, options: PelmOptions) -> Plan:
        """The prompts, with the models that judge.

        Raises:
            CorpusError: if fewer than 2 utterances can be cut, or word times are missing where speech is asked for.
            InputError: if the judge is the judged, or the transcriber does not read the model's units.
        """
        directions = _possible(options, session.model)
        halves = _halves(session, options, directions)
        lm = session.load_model(options.lm)
        if "text" not in lm.modalities:
            raise InputError(f"pelm.lm='{options.lm}' takes no text; name a language model of text.")
        if lm.fingerprint == session.model.fingerprint and not options.force:
            raise InputError(
                f"pelm.lm='{options.lm}' is the model under evaluation; perplexity under oneself says how likely one's "
                "own favorites are. Name another model, or set pelm.force=true."
            )
        judges = {"lm": {"name": lm.card.name, "fingerprint": lm.fingerprint}}
        if _speaks(directions):
            transcriber = session.load_model(options.transcriber)
            _check_units(session.model, transcriber, halves[0], options.transcriber)
            judges["transcriber"] = {"name": transcriber.card.name, "fingerprint": transcriber.fingerprint}
        prompts = digest([[h.id, written(h.prompt), written(h.continuation), h.audio] for h in halves])
        return Plan(
            examples=halves,
            protocol={
                **judges,
                "directions": list(directions),
                "prompts": prompts,
                "scopes": list(SCOPES),
                "definitions": {
                    "transcripts": "greedy, at most 16 tokens and one for every 2 units",
                    "ppl": "per word, without an end token",
                    "auto_bleu": "fairseq gslm",
                    "self_bleu": "bleu-2, no brevity penalty, among the outputs of one seed",
                    "bleu": f"sacrebleu {version('sacrebleu')}, words as they stand",
                    "wer": f"jiwer {version('jiwer')}",
                },
            },
            signature={
                **{role: f"{judge['name']}@{judge['fingerprint'][:4]}" for role, judge in judges.items()},
                "prompts": prompts[:4],
                "autobleu": "gslm",
            },
        )

    def run(self, session: Session, plan: Plan, options: PelmOptions) -> list[Item]:
        """One record per continuation, with its texts and every score, and one per reference."""
        halves: Sequence[Halves] = plan.examples
        directions = _possible(options, session.model)
        wanted = _wanted(halves, directions, options)
        said = _continue(session, wanted, halves, options, plan.protocol)
        units = {i: r["units"] for i, r in said.items() if r.get("units")}
        if _speaks(directions):
            units |= _reference_units(session.model, halves)
        heard = _transcribe(session, units, options, plan.protocol)
        items = [*_outputs(wanted, said, heard, options), *_references(halves, heard, options)]
        _judge(session, [i for i in items if "failed" not in i], options, plan.protocol)
        _count_token_errors(session, items, options)
        _voice(session, items, units, options)
        return _measured(items, {h.id: options.normalize(written(h.continuation)) for h in halves})

    def summarize(self, items: Sequence[Item], options: PelmOptions, *, seed: int) -> dict[str, Metric]:
        """Metrics of every direction and reference level, with intervals clustered by the prompt's speaker."""
        metrics: dict[str, Metric] = {}
        reference = [i for i in items if i["kind"] == "reference_text"]
        for direction in options.directions:
            rows = [i for i in items if i["kind"] == "output" and i["direction"] == direction]
            if rows:
                summary = Summary(f"pelm.{direction}", rows, seed)
                summary.judged()
                summary.outputs(len(reference))
                scan = [i for i in items if i["kind"] == "scan" and i["direction"] == direction]
                if scan and reference:
                    # What was spoken has passed the transcriber, so must what it is compared with.
                    spoken = modalities_of(direction)[1] == "speech"
                    heard = [i for i in items if i["kind"] == "reference_units"] if spoken else reference
                    limit = vert_of(heard or reference) + options.vert_slack
                    summary.at_vert([*scan, *(r for r in rows if r["seed"] == 0)], limit)
                metrics |= summary.metrics
        for level in LEVELS:
            if rows := [i for i in items if i["kind"] == level]:
                summary = Summary(f"pelm.{level}", rows, seed)
                summary.judged()
                if level == "reference_units":
                    summary.error_rates()
                metrics |= summary.metrics
        return metrics

    def item_values(self, items: Sequence[Item], options: PelmOptions) -> dict[str, dict[str, float]]:
        """What each output adds to the metrics that are means over outputs."""
        values: dict[str, dict[str, float]] = {}
        for item in items:
            if item["kind"] == "output":
                for name, value in values_of(item).items():
                    values.setdefault(f"pelm.{item['direction']}.{name}", {})[item["id"]] = value
        return values


# --- what is asked ----------------------------------------------------------------------------------------------------


def _possible(options: PelmOptions, model: Model) -> list[Direction]:
    possible = [d for d in options.directions if set(modalities_of(d)) <= model.modalities]
    if not possible:
        raise InputError(
            f"A model of {' and '.join(sorted(model.modalities))} has none of the directions "
            f"{', '.join(options.directions)}."
        )
    return possible


def _speaks(directions: Iterable[Direction]) -> bool:
    return any(modalities_of(d)[1] == "speech" for d in directions)


def _halves(session: Session, options: PelmOptions, directions: Iterable[Direction]) -> list[Halves]:
    corpus, needs_times = session.corpus, any("u" in d for d in directions)
    utterances = sorted((u for u in corpus.utterances if num_words(u) >= options.min_words), key=lambda u: u.id)
    cut = with_distinct_continuations(
        [cut_in_halves(corpus, u, needs_times=needs_times, instead="pelm.directions=[t2t]") for u in utterances]
    )
    wanted = session.limit if session.limit is not None else options.n
    if min(len(cut), wanted) < 2:
        raise CorpusError(
            f"PELM needs at least 2 utterances of {options.min_words} words or more; {corpus.name}:{corpus.split} "
            f"offers {len(cut)}, asked for {wanted}."
        )
    if wanted < len(cut):
        cut = sorted(random.Random(f"pelm {session.seed}").sample(cut, wanted), key=lambda h: h.id)
    return cut


def _wanted(halves: Sequence[Halves], directions: Iterable[Direction], options: PelmOptions) -> list[Wanted]:
    out = []
    for direction, half in itertools.product(directions, halves):
        for seed in range(options.seeds):
            name = f"{direction}/{half.id}/{seed}"
            out.append(Wanted(name, direction, half, seed, options.temperature, scan=False))
        for temperature in options.scan:
            name = f"{direction}/{half.id}/0/{temperature:g}"
            out.append(Wanted(name, direction, half, 0, temperature, scan=True))
    return out


def _check_units(model: Model, transcriber: Model, half: Halves, name: str) -> None:
    modalities: set[Modality] = {"speech", "text"}
    if not modalities <= transcriber.modalities:
        raise InputError(f"pelm.transcriber='{name}' does not turn speech into text.")
    model.prepare([half.continuation["speech"]])
    for segment in model.decode(model.encode_continuation(half.continuation["speech"])):
        try:
            transcriber.encode_continuation(segment)
        except UnitSystemError as error:
            raise InputError(
                f"pelm.transcriber='{name}' does not read the units of '{model.card.name}': {error} Train one on the "
                "same speech tokenizer (see transcriber-tiny) and name it with --set pelm.transcriber=…."
            ) from None


# --- continuations ----------------------------------------------------------------------------------------------------


def _continue(
    session: Session, wanted: Sequence[Wanted], halves: Sequence[Halves], options: PelmOptions, protocol: Found
) -> dict[str, Found]:
    """What the model said, or why it could not, by id."""
    by_id = {w.id: w for w in wanted}
    unit_seconds: list[float] = []

    def compute(ids: Sequence[str]) -> Iterator[tuple[str, Found]]:
        if options.max_seconds is not None and not unit_seconds and _speaks(w.direction for w in wanted):
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


def _request(wanted: Wanted, options: PelmOptions) -> Continue:
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


def _unit_span(found: Found) -> UnitSpan:
    """The units of a record; how long each lasts is not known."""
    own = tuple(found["ids"])
    return UnitSpan(own, (1,) * len(own), found["rate_hz"], found["system"])


def _reference_units(model: Model, halves: Sequence[Halves]) -> dict[str, Found]:
    """The units of the true continuations, by id of their item."""
    segments = [h.continuation["speech"] for h in halves]
    model.prepare(segments)
    decoded = [model.decode(model.encode_continuation(segment)) for segment in segments]
    spans = [_span([s.units for s in d if isinstance(s, Speech) and s.units]) for d in decoded]
    return {f"reference_units/{h.id}": span for h, span in zip(halves, spans, strict=True) if span}


def _unit_seconds(model: Model, halves: Sequence[Halves]) -> float:
    """Mean length of a unit in the true continuations, in seconds."""
    return sum(h.seconds for h in halves) / sum(len(r["ids"]) for r in _reference_units(model, halves).values())


# --- transcripts ------------------------------------------------------------------------------------------------------


def _transcribe(
    session: Session, units: Mapping[str, Found], options: PelmOptions, protocol: Found
) -> dict[str, Found]:
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
            Continue(i, (Speech(units=_unit_span(units[i])),), "text", len(units[i]["ids"]) // 2 + 16)
            for i in ids
        ]
        refused = {r.id: why for r in requests if (why := generator.refusal(r))}
        yield from ((i, {"failed": f"'{options.transcriber}': {why}"}) for i, why in refused.items())
        for request, found in generator.generate([r for r in requests if r.id not in refused]):
            yield request.id, _said(found, "text")

    judge = protocol["transcriber"]["fingerprint"]
    return session.records({i: digest([judge, units[i]]) for i in units}, compute, what="transcripts")


# --- audio ------------------------------------------------------------------------------------------------------------


def _voice(session: Session, items: Sequence[Item], units: Mapping[str, Found], options: PelmOptions) -> None:
    """Adds audio to the first continuations of each direction, and to the true ones of these prompts.

    The latter tell what the lookup makes of speech that was spoken.
    """
    tokenizers = getattr(session.model, "tokenizers", None)
    if not isinstance(tokenizers, Tokenizers):
        return  # Nothing here says which audio has which units of this model.
    spoken = [i for i in items if i["id"] in units and i["seed"] == 0 and i["kind"] in ("output", "reference_units")]
    heard: dict[str, list[Item]] = {}
    for item in sorted(spoken, key=lambda i: str(i["id"])):
        heard.setdefault(str(item.get("direction", item["kind"])), []).append(item)
    lookups: dict[str, UnitLookup | None] = {}
    for name, own in heard.items():
        for number, item in enumerate(own[: options.audio]):
            example = item["example"]
            if example not in lookups:
                lookups[example] = _lookup(session, tokenizers, example)
            lookup = lookups[example]
            sound = lookup and lookup.sound(_unit_span(units[item["id"]]))
            if sound:
                file = f"{name}-{number}-{re.sub(r'[^A-Za-z0-9.-]+', '_', example)}.flac"
                item["audio_output"] = session.attach(file, sound.flac())
                item["cuttings"], item["missing_units"] = sound.num_cuttings, sound.num_missing


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


# --- items ------------------------------------------------------------------------------------------------------------


def _outputs(
    wanted: Sequence[Wanted], said: Mapping[str, Found], heard: Mapping[str, Found], options: PelmOptions
) -> Iterator[Item]:
    for w in wanted:
        found = said[w.id]
        head = {
            "id": w.id,
            "kind": "scan" if w.scan else "output",
            "direction": w.direction,
            "group": w.halves.speaker,
            "example": w.halves.id,
            "seed": w.seed,
            "temperature": w.temperature,
            "prompt": written(w.halves.prompt),
            "reference": options.normalize(written(w.halves.continuation)),
        }
        spoken = modalities_of(w.direction)[1] == "speech"
        # Where nothing was said there is nothing to transcribe.
        written_down = heard.get(w.id, {"text": ""}) if spoken else found
        if failed := found.get("failed") or written_down.get("failed"):
            yield {**head, "failed": failed}
            continue
        yield {
            **head,
            "text": options.normalize(written_down["text"]),
            **({"units": " ".join(map(str, (found["units"] or {"ids": []})["ids"]))} if spoken else {}),
            "num_tokens": found["num_tokens"],
            "ended": found["ended"],
            "switched": found["switched"],
            **({"audio": w.halves.audio} if w.halves.audio else {}),
        }


def _references(halves: Sequence[Halves], heard: Mapping[str, Found], options: PelmOptions) -> Iterator[Item]:
    for half in halves:
        text = options.normalize(written(half.continuation))
        words = text.split()
        random.Random(f"pelm shuffled {half.id}").shuffle(words)
        found: dict[str, Found] = {"reference_text": {"text": text}, "shuffled_reference": {"text": " ".join(words)}}
        name = f"reference_units/{half.id}"
        if name in heard:
            found["reference_units"] = heard[name]
        for level, own in found.items():
            yield {
                "id": f"{level}/{half.id}",
                "kind": level,
                "group": half.speaker,
                "example": half.id,
                "seed": 0,
                "prompt": written(half.prompt),
                "reference": text,
                **(own if "failed" in own else {"text": options.normalize(own["text"])}),
            }


def _judge(session: Session, items: Sequence[Item], options: PelmOptions, protocol: Found) -> None:
    """Adds to every item with words its negative loglikelihood under the external model, in both scopes (nats)."""
    asked = sorted({(scope, _context(item, scope, options), item["text"]) for item in items if item["text"]
                    for scope in SCOPES})  # fmt: skip
    blocks = {f"block {n}": asked[n : n + _LM_BLOCK] for n in range(0, len(asked), _LM_BLOCK)}

    def compute(names: Sequence[str]) -> Iterator[tuple[str, Found]]:
        lm = session.load_model(options.lm)
        for name in names:
            pools = [(Text(text),) for _, _, text in blocks[name]]
            requests = [
                Request(str(i), (Text(context),) if context else (), "text", "text", pool, (0,))
                for i, ((_, context, _), pool) in enumerate(zip(blocks[name], pools, strict=True))
            ]
            answers = Scorer(lm, batch_tokens=_LM_BATCH_TOKENS).answer(requests)
            nll = [float(-a.values[0]) if isinstance(a, Loglikelihoods) else a.reason for _, a in answers]
            yield name, {"nll": nll}

    judge = protocol["lm"]["fingerprint"]
    found = session.records({n: digest([judge, b]) for n, b in blocks.items()}, compute, what="perplexity")
    nll = {question: value for name, block in blocks.items()
           for question, value in zip(block, found[name]["nll"], strict=True)}  # fmt: skip
    for item in items:
        item["num_words"] = len(item["text"].split())
        if item["text"]:
            values = {scope: nll[scope, _context(item, scope, options), item["text"]] for scope in SCOPES}
            if reasons := [v for v in values.values() if isinstance(v, str)]:
                item["failed"] = reasons[0]
            else:
                item["nll"] = values


def _context(item: Item, scope: str, options: PelmOptions) -> str:
    return options.normalize(item["prompt"]) if scope == "given_prompt" else ""


def _count_token_errors(session: Session, items: Sequence[Item], options: PelmOptions) -> None:
    """Adds to what was transcribed of true continuations the errors in the tokens that the transcriber writes."""
    for item in items:
        if item["kind"] == "reference_units" and "failed" not in item:
            encode = session.load_model(options.transcriber).encode_continuation
            tokens = [" ".join(map(str, encode(Text(item[key])))) for key in ("text", "reference")]
            item["token_errors"], item["reference_tokens"] = agreement.word_errors(*tokens)


def _measured(items: list[Item], references: Mapping[str, str]) -> list[Item]:
    """Adds repetition, copying and agreement."""
    key: Callable[[Item], tuple[Any, ...]] = lambda i: (i["kind"], i.get("direction"), i.get("temperature"), i["seed"])  # noqa: E731
    scored = sorted((i for i in items if "failed" not in i), key=lambda i: (*map(str, key(i)), i["id"]))
    for _, run in itertools.groupby(scored, key):
        group = list(run)
        words = [words_of(i["text"]) for i in group]
        among = repetition.self_bleu(words) if len(words) > 1 else [0.0]
        for item, own, value in zip(group, words, among, strict=True):
            item |= {"auto_bleu": repetition.auto_bleu(own), "self_bleu": value}
        if group[0]["kind"] in ("output", "reference_units"):
            _compare(group, references)
    return items


def _compare(group: Sequence[Item], references: Mapping[str, str]) -> None:
    names = list(references)
    alike = agreement.resemblance([i["text"] for i in group], list(references.values()))
    for item, row in zip(group, alike, strict=True):
        text, reference, prompt = item["text"], item["reference"], words_of(item["prompt"])
        words = words_of(text)
        item["word_errors"], item["reference_words"] = agreement.word_errors(text, reference)
        if item["kind"] == "reference_units":
            item["character_errors"], item["reference_characters"] = agreement.character_errors(text, reference)
            continue
        item["bleu_counts"] = agreement.bleu_counts(text, reference)
        item["chrf"] = agreement.chrf(text, reference)
        item["retrieved"] = rank_of_gold(row, names.index(item["example"]), tolerance=1e-12).recall_at(1)
        if words:
            item["copied_lcs"] = repetition.copied_subsequence(words, prompt)
        if len(words) > 1:
            item["copied_2grams"] = repetition.copied_ngrams(words, prompt)


TASK = Pelm()
