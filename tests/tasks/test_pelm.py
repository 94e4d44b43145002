import io
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from harness.config import build, parse_settings
from harness.corpora.corpus import open_corpus
from harness.corpora.manifest import Utterance, write_manifest
from harness.engine.scoring import Scorer
from harness.errors import CorpusError, InputError, TaskError
from harness.evaluation.evaluate import RunConfig, evaluate
from harness.evaluation.store import RowStore
from harness.metrics.agreement import word_errors
from harness.model import load_model
from harness.results import Item
from harness.segments import AudioSpan, Text
from harness.task import Request, task_registry
from tests.tasks import word_models

NOUNS, VERBS = ["cat", "dog", "king"], ["saw", "met", "fed", "lost"]


def sentences(n, seed):
    """Ten words in two halves of the same shape; a noun comes up again in one of three."""
    draw = random.Random(seed)
    return [
        " ".join(
            part
            for _ in range(2)
            for part in ("the", draw.choice(NOUNS), draw.choice(VERBS), "the", draw.choice(NOUNS))
        )
        for _ in range(n)
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Cards of a parrot, an honest model and a judge, and a corpus of what they talk about."""
    folder = tmp_path_factory.mktemp("pelm")
    texts = list(dict.fromkeys(sentences(200, 1)))
    write_manifest(
        folder / "test.jsonl",
        [Utterance(f"u{i:02}", "a.wav", 16_000, 1.0, t, f"s{i % 6}", "test") for i, t in enumerate(texts)],
    )
    for name, kind, seed in (("parrot", "parrot", 2), ("honest", "bigram", 3), ("judge", "bigram", 4)):
        (folder / f"{name}.txt").write_text("\n".join(sentences(400, seed)))
        card = {"name": name, "adapter": f"{word_models.__file__}:MODEL", "checkpoint": "none"}
        (folder / f"{name}.yaml").write_text(
            json.dumps({**card, "options": {"kind": kind, "text": f"{name}.txt", "period": 5}})
        )
    return folder


def run(world, name, *settings, limit=None, store=None, **changes):
    settings = ("directions=[t2t]", f"lm={world / 'judge.yaml'}", "max_new_tokens=12", *settings)
    config = RunConfig(
        ("pelm",), str(world / "test.jsonl"), limit=limit, settings={"pelm": parse_settings(settings)}, **changes
    )
    return evaluate(load_model(str(world / f"{name}.yaml")), config, store=store).tasks["pelm"]


@pytest.fixture(scope="module")
def parrot(world):
    return run(world, "parrot", "scan=[2,3,5,7]", "temperature=1")


@pytest.fixture(scope="module")
def honest(world):
    return run(world, "honest", "scan=[0.5,0.8,1.5]", "temperature=1")


def value(result, key):
    return result.metrics[f"pelm.{key}"].value


def outputs(result, kind="output"):
    return [i for i in result.items if i.extra["kind"] == kind]


# --- the parrot -------------------------------------------------------------------------------------------------------


def test_a_parrot_has_a_good_perplexity(parrot, honest):
    """It says again what was well said: as good as the truth, and better than what lost its order."""
    assert value(parrot, "t2t.ppl_corpus") < 1.1 * value(honest, "t2t.ppl_corpus")
    assert value(parrot, "t2t.ppl_corpus") < 0.5 * value(parrot, "shuffled_reference.ppl_corpus")


def test_and_is_bad_at_everything_else(parrot, honest):
    assert value(parrot, "t2t.copied_lcs") < 60  # twelve words hold the prompt's four in order at most once
    assert value(parrot, "t2t.copied_2grams") > 60 > value(honest, "t2t.copied_2grams")
    assert value(parrot, "t2t.auto_bleu") > 80 > 40 > value(honest, "t2t.auto_bleu")
    assert value(parrot, "t2t.vert") > value(honest, "t2t.vert")
    assert value(parrot, "t2t.vert") > value(parrot, "reference_text.vert")
    assert value(parrot, "t2t.wer") > value(honest, "t2t.wer")
    assert value(parrot, "t2t.distinct_2") < value(honest, "t2t.distinct_2")


def test_at_the_references_vert_a_parrot_is_visibly_worse(parrot, honest):
    """Only noise stops it from repeating."""
    assert value(parrot, "t2t.at_reference_vert.reached") == value(honest, "t2t.at_reference_vert.reached") == 1
    assert value(parrot, "t2t.at_reference_vert.ppl_corpus") > 2 * value(honest, "t2t.at_reference_vert.ppl_corpus")


def test_without_a_temperature_that_repeats_so_little_there_is_no_such_number(world):
    result = run(world, "parrot", "scan=[0.5]", "seeds=1", limit=20)
    assert value(result, "t2t.at_reference_vert.reached") == 0
    assert "pelm.t2t.at_reference_vert.ppl_corpus" not in result.metrics


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_perplexity_is_that_of_the_continuation_under_the_judge(world, honest):
    """exp of the nats of all words together over their number, of each text scored by itself."""
    judge = load_model(str(world / "judge.yaml"))
    for scope, prefix in (("alone", ""), ("given_prompt", "given_prompt.")):
        nll = words = 0.0
        for item in outputs(honest):
            if not item.output:
                continue
            prompt = (Text(item.prompt),) if scope == "given_prompt" else ()
            request = Request("r", prompt, "text", "text", (Text(item.output),), (0,))
            [(_, answer)] = Scorer(judge).answer([request])
            assert item.scores["nll"][scope] == pytest.approx(-answer.values[0], rel=1e-4)
            nll, words = nll - float(answer.values[0]), words + len(item.output.split())
        assert value(honest, f"t2t.{prefix}ppl_corpus") == pytest.approx(math.exp(nll / words), rel=1e-4)


def test_an_honest_model_is_near_the_topline_and_far_from_the_floor(honest):
    top, own, floor = (value(honest, f"{k}.ppl_corpus") for k in ("reference_text", "t2t", "shuffled_reference"))
    assert own < 1.5 * top < floor
    low, high = honest.metrics["pelm.t2t.ppl_corpus"].ci95
    assert 1 <= low < own < high
    assert value(honest, "reference_text.empty_share") == 0


def test_retrieval_is_compared_with_chance(honest, parrot):
    n = len(outputs(honest, "reference_text"))
    assert honest.metrics["pelm.t2t.retrieval.r_at_1"].chance == pytest.approx(1 / n)
    low, high = parrot.metrics["pelm.t2t.retrieval.r_at_1"].ci95
    assert low <= 5 / n
    assert 0 <= low <= high <= 1


def test_empty_outputs_are_counted_and_have_no_perplexity(world, honest):
    """The bigram model sometimes ends at once: those are no zeros in the mean."""
    empty = [i for i in outputs(honest) if not i.output]
    assert value(honest, "t2t.empty_share") == pytest.approx(len(empty) / len(outputs(honest)))
    assert all("nll" not in i.scores and i.scores["num_words"] == 0 for i in empty)
    assert value(run(world, "honest", "min_new_tokens=2", "scan=[]", limit=8), "t2t.empty_share") == 0


def test_items_tell_what_was_said_and_how_it_scored(honest):
    first = outputs(honest)[0]
    assert first.id == f"t2t/{first.extra['example']}/0"
    assert {"auto_bleu", "self_bleu", "chrf"} <= set(first.scores)
    assert first.reference
    assert first.group
    assert first.extra["temperature"] == 1.0
    assert len(first.prompt.split()) == 5
    assert len({i.id for i in honest.items}) == len(honest.items)
    counts = {kind: len(outputs(honest, kind)) for kind in ("output", "scan", "reference_text", "shuffled_reference")}
    n = counts["reference_text"]
    assert counts == {"output": 3 * n, "scan": 3 * n, "reference_text": n, "shuffled_reference": n}
    assert not outputs(honest, "reference_units")


def test_the_floor_has_the_words_of_the_reference(honest):
    by_example = {i.extra["example"]: i for i in outputs(honest, "reference_text")}
    for item in outputs(honest, "shuffled_reference"):
        assert sorted(item.output.split()) == sorted(by_example[item.extra["example"]].output.split())


# --- the protocol -----------------------------------------------------------------------------------------------------


def test_whoever_judges_stands_in_the_protocol(world, honest):
    judge = load_model(str(world / "judge.yaml"))
    assert honest.protocol["lm"] == {"name": "judge", "fingerprint": judge.fingerprint}
    assert "transcriber" not in honest.protocol  # nothing was spoken
    assert f"|lm:judge@{judge.fingerprint[:4]}|" in honest.signature
    assert "|autobleu:gslm|" in honest.signature
    assert "|temperature:1.0|" in honest.signature


def test_results_do_not_depend_on_the_batch_or_on_stops(world, tmp_path):
    settings = ("scan=[1.2]", "seeds=2")
    once = run(world, "honest", *settings, limit=10)
    with RowStore(tmp_path / "rows.sqlite3") as store:
        half = run(world, "honest", *settings, limit=10, store=store, batch_tokens=64)
        again = run(world, "honest", *settings, limit=10, store=store)
    assert once.items == half.items == again.items
    assert once.metrics == half.metrics == again.metrics
    assert run(world, "honest", *settings, limit=10, seed=1).items != once.items


def test_nobody_is_their_own_judge_unless_forced(world):
    own = f"lm={world / 'honest.yaml'}"
    with pytest.raises(InputError, match=r"is the model under evaluation.*pelm\.force=true"):
        run(world, "honest", own, limit=4)
    assert run(world, "honest", own, "force=true", "scan=[]", limit=4).metrics


def test_directions_that_a_model_lacks_are_left_out_or_refused(world):
    result = run(world, "honest", "directions=[t2t,u2t]", "scan=[]", limit=4)
    assert {i.extra["direction"] for i in outputs(result)} == {"t2t"}
    with pytest.raises(InputError, match="none of the directions u2t"):
        run(world, "honest", "directions=[u2t]", limit=4)


def test_a_corpus_of_one_utterance_is_refused(world, tmp_path):
    corpus = open_corpus(str(world / "test.jsonl"), "test")
    write_manifest(tmp_path / "one.jsonl", corpus.utterances[:1])
    config = RunConfig(("pelm",), str(tmp_path / "one.jsonl"), settings={"pelm": {"directions": ("t2t",)}})
    with pytest.raises(CorpusError, match="offers 1, asked for 100"):
        evaluate(load_model(str(world / "honest.yaml")), config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 1}, "n ≥ 2"),
        ({"audio": -1}, "audio ≥ 0"),
        ({"seeds": 0}, "seeds ≥ 1"),
        ({"scan": (0.8,)}, "further temperatures than 0.8"),
        ({"scan": (0.5, 0.5)}, "further temperatures"),
        ({"scan": (-1.0,)}, "temperature ≥ 0"),
        ({"top_p": 2.0}, "top_p"),
    ],
)
def test_options_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build(task_registry().load("pelm").Options, settings, where="pelm")


def test_words_are_normalized_as_the_option_says():
    options: Any = build(task_registry().load("pelm").Options, {}, where="pelm")
    assert options.normalize("Don't STOP, 2nd — ⁇ time!") == "don't stop 2nd time"
    assert replace(options, normalizer="none").normalize("Don't STOP!") == "Don't STOP!"


# --- speech -----------------------------------------------------------------------------------------------------------


def speak(world, *settings):
    """The shipped model as its own transcriber, whatever units it reads."""
    settings = ("directions=[t2u]", f"lm={world / 'judge.yaml'}", "transcriber=sutlm-tiny", "seeds=2", "scan=[]",
                "max_new_tokens=12", "min_new_tokens=3", *settings)  # fmt: skip
    config = RunConfig(("pelm",), "demo", limit=3, settings={"pelm": parse_settings(settings)})
    return evaluate(load_model("sutlm-tiny"), config)


@pytest.fixture(scope="module")
def spoken(world):
    return speak(world, "audio=2")


def test_some_of_what_was_spoken_can_be_heard(spoken):
    """Two prompts of the direction, one seed each, and what was really said after them."""
    result = spoken.tasks["pelm"]
    heard = {i.id: i for i in result.items if "audio_output" in i.extra}
    prompts = sorted({i.extra["example"] for i in result.items})[:2]
    assert set(heard) == {name for p in prompts for name in (f"t2u/{p}/0", f"reference_units/{p}")}
    assert set(result.files) == {i.extra["audio_output"] for i in heard.values()}
    for item in heard.values():
        wave, rate = sf.read(io.BytesIO(result.files[item.extra["audio_output"]]))
        assert rate == 22_050
        assert 0.1 < np.abs(wave).max() < 1
        assert item.extra["missing_units"] == 0 < item.extra["segments"]


def test_what_is_heard_has_nearly_the_units_that_were_said(spoken, tmp_path):
    """Units change where segments meet: about one error a joint."""
    speech: Any = load_model("sutlm-tiny")
    said: list[Item] = []
    files: list[Path] = []
    for item in spoken.tasks["pelm"].items:
        if "audio_output" in item.extra and "units" in item.extra:
            said.append(item)
            files.append(tmp_path / f"{len(files)}.flac")
            files[-1].write_bytes(spoken.tasks["pelm"].files[item.extra["audio_output"]])
    found = speech.tokenizers.speech.encode([AudioSpan(f) for f in files])
    for item, units in zip(said, found, strict=True):
        errors, _ = word_errors(" ".join(map(str, units.units)), item.extra["units"])
        assert errors <= 2 * item.extra["segments"] < 2 * len(item.extra["units"].split())


def test_audio_changes_no_number(spoken, world):
    silent = speak(world, "audio=0")
    assert not silent.tasks["pelm"].files
    assert silent.run_id == spoken.run_id
    assert silent.metrics == spoken.metrics
    assert silent.tasks["pelm"].protocol == spoken.tasks["pelm"].protocol
    assert silent.tasks["pelm"].signature == spoken.tasks["pelm"].signature


def test_what_the_transcriber_cannot_read_has_failed_and_is_not_empty(world, monkeypatch):
    def short(name, *, device):
        model: Any = load_model(name, device=device)
        if name == "sutlm-tiny":
            model.max_length = 8
        return model

    monkeypatch.setattr("harness.evaluation.evaluate.load_model", short)
    with pytest.raises(TaskError, match=r"scored 6 of \d+ items.*'sutlm-tiny': a prompt of \d+ tokens leaves no room"):
        speak(world)


def test_the_transcribers_errors_on_true_continuations_stand_beside(spoken):
    """In words, characters, and the tokens that it writes; the sums of the items give the rates."""
    result = spoken.tasks["pelm"]
    for name, what in (("wer", "word"), ("cer", "character"), ("ter", "token")):
        rows = outputs(result, "reference_units")
        rate = 100 * sum(r.scores[f"{what}_errors"] for r in rows) / sum(r.scores[f"reference_{what}s"] for r in rows)
        assert value(result, f"reference_units.{name}") == pytest.approx(rate)


def test_a_transcriber_of_other_units_is_refused(world):
    model = load_model("sutlm-tiny")
    settings = {"directions": ("t2u",), "lm": str(world / "judge.yaml"), "transcriber": str(world / "judge.yaml")}
    with pytest.raises(InputError, match="does not turn speech into text"):
        evaluate(model, RunConfig(("pelm",), "demo", limit=2, settings={"pelm": settings}))
