import json
import random
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
import pytest

from harness.corpora import _grammar
from harness.corpora.manifest import SENTIMENTS, Entity, Utterance, read_manifest, write_manifest
from harness.corpora.slue_labels import COMBINED_LABELS, SCORED_LABELS, combined_entities
from harness.engine.finetuned_model import task_tokens
from harness.errors import CorpusError, InputError
from harness.evaluation.evaluate import RunConfig, evaluate
from harness.metrics.classification import classification_scores
from harness.metrics.ner import ner_scores
from harness.metrics.tags import format_tags, mentions
from harness.model import load_model
from harness.results import Item
from harness.segments import Speech, Text, UnitSpan
from harness.task import task_registry
from harness.testing import UniformModel
from harness.training.vocabulary import START, SWITCH_TO
from tests.tiny_decoder import TinyDecoder

SA: Any
NER: Any
SA, NER = (task_registry().load(name) for name in ("slue_sa", "slue_ner"))
SENTENCES = _grammar.sentences("test", 60, seed=1)


class Toy(TinyDecoder):
    """A small random decoder of bytes."""

    modalities = frozenset({"text"})

    def __init__(self):
        super().__init__()
        self.modalities = frozenset({"text"})

    def logits(self, states):
        return self.module.lm_head(states)


# --- counts and statistics against the scorers ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_sentiment_statistics_are_those_of_the_scorer(seed):
    rng = random.Random(seed)
    gold = {f"u{i}": rng.choice(SENTIMENTS) for i in range(40)}
    predicted = {i: rng.choice([*SENTIMENTS, "nothing"]) for i in gold}
    sums = np.sum([SA.columns(predicted[i], gold[i]) for i in gold], axis=0)
    found = {name: float(statistic(sums)) for name, statistic in SA.statistics.items()}
    expected = classification_scores(gold, predicted, SENTIMENTS)
    for name in ("macro_f1", "macro_precision", "macro_recall", "accuracy", "unparsable"):
        assert found[name] == pytest.approx(getattr(expected, name)), name
    for label, scores in expected.per_class.items():
        for name in ("f1", "precision", "recall"):
            assert found[f"{name}_{label.lower()}"] == pytest.approx(getattr(scores, name)), (name, label)
    assert sum(found[f"confusion_negative_{p}"] for p in ("negative", "neutral", "positive", "unparsable")) == (
        pytest.approx(100)
    )


def entities(rng, number):
    found = [[rng.choice(COMBINED_LABELS), rng.choice(["paris", "june", "red cross"])] for _ in range(number)]
    return {"entities": found}


@pytest.mark.parametrize("seed", range(5))
def test_entity_statistics_are_those_of_the_scorer(seed):
    rng = random.Random(seed)
    gold = {f"u{i}": entities(rng, rng.randrange(4)) for i in range(30)}
    predicted = {i: entities(rng, rng.randrange(4)) if rng.random() < 0.7 else gold[i] for i in gold}
    sums = np.sum([NER.columns(predicted[i], gold[i]) for i in gold], axis=0)
    found = {name: float(statistic(sums)) / 100 for name, statistic in NER.statistics.items()}
    sides = [{i: [tuple(m) for m in side[i]["entities"]] for i in side} for side in (gold, predicted)]
    expected = ner_scores(sides[0], sides[1], SCORED_LABELS)
    assert found["f1"] == pytest.approx(expected.f1.micro.f1)
    assert found["precision"] == pytest.approx(expected.f1.micro.precision)
    assert found["recall"] == pytest.approx(expected.f1.micro.recall)
    assert found["macro_f1"] == pytest.approx(expected.f1.macro.f1)
    assert found["label_f1"] == pytest.approx(expected.label_f1.micro.f1)
    assert found["label_precision"] == pytest.approx(expected.label_f1.micro.precision)
    assert found["label_recall"] == pytest.approx(expected.label_f1.micro.recall)
    for label, scores in expected.f1.per_label.items():
        assert found[f"f1_{label.lower()}"] == pytest.approx(scores.f1), label


def test_an_utterance_without_mentions_on_either_side_is_right():
    """F1 of one of two mentions found and nothing else: P = 1, R = 1/2, F1 = 2/3."""
    none: dict[str, list[list[str]]] = {"entities": []}
    two = {"entities": [["PLACE", "paris"], ["WHEN", "june"]]}
    assert NER.score(none, none) == 100
    assert NER.score(two, none) == 0
    assert NER.score({"entities": [["WHEN", "june"]]}, two) == pytest.approx(200 / 3)


