import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.corpora.manifest import Entity
from harness.corpora.slue import COMBINED, COMBINED_LABELS, RAW_LABELS
from harness.errors import InputError
from harness.metrics.ner import PRF, Counts, micro_f1, ner_scores, read_mentions, score_files, seqeval_scores
from harness.metrics.tags import bio_labels, mentions

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def approx(precision, recall, f1):
    return pytest.approx({"precision": precision, "recall": recall, "f1": f1}, abs=1e-12)


def test_golden_files():
    """Worked by hand.

    u1: gold europe twice, today once; predicted europe once, today twice: PLACE 1 of 2 gold, 1 predicted; WHEN 1, 2.
    u2: predicted are (PERSON, lovelace), as `<PERSON> ada` is opened anew, and (WHEN, eighteen forty), as DATE drops
        the ORG that it opens in; NORP is empty, LAW never closed.
    u3: FAC is discarded on both sides; London is not london. u4: CITY is no label. u5: ORDINAL and CARDINAL are QUANT.

    (tp, gold, predicted): PLACE 1 3 2 · WHEN 2 2 3 · PERSON 0 1 1 · ORG 0 1 0 · QUANT 1 1 1 · LAW 0 1 0 · CITY 0 0 1;
    together 4 9 8, so P = 4/8, R = 4/9, F1 = 8/17. Macro over 7 labels: P = (1/2 + 2/3 + 1) / 7,
    R = (1/3 + 1 + 1) / 7, F1 = (0.4 + 0.8 + 1) / 7.
    Labels alone: PLACE 2 3 2 · PERSON 1 1 1, else the same; together 6 9 8.
    """
    found = score_files(GOLDEN / "ner_gold.jsonl", GOLDEN / "ner_pred.jsonl").to_json()
    assert found["f1"]["micro"] == approx(1 / 2, 4 / 9, 8 / 17)
    assert found["f1"]["macro"] == approx((1 / 2 + 2 / 3 + 1) / 7, (1 / 3 + 2) / 7, 2.2 / 7)
    assert found["label_f1"]["micro"] == approx(3 / 4, 6 / 9, 12 / 17)
    assert found["label_f1"]["macro"] == approx((1 + 2 / 3 + 2) / 7, (2 / 3 + 3) / 7, 3.6 / 7)
    zero = {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert found["f1"]["per_label"] == {
        "CITY": zero,
        "LAW": zero,
        "ORG": zero,
        "PERSON": zero,
        "PLACE": approx(1 / 2, 1 / 3, 0.4),
        "QUANT": approx(1, 1, 1),
        "WHEN": approx(2 / 3, 1, 0.8),
    }
    assert found["label_f1"]["per_label"]["PERSON"] == approx(1, 1, 1)


def test_counts_of_utterances_sum_to_micro():
    found = score_files(GOLDEN / "ner_gold.jsonl", GOLDEN / "ner_pred.jsonl").f1
    assert found.counts == {
        "u1": Counts(2, 3, 3),
        "u2": Counts(1, 3, 2),
        "u3": Counts(0, 1, 1),
        "u4": Counts(0, 0, 1),
        "u5": Counts(1, 2, 1),
    }
    assert found.label_counts["WHEN"] == Counts(2, 2, 3)
    table = [(c.tp, c.gold, c.predicted) for c in found.counts.values()]
    assert micro_f1(np.sum(table, axis=0)) == pytest.approx(found.micro.f1, abs=1e-15)


def test_nothing_to_find_and_nothing_found_is_zero():
    found = ner_scores({"a": [], "b": [("FAC", "big ben")]}, {"a": [], "b": [("EVENT", "fair")]})
    assert found.f1.micro == found.f1.macro == found.label_f1.micro == PRF(0.0, 0.0, 0.0)
    assert found.f1.per_label == {}
    assert found.f1.counts["b"] == Counts(0, 0, 0)


def test_utterances_without_entities_add_nothing():
    gold, predicted = {"a": [("GPE", "rome")]}, {"a": [("GPE", "rome"), ("ORG", "eu")]}
    with_empty = ner_scores(gold | {"b": []}, predicted | {"b": []})
    assert with_empty.to_json() == ner_scores(gold, predicted).to_json()


def test_perfect_is_one():
    gold = {str(k): [(label, f"phrase {k}")] for k, label in enumerate(RAW_LABELS)}
    found = ner_scores(gold, gold)
    assert found.f1.micro == found.f1.macro == found.label_f1.macro == PRF(1.0, 1.0, 1.0)
    assert tuple(found.f1.per_label) == COMBINED_LABELS


def test_phrases_compare_as_they_are_written():
    assert ner_scores({"a": [("GPE", "new york")]}, {"a": [("GPE", "new  york")]}).f1.micro.f1 == 0


def mention_scores(gold, predicted, mapping, *, phrases):
    """Micro, macro and per-label precision, recall, F1 of mentions: every gold one strikes out one equal prediction."""
    counts: dict[str, list[int]] = {}
    for utterance in gold:
        sides = []
        for side in (gold[utterance], predicted[utterance]):
            mapped = [(mapping.get(label, label), phrase) for label, phrase in side]
            sides.append([(label, phrase if phrases else "phrase") for label, phrase in mapped if label is not None])
        left = list(sides[1])
        for mention in sides[0]:
            count = counts.setdefault(mention[0], [0, 0, 0])
            count[1] += 1
            if mention in left:
                left.remove(mention)
                count[0] += 1
        for label, _ in sides[1]:
            counts.setdefault(label, [0, 0, 0])[2] += 1

    def prf(tp, of_gold, of_predicted):
        precision = tp / of_predicted if of_predicted else 0
        recall = tp / of_gold if of_gold else 0
        return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0

    per_label = {label: prf(*count) for label, count in counts.items()}
    macro = tuple(sum(s[k] for s in per_label.values()) / len(per_label) if per_label else 0 for k in range(3))
    return {
        "micro": prf(*(sum(c[k] for c in counts.values()) for k in range(3))),
        "macro": macro,
        "per_label": per_label,
    }


LABELS = st.sampled_from([*RAW_LABELS, *COMBINED_LABELS])
UTTERANCE = st.lists(st.tuples(LABELS, st.sampled_from(["a", "b", "a b", ""])), max_size=5)
STRANGE = st.lists(
    st.tuples(LABELS | st.sampled_from(["CITY", "DISCARD", ""]), st.sampled_from(["a", "b"])), max_size=5
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(UTTERANCE, STRANGE), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_equals_the_oracle_in_any_order(utterances, order):
    gold = {f"u{k}": g for k, (g, _) in enumerate(utterances)}
    predicted = {f"u{k}": p for k, (_, p) in enumerate(utterances)}
    found = ner_scores(gold, predicted)
    for measure, scores in (("f1", found.f1), ("label_f1", found.label_f1)):
        expected = mention_scores(gold, predicted, COMBINED, phrases=measure == "f1")
        assert set(scores.per_label) == set(expected["per_label"])
        for label, prf in expected["per_label"].items():
            assert scores.per_label[label].to_json() == approx(*prf)
        assert scores.micro.to_json() == approx(*expected["micro"])
        assert scores.macro.to_json() == approx(*expected["macro"])
    shuffled = list(gold)
    order.shuffle(shuffled)
    again = {i: order.sample(predicted[i], len(predicted[i])) for i in reversed(shuffled)}
    assert ner_scores({i: gold[i] for i in shuffled}, again).to_json() == found.to_json()


def test_an_unknown_gold_label_is_an_error():
    with pytest.raises(
        InputError, match=r"Gold of utterance 'a': There is no entity label 'CITY'\. Raw labels are CARD"
    ):
        ner_scores({"a": [("CITY", "rome")]}, {"a": []})


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ("abcde", "a", r"4 of gold have no prediction \(b, c, d, …\)\."),
        ("a", "ab", r"1 of the predictions are not in gold \(b\)\."),
        ("ac", "ab", r"1 of gold have no prediction \(c\) and 1 of the predictions are not in gold \(b\)\."),
        ("", "", "There are no items to score"),
    ],
)
def test_differing_ids_are_an_error(gold, predicted, message):
    with pytest.raises(InputError, match=message):
        ner_scores({i: [] for i in gold}, {i: [] for i in predicted})


