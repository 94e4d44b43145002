"""Items of PELM: texts of continuations and references with every score of each."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.config import digest
from harness.engine.scoring import Scorer
from harness.metrics import agreement, repetition
from harness.metrics.repetition import words_of
from harness.metrics.retrieval import rank_of_gold
from harness.results import Item
from harness.segments import Text, modalities_of
from harness.task import Loglikelihoods, Request, Session

from ._halves import Halves, transcript
from ._pelm_continuations import Found
from ._pelm_options import SCOPES, PelmOptions
from ._pelm_prompts import ContinuationSpec

#: Texts that the external model reads together, and tokens of a batch: fixed, so that no rounding hangs on the run.
_LM_BLOCK, _LM_BATCH_TOKENS = 64, 4096
#: What an item will hold, while its scores are being added.
Draft = dict[str, Any]
_TEXTS = {"prompt": "prompt", "reference": "reference", "text": "output"}
_HEAD = ("id", "group", "failed")
_EXTRA = (
    "kind", "direction", "example", "seed", "temperature", "units", "audio", "audio_output", "segments",
    "missing_units",
)  # fmt: skip


def item_of(draft: Draft) -> Item:
    """The finished item: what is neither text nor identification is a score."""
    texts = {field: draft[name] for name, field in _TEXTS.items() if name in draft}
    known = {*_HEAD, *_TEXTS, *_EXTRA}
    return Item(
        **{name: draft[name] for name in _HEAD if name in draft},
        **texts,
        scores={name: value for name, value in draft.items() if name not in known},
        extra={name: draft[name] for name in _EXTRA if name in draft},
    )


def outputs(
    wanted: Sequence[ContinuationSpec], said: Mapping[str, Found], heard: Mapping[str, Found], options: PelmOptions
) -> Iterator[Draft]:
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
            "prompt": transcript(w.halves.prompt),
            "reference": options.normalize(transcript(w.halves.continuation)),
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


def references(halves: Sequence[Halves], heard: Mapping[str, Found], options: PelmOptions) -> Iterator[Draft]:
    for half in halves:
        text = options.normalize(transcript(half.continuation))
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
                "prompt": transcript(half.prompt),
                "reference": text,
                **(own if "failed" in own else {"text": options.normalize(own["text"])}),
            }


def judge(session: Session, items: Sequence[Draft], options: PelmOptions, protocol: Found) -> None:
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


def _context(item: Draft, scope: str, options: PelmOptions) -> str:
    return options.normalize(item["prompt"]) if scope == "given_prompt" else ""


def count_token_errors(session: Session, items: Sequence[Draft], options: PelmOptions) -> None:
    """Adds to what was transcribed of true continuations the errors in the tokens that the transcriber writes."""
    for item in items:
        if item["kind"] == "reference_units" and "failed" not in item:
            encode = session.load_model(options.transcriber).encode_continuation
            tokens = [" ".join(map(str, encode(Text(item[key])))) for key in ("text", "reference")]
            item["token_errors"], item["reference_tokens"] = agreement.word_errors(*tokens)


def measured(items: list[Draft], references: Mapping[str, str]) -> list[Draft]:
    """Adds repetition, copying and agreement."""
    key: Callable[[Draft], tuple[Any, ...]] = lambda i: (i["kind"], i.get("direction"), i.get("temperature"), i["seed"])  # noqa: E731
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


def _compare(group: Sequence[Draft], references: Mapping[str, str]) -> None:
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