# --- labels, tokens, baselines ----------------------------------------------------------------------------------------


def utterance(i, sentence, split):
    return Utterance(
        f"{split}{i:03d}", "a.wav", 16_000, 1.0, sentence.text, f"s{i % 5}", split, None,
        sentence.sentiment, sentence.entities,
    )  # fmt: skip


def test_tagged_transcripts_come_back_from_their_tokens():
    from harness.tasks import slue_ner

    toy: Any = Toy()
    tokens = task_tokens(toy, NER.tokens(toy))
    toy.tokens = tokens
    decode = toy.decode
    toy.decode = lambda ids: decode([i for i in ids if i not in tokens.values()])
    for sentence in SENTENCES:
        tagged = format_tags(sentence.text, combined_entities(sentence.entities))
        assert slue_ner._tagged_text(toy, slue_ner._tagged_ids(toy, tokens, tagged)) == tagged


@pytest.mark.parametrize(("task", "last"), [(SA, ["<sentiment>"]), (NER, ["<entities>", "start"])])
def test_text_and_speech_end_alike_before_an_answer(task, last):
    """What follows a class to be told, or a transcript to be written, does not depend on what was read."""
    model: Any = load_model("sutlm-tiny")
    tokens = {**task_tokens(model, task.tokens(model)), "start": START["text"]}
    units = UnitSpan((3, 5, 3), (2, 1, 4), rate_hz=50, system=model.tokenizers.speech.system)
    end = [SWITCH_TO["text"], *(tokens[name] for name in last)]
    for segment in (Speech(units=units), Text("in lisbon")):
        read = [START[segment.modality], *model.encode_continuation(segment)]
        assert task.context(model, tokens, segment) == [*read, *end]


@pytest.mark.parametrize(("task", "last"), [(SA, "<sentiment>"), (NER, "<entities>")])
def test_in_models_of_text_alone_the_answer_goes_on_in_the_same_text(task, last):
    model, tokens = Toy(), {last: 300}
    assert task.context(model, tokens, Text("lisbon")) == [*model.encode_prompt((Text("lisbon"),), "text"), 300]


def test_gold_is_the_tagged_text_with_combined_labels():
    """`on monday` is WHEN, the polaroid is a PRODUCT, which does not count."""
    text = "ursula met paris on monday with a polaroid"
    found = [Entity("PERSON", 0, 6), Entity("DATE", 20, 6), Entity("PRODUCT", 34, 8)]
    gold = NER.gold(Utterance("u", "a.wav", 16_000, 1.0, text, "s", "test", None, None, tuple(found)))
    assert gold == {
        "text": "<PERSON> ursula </> met paris on <WHEN> monday </> with a polaroid",
        "entities": [["PERSON", "ursula"], ["WHEN", "monday"]],
    }
    assert mentions(text, found)[1] == ("DATE", "monday")


def test_majorities():
    """Of entities the commonest, as many as an utterance has on average: 4 in 2 utterances."""
    assert SA.majority(["Neutral", "Positive", "Negative", "Positive", "Negative"]) == "Negative"
    paris, june, rome = ["PLACE", "paris"], ["WHEN", "june"], ["PLACE", "rome"]
    golds = [{"entities": [paris, june]}, {"entities": [paris, rome]}]
    assert NER.majority(golds) == {"entities": [paris, rome]}


def test_balanced_classes_weigh_the_same_in_all():
    """Three of one and one of another: weights 4 / (2 · 3) and 4 / (2 · 1)."""
    weigh = SA.Options(class_weights="balanced")
    assert SA.weights(["Neutral", "Neutral", "Positive", "Neutral"], weigh) == pytest.approx([2 / 3, 2 / 3, 2, 2 / 3])
    assert SA.weights(["Neutral", "Positive"], SA.Options()) == [1.0, 1.0]


# --- the matrix -------------------------------------------------------------------------------------------------------


def items(cell, labels, *, seed=0, gold=("Negative", "Neutral", "Positive") * 2):
    return [
        Item(
            f"{cell}/{seed}/{i}",
            group=f"s{i % 4}",
            reference=g,
            output=p,
            scores={"score": 100.0 * (g == p)},
            extra={"cell": cell, "seed": seed, "utterance": f"u{i}"},
        )
        for i, (g, p) in enumerate(zip(gold, labels, strict=True))
    ]