def test_micro_f1_takes_many_sums_at_once():
    found = micro_f1([[[1, 2, 2], [0, 0, 0]], [[3, 3, 3], [0, 1, 0]]])
    assert found.tolist() == [[0.5, 0.0], [1.0, 0.0]]


# --- files ------------------------------------------------------------------------------------------------------------


def write(path, lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def test_reads_texts_and_lists(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        [
            {"id": "a", "text": "in <PLACE> rome </>"},
            "",
            {"id": 7, "entities": [["GPE", "rome"]], "text": "<ORG> eu </>", "speaker": "x"},
            {"id": "b", "text": "no ! tag"},
        ],
    )
    found = read_mentions(path)
    assert found == {"a": [("PLACE", "rome")], "7": [("GPE", "rome")], "b": []}
    assert list(found) == ["a", "7", "b"]


def test_reads_characters_of_slue_toolkit(tmp_path):
    """`)` is NORP, which combined labels write as `@`: all texts of the file are of raw labels."""
    path = write(tmp_path / "a.jsonl", [{"id": "a", "text": "the ) finns ]"}, {"id": "b", "text": "! two ] @ may ]"}])
    assert read_mentions(path) == {"a": [("NORP", "finns")], "b": [("CARDINAL", "two"), ("DATE", "may")]}
    assert read_mentions(path, tags="combined")["b"] == [("LAW", "two"), ("NORP", "may")]


def test_asks_which_characters_they_are(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"id": "a", "text": "@ today ]"}])
    with pytest.raises(InputError, match="Say which they are: --tags raw or --tags combined"):
        read_mentions(path)
    assert read_mentions(path, tags="raw") == {"a": [("DATE", "today")]}
    assert read_mentions(path, tags="combined") == {"a": [("NORP", "today")]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"a\.jsonl:2: not a line of JSON"),
        ("[]", r"a\.jsonl:2: expected an object, found list"),
        ({"entities": []}, r"a\.jsonl:2: an item has an 'id', a string; found None"),
        ({"id": "a", "entities": []}, r"a\.jsonl:2: id 'a' stands already on .*a\.jsonl:1"),
        ({"id": "b"}, r"a\.jsonl:2: expected 'entities', .* found the keys 'id'"),
        ({"id": "b", "text": None}, "expected 'entities'"),
        ({"id": "b", "entities": None}, r"'entities' is a list of \[label, phrase\]; found None"),
        ({"id": "b", "entities": [["GPE"]]}, r"an entity is \[label, phrase\], two strings; found \['GPE'\]"),
        ({"id": "b", "entities": [["GPE", 3, 6]]}, r"an entity is \[label, phrase\]"),
        ({"id": "b", "entities": [[None, "rome"]]}, r"an entity is \[label, phrase\]"),
    ],
)
def test_refuses_a_line(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", [{"id": "a", "entities": []}, line])
    with pytest.raises(InputError, match=message):
        read_mentions(path)


def test_refuses_a_file_without_items(tmp_path):
    with pytest.raises(InputError, match="holds no items"):
        read_mentions(write(tmp_path / "a.jsonl", [""]))
    with pytest.raises(InputError, match="There is no file"):
        read_mentions(tmp_path / "b.jsonl")


# --- seqeval ----------------------------------------------------------------------------------------------------------

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]


