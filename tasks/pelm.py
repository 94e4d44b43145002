"""Perplexity of continuations under an external language model, with the measures that it is blind to beside it.

After the perplexity evaluation of Chou et al. 2023 (arXiv 2310.08715) and of Lakhotia et al. 2021 (Generative Spoken
Language Modeling, arXiv 2102.01192); the protocol is ours, `sutlm-style`: see docs/metrics.md. Each utterance is cut as
in CRA. The model continues the first half in four directions, a named transcriber turns speech units into text, and a
named language model judges the continuation without the prompt. A model that repeats its prompt gets a good perplexity,
so repetition, diversity, copying and agreement with the true second half are measured on the same outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from harness.config import digest
from harness.errors import OptionError, UnitSystemError
from harness.figures import Figure, HeatMap, Scatter
from harness.model import Model
from harness.results import Item, Metric
from harness.segments import DIRECTIONS, Modality, modalities_of
from harness.task import Procedure, ProcedurePlan, Session, TaskInfo

from ._directions import direction_grid
from ._halves import Halves, transcript
from ._pelm_audio import add_audio
from ._pelm_continuations import make_continuations, reference_units, transcribe
from ._pelm_items import count_token_errors, item_of, judge, measured, outputs, references
from ._pelm_metrics import Summary, values_of, vert_of
from ._pelm_options import LEVELS, SCOPES, PelmOptions
from ._pelm_prompts import cut_prompts, possible_directions, speaks, wanted_continuations


class Pelm:
    """The task; see the module's docstring."""

    info = TaskInfo(
        name="pelm",
        version=4,
        description="perplexity of continuations under an external language model, in u2u, u2t, t2u, t2t",
        source="after Chou et al. 2023, arXiv 2310.08715; protocol sutlm-style",
        headline=(
            *(f"pelm.{d}.ppl_corpus" for d in DIRECTIONS),
            *(f"pelm.{d}.given_prompt.ppl_corpus" for d in DIRECTIONS),
            *(f"pelm.{d}.at_reference_vert.ppl_corpus" for d in DIRECTIONS),
            *(f"pelm.{d}.vert" for d in DIRECTIONS),
            *(f"pelm.{r}.{key}" for r in LEVELS for key in ("ppl_corpus", "given_prompt.ppl_corpus")),
            "pelm.reference_units.wer",
            "pelm.reference_units.ter",
        ),
        main=tuple(f"pelm.{d}.ppl_corpus" for d in DIRECTIONS),
    )
    Options = PelmOptions

    def plan(self, session: Session, options: PelmOptions) -> ProcedurePlan[Halves]:
        """The prompts, with the models that judge.

        Raises:
            CorpusError: if fewer than 2 utterances can be cut, or word times are missing where speech is asked for.
            OptionError: if the judge is the judged, or the transcriber does not read the model's units.
        """
        directions = possible_directions(options, session.model)
        halves = cut_prompts(session, options, directions)
        lm = session.load_model(options.lm)
        if "text" not in lm.modalities:
            raise OptionError(f"pelm.lm='{options.lm}' takes no text; name a language model of text.")
        if lm.fingerprint == session.model.fingerprint and not options.force:
            raise OptionError(
                f"pelm.lm='{options.lm}' is the model under evaluation; perplexity under oneself says how likely one's "
                "own favorites are. Name another model, or set pelm.force=true."
            )
        judges = {"lm": {"name": lm.card.name, "fingerprint": lm.fingerprint}}
        if speaks(directions):
            transcriber = session.load_model(options.transcriber)
            _check_units(session.model, transcriber, halves[0], options.transcriber)
            judges["transcriber"] = {"name": transcriber.card.name, "fingerprint": transcriber.fingerprint}
        prompts = digest([[h.id, transcript(h.prompt), transcript(h.continuation), h.audio] for h in halves])
        return ProcedurePlan(
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

    def run(self, session: Session, plan: ProcedurePlan[Halves], options: PelmOptions) -> list[Item]:
        """One record per continuation, with its texts and every score, and one per reference."""
        halves = plan.examples
        directions = possible_directions(options, session.model)
        wanted = wanted_continuations(halves, directions, options)
        said = make_continuations(session, wanted, halves, options, plan.protocol)
        units = {i: r["units"] for i, r in said.items() if r.get("units")}
        if speaks(directions):
            units |= reference_units(session.model, halves)
        heard = transcribe(session, units, options, plan.protocol)
        drafts = [*outputs(wanted, said, heard, options), *references(halves, heard, options)]
        judge(session, [d for d in drafts if "failed" not in d], options, plan.protocol)
        count_token_errors(session, drafts, options)
        add_audio(session, drafts, units, options)
        texts = {h.id: options.normalize(transcript(h.continuation)) for h in halves}
        return [item_of(draft) for draft in measured(drafts, texts)]

    def summarize(self, items: Sequence[Item], options: PelmOptions, *, seed: int) -> dict[str, Metric]:
        """Metrics of every direction and reference level, with intervals clustered by the prompt's speaker."""
        metrics: dict[str, Metric] = {}
        reference = [i for i in items if i.extra["kind"] == "reference_text"]
        for direction in options.directions:
            rows = [i for i in items if i.extra["kind"] == "output" and i.extra["direction"] == direction]
            if rows:
                summary = Summary(f"pelm.{direction}", rows, seed)
                summary.judged()
                summary.outputs(len(reference))
                scan = [i for i in items if i.extra["kind"] == "scan" and i.extra["direction"] == direction]
                if scan and reference:
                    # What was spoken has passed the transcriber, so must what it is compared with.
                    spoken = modalities_of(direction)[1] == "speech"
                    heard = [i for i in items if i.extra["kind"] == "reference_units"] if spoken else reference
                    limit = vert_of(heard or reference) + options.vert_slack
                    summary.at_vert([*scan, *(r for r in rows if r.extra["seed"] == 0)], limit)
                metrics |= summary.metrics
        for level in LEVELS:
            if rows := [i for i in items if i.extra["kind"] == level]:
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
            if item.extra["kind"] == "output":
                for name, value in values_of(item).items():
                    values.setdefault(f"pelm.{item.extra['direction']}.{name}", {})[item.id] = value
        return values

    def figures(self, items: Sequence[Item], metrics: Mapping[str, Metric]) -> list[Figure]:
        """Perplexity by direction, and against how much the outputs repeat: good is low in both."""
        found: list[Figure] = [
            HeatMap(name="ppl_corpus", title="corpus perplexity", keys=direction_grid("pelm.{}.ppl_corpus"))
        ]
        both = {d: [metrics.get(f"pelm.{d}.{key}") for key in ("vert", "ppl_corpus")] for d in DIRECTIONS}
        points = {str(d): (vert.value, ppl.value) for d, (vert, ppl) in both.items() if vert and ppl}
        if points:
            found.append(
                Scatter(
                    name="ppl_by_vert",
                    title="PELM against VERT",
                    caption="each point a direction; a model that repeats itself lies low and far right",
                    x_label="VERT (%), lower is less repetitive",
                    y_label="PELM (corpus perplexity)",
                    points=points,
                    y_log=True,
                )
            )
        return found


def _check_units(model: Model, transcriber: Model, half: Halves, name: str) -> None:
    modalities: set[Modality] = {"speech", "text"}
    if not modalities <= transcriber.modalities:
        raise OptionError(f"pelm.transcriber='{name}' does not turn speech into text.")
    model.prepare([half.continuation["speech"]])
    for segment in model.decode(model.encode_continuation(half.continuation["speech"])):
        try:
            transcriber.encode_continuation(segment)
        except UnitSystemError as error:
            raise UnitSystemError(
                f"pelm.transcriber='{name}' does not read the units of '{model.card.name}': {error} Train one on the "
                "same speech tokenizer (see transcriber-tiny) and name it with --set pelm.transcriber=…."
            ) from None


TASK: Procedure[PelmOptions, ProcedurePlan[Halves]] = Pelm()