RIGHT = ("Negative", "Neutral", "Positive") * 2
HALF = ("Negative", "Neutral", "Positive", "Positive", "Negative", "Neutral")
ALWAYS = ("Neutral",) * 6


def test_confusion_is_counted_over_seeds_in_cells_that_were_trained():
    """Gold each label twice; seed 0 all right, seed 1 half: Negative → Negative 3, Positive 1; one output no label."""
    rows = [
        *items("train_text.test_text", RIGHT),
        *items("train_text.test_text", (*HALF[:-1], "angry"), seed=1),
        *items("majority.test", ALWAYS),
    ]
    [_, found] = SA.figures(rows, {})
    assert found.name == "confusion.train_text.test_text"
    assert found.counts == {
        "Negative": {"Negative": 3, "Neutral": 0, "Positive": 1, "unparsable": 0},
        "Neutral": {"Negative": 1, "Neutral": 3, "Positive": 0, "unparsable": 0},
        "Positive": {"Negative": 0, "Neutral": 0, "Positive": 3, "unparsable": 1},
    }


def test_a_matrix_worked_out_by_hand():
    """Text-trained on text: all right with seed 0, one of two of each class with seed 1, so 100 and 50, mean 75.

    Speech-trained on text 50 and 50. Always Neutral: R = 1, P = 1/3, F1 = 1/2, over three classes 100/6.
    """
    found = SA.summarize(
        [
            *items("train_text.test_text", RIGHT),
            *items("train_text.test_text", HALF, seed=1),
            *items("train_speech.test_text", HALF),
            *items("train_speech.test_text", HALF, seed=1),
            *items("majority.test", ALWAYS),
        ],
        SA.Options(),
        seed=0,
    )
    value = {key.removeprefix("slue_sa."): metric.value for key, metric in found.items()}
    assert value["train_text.test_text.macro_f1"] == pytest.approx(75)
    assert value["train_text.test_text.macro_f1_seed_std"] == pytest.approx(stdev([100, 50]))
    assert value["train_speech.test_text.macro_f1"] == pytest.approx(50)
    assert value["train_speech.test_text.macro_f1_seed_std"] == 0
    assert value["train_speech.test_text.transfer_gap"] == pytest.approx(25)
    assert value["train_speech.test_text.transfer_ratio"] == pytest.approx(2 / 3)
    assert value["majority.test.macro_f1"] == pytest.approx(100 / 6)
    assert value["train_text.test_text.macro_f1_above_majority"] == pytest.approx(75 - 100 / 6)
    assert value["train_text.test_text.confusion_negative_negative"] == pytest.approx(75)
    assert value["train_text.test_text.confusion_negative_positive"] == pytest.approx(25)
    assert "train_text.test_text.transfer_gap" not in value


def test_predictions_without_information_are_at_the_level_of_shuffled_labels():
    """Always Neutral gets the same F1 whichever utterance each label belongs to."""
    found = SA.summarize(
        [*items("train_text.test_text", ALWAYS), *items("majority.test", ALWAYS)], SA.Options(), seed=0
    )
    cell = found["slue_sa.train_text.test_text.macro_f1"]
    assert cell.value == pytest.approx(100 / 6)
    assert cell.chance == pytest.approx(cell.value)
    assert found["slue_sa.train_text.test_text.macro_f1_shuffled"].value == pytest.approx(cell.value)
    above = found["slue_sa.train_text.test_text.macro_f1_above_majority"]
    assert above.value == 0.0
    assert above.ci95[0] == -above.ci95[1] < -20  # six utterances that agree say little


def test_seeds_that_differ_widen_the_interval():
    rng = random.Random(0)
    gold = [rng.choice(SENTIMENTS) for _ in range(60)]
    good = [g if rng.random() < 0.9 else rng.choice(SENTIMENTS) for g in gold]
    bad = [g if rng.random() < 0.3 else rng.choice(SENTIMENTS) for g in gold]

    def width(*runs):
        rows = [i for seed, run in enumerate(runs) for i in items("train_text.test_text", run, seed=seed, gold=gold)]
        rows += items("majority.test", ["Neutral"] * 60, gold=gold)
        low, high = SA.summarize(rows, SA.Options(), seed=0)["slue_sa.train_text.test_text.macro_f1"].ci95
        return high - low

    assert width(good, bad, good) > 2 * width(good, good, good)
    assert width(good, good, good) == pytest.approx(width(good), rel=0.05)