def random_entities(draws, text):
    """Some of the runs of words that a random partition of the text leaves, with random raw labels."""
    found, words, position = [], text.split(), 0
    while position < len(words):
        length = draws.randint(1, 3)
        if draws.random() < 0.6:
            start = len(" ".join([*words[:position], ""]))
            phrase = " ".join(words[position : position + length])
            found.append(Entity(draws.choice(RAW_LABELS), start, len(phrase)))
        position += length
    return found


def test_agrees_with_seqeval_where_no_phrase_occurs_twice():
    draws = random.Random(0)
    texts = {f"u{k}": " ".join(draws.sample(WORDS, 8)) for k in range(60)}
    gold = {i: random_entities(draws, text) for i, text in texts.items()}
    predicted = {i: random_entities(draws, text) if draws.random() < 0.5 else gold[i] for i, text in texts.items()}
    ours = ner_scores(
        {i: mentions(text, gold[i]) for i, text in texts.items()},
        {i: mentions(text, predicted[i]) for i, text in texts.items()},
    )
    theirs = seqeval_scores(
        [bio_labels(text, gold[i]) for i, text in texts.items()],
        [bio_labels(text, predicted[i]) for i, text in texts.items()],
    )
    assert 0.3 < theirs.f1 < 0.9
    assert ours.f1.micro.to_json() == approx(theirs.precision, theirs.recall, theirs.f1)


def test_differs_from_seqeval_where_a_phrase_occurs_twice():
    """Gold is the first rome, the prediction the second: the same phrase, another place."""
    text, gold, predicted = "rome is rome", [Entity("GPE", 0, 4)], [Entity("GPE", 8, 4)]
    assert ner_scores({"a": mentions(text, gold)}, {"a": mentions(text, predicted)}).f1.micro.f1 == 1
    assert seqeval_scores([bio_labels(text, gold)], [bio_labels(text, predicted)]) == PRF(0.0, 0.0, 0.0)


def test_seqeval_needs_the_same_words():
    with pytest.raises(InputError, match="Utterance 0 has 1 gold labels and 2 predicted ones"):
        seqeval_scores([["O"]], [["O", "O"]])
    with pytest.raises(InputError, match="found 0 and 0"):
        seqeval_scores([], [])