def test_the_mean_of_the_utterances_scores_is_their_metric():
    rows = [*items("train_text.test_text", RIGHT), *items("train_text.test_text", HALF, seed=1)]
    rows += items("majority.test", ALWAYS)
    values, metrics = SA.item_values(rows, SA.Options()), SA.summarize(rows, SA.Options(), seed=0)
    assert set(values) == {"slue_sa.train_text.test_text.accuracy", "slue_sa.majority.test.accuracy"}
    for key, by_item in values.items():
        assert metrics[key].value == pytest.approx(np.mean(list(by_item.values())))


def test_linearized_values_average_to_their_metrics_and_follow_seeds():
    rows = [*items("train_text.test_text", RIGHT), *items("train_text.test_text", HALF, seed=1)]
    rows += items("majority.test", ALWAYS)
    values, metrics = SA.linearized(rows, SA.Options()), SA.summarize(rows, SA.Options(), seed=0)
    cells = ("train_text.test_text", "majority.test")
    assert set(values) == {f"slue_sa.{c}.macro_{m}" for c in cells for m in ("f1", "precision", "recall")}
    for key, by_item in values.items():
        assert metrics[key].value == pytest.approx(np.mean(list(by_item.values())))
    of_seed = values["slue_sa.train_text.test_text.macro_f1"]
    assert np.mean([v for i, v in of_seed.items() if "/0/" in i]) == pytest.approx(100)
    assert {SA.replicate_of(i) for i in rows if i.id.endswith("/0/3")} == {("u3", 0), None}


def test_the_interval_of_the_mean_of_scores_is_over_seeds_too():
    """Of entities: with seeds of 100 and 0 the interval is far wider than over the utterances of their mean."""
    gold: Any = {"entities": [["PLACE", "rome"]]}
    nothing: Any = {"entities": []}
    rows = [
        replace(item, output=output, reference=gold, scores={"score": score})
        for seed, (output, score) in enumerate([(gold, 100.0), (nothing, 0.0)])
        for item in items("train_text.test_text", RIGHT, seed=seed)
    ]
    found = NER.summarize(
        [*rows, *(replace(i, output=gold, reference=gold) for i in items("majority.test", RIGHT))],
        NER.Options(),
        seed=0,
    )["slue_ner.train_text.test_text.utterance_f1"]
    assert (found.value, found.ci95) == (50.0, (0.0, 100.0))


# --- whole runs on a toy ----------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path):
    """A sentence is Positive where it begins with `good`, Negative where with `bad`; names in it are two letters."""
    rng, rows = random.Random(0), []
    for split, number in (("train", 60), ("dev", 12), ("test", 12)):
        for i in range(number):
            sentiment = SENTIMENTS[i % 3]
            first = {"Negative": "bad", "Neutral": "no", "Positive": "good"}[sentiment]
            text = f"{first} {rng.choice(['xy', 'yz', 'zx'])}"
            name = Entity("PERSON", len(first) + 1, 2)
            rows.append(
                Utterance(f"{split}{i}", "a.wav", 16_000, 1.0, text, f"s{i % 4}", split, None, sentiment, (name,))
            )
    write_manifest(tmp_path / "toy.jsonl", rows)
    return str(tmp_path / "toy.jsonl")


def run(corpus, task, **settings):
    usual = {"train_on": ["text"], "test_on": ["text"], "seeds": 1, "learning_rates": [1e-2], "batch_size": 8}
    config = RunConfig((task,), corpus, settings={task: {**usual, **settings}})
    return evaluate(Toy(), config).tasks[task]


@pytest.mark.parametrize("head", ["classifier", "likelihood", "generation"])
def test_sentiment_is_learned_by_every_head(empty_home, corpus, head):
    result = run(corpus, "slue_sa", head=head, epochs=12, patience=12)
    assert result.metrics["slue_sa.train_text.test_text.macro_f1"].value == 100
    assert result.metrics["slue_sa.train_text.test_text.macro_f1_above_majority"].value > 50
    assert [Item.of(json.loads(json.dumps(i.data())), where="items") for i in result.items] == result.items


def test_labels_dealt_out_at_random_teach_nothing(empty_home, corpus):
    result = run(corpus, "slue_sa", control="shuffled_labels", epochs=4)
    assert result.metrics["slue_sa.train_text.test_text.macro_f1"].value < 70


def test_words_are_classified(empty_home, corpus):
    result = run(corpus, "slue_ner", head="tokens", epochs=12, patience=12)
    assert result.metrics["slue_ner.train_text.test_text.f1"].value == 100
    assert result.metrics["slue_ner.train_text.test_text.label_f1"].value == 100
    assert result.metrics["slue_ner.train_text.test_text.seqeval_f1"].value == 100


def test_the_rate_with_the_lowest_dev_loss_serves_every_seed(empty_home, corpus):
    result = run(corpus, "slue_sa", learning_rates=[1e-7, 1e-2], seeds=2, epochs=2)
    assert result.metrics["slue_sa.train_text.training.learning_rate"].value == 1e-2
    trainings = [i for i in result.items if i.id.startswith("training.")]
    assert [(i.extra["seed"], i.scores["learning_rate"]) for i in trainings] == [(0, 1e-2), (1, 1e-2)]
    assert len(list(empty_home.glob("finetuned/*/model.safetensors"))) == 2
    assert len(list(empty_home.glob("finetuned/*/record.json"))) == 3


def test_an_utterance_that_does_not_fit_fails(empty_home, corpus, tmp_path):
    """The longest others take 7 letters, a start and the task token."""
    rows = [
        *read_manifest(Path(corpus)),
        Utterance("long", "a.wav", 16_000, 1.0, "x" * 40, "s", "test", None, "Neutral"),
    ]
    write_manifest(tmp_path / "long.jsonl", rows)
    model = Toy()
    model.max_length = 20
    settings = {"train_on": ["text"], "test_on": ["text"], "seeds": 1, "epochs": 1}
    task = evaluate(model, RunConfig(("slue_sa",), str(tmp_path / "long.jsonl"), settings={"slue_sa": settings})).tasks[
        "slue_sa"
    ]
    assert [(i.extra["utterance"], i.failed) for i in task.items if i.failed] == [
        ("long", "input and answer take 43 tokens, which is more than the model's 20")
    ]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (SA, {"train_on": ()}, "train_on names at least one"),
        (SA, {"test_on": ("text", "text")}, "test_on names at least one, each once"),
        (SA, {"seeds": 0}, "seeds is at least 1"),
        (SA, {"epochs": 0}, "epochs is at least 1"),
        (NER, {"head": "tokens"}, r"slue_ner.train_on=\[text\]"),
    ],
)
def test_options_that_make_no_sense_are_refused(task, settings, message):
    with pytest.raises(InputError, match=message):
        task.Options(**settings)


def test_the_training_split_is_no_test(corpus):
    with pytest.raises(InputError, match="test on another split than 'train'"):
        evaluate(Toy(), RunConfig(("slue_sa",), corpus, split="train"))


def test_missing_labels_are_told(tmp_path):
    rows = [Utterance(f"{s}{i}", "a.wav", 16_000, 1.0, "x", "s", s) for s in ("train", "dev", "test") for i in (0, 1)]
    write_manifest(tmp_path / "bare.jsonl", rows)
    with pytest.raises(CorpusError, match="2 of 2 utterances of bare:train, such as 'train0', lack the labels"):
        evaluate(Toy(), RunConfig(("slue_ner",), str(tmp_path / "bare.jsonl")))


def test_what_is_labeled_for_it_is_trained_on_before_the_training_split(tmp_path):
    splits = ("fine-tune", "train", "dev", "test")
    write_manifest(tmp_path / "both.jsonl", [Utterance(s, "a.wav", 16_000, 1.0, "x", "s", s) for s in splits])
    with pytest.raises(CorpusError, match="1 of 1 utterances of both:fine-tune, such as 'fine-tune', lack the labels"):
        evaluate(Toy(), RunConfig(("slue_ner",), str(tmp_path / "both.jsonl")))


def test_a_text_model_is_not_trained_on_speech_alone(corpus):
    with pytest.raises(InputError, match="A model of text cannot be trained on speech"):
        run(corpus, "slue_sa", train_on=["speech"])


def test_a_model_without_a_decoder_is_refused(corpus):
    with pytest.raises(InputError, match="cannot be fine-tuned"):
        evaluate(UniformModel(), RunConfig(("slue_sa",), corpus))
