import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.corpora.manifest import Entity
from harness.corpora.slue_labels import COMBINED, COMBINED_LABELS, RAW_LABELS, SCORED_LABELS, combined_entities
from harness.errors import FormatError, InputError, JoinError
from harness.metrics.ner import (
    PRF,
    Counts,
    label_counts,
    macro_f1,
    mention_counts,
    micro_f1,
    ner_scores,
    precision,
    recall,
    seqeval_scores,
)
from harness.metrics.tags import bio_labels, format_tags, mentions


def approx(precision, recall, f1):
    return pytest.approx({"precision": precision, "recall": recall, "f1": f1}, abs=1e-12)


def test_nothing_to_find_and_nothing_found_is_zero():
    found = ner_scores({"a": [], "b": [("FAC", "big ben")]}, {"a": [], "b": [("EVENT", "fair")]}, SCORED_LABELS)
    assert found.f1.micro == found.f1.macro == found.label_f1.micro == PRF(0.0, 0.0, 0.0)
    assert found.f1.per_label == {}
    assert found.f1.counts["b"] == Counts(0, 0, 0)


def test_utterances_without_entities_add_nothing():
    gold, predicted = {"a": [("GPE", "rome")]}, {"a": [("GPE", "rome"), ("ORG", "eu")]}
    with_empty = ner_scores(gold | {"b": []}, predicted | {"b": []}, SCORED_LABELS)
    assert with_empty.to_json() == ner_scores(gold, predicted, SCORED_LABELS).to_json()


def test_perfect_is_one():
    gold = {str(k): [(label, f"phrase {k}")] for k, label in enumerate(RAW_LABELS)}
    found = ner_scores(gold, gold, SCORED_LABELS)
    assert found.f1.micro == found.f1.macro == found.label_f1.macro == PRF(1.0, 1.0, 1.0)
    assert tuple(found.f1.per_label) == COMBINED_LABELS


def test_phrases_compare_as_they_are_written():
    assert ner_scores({"a": [("GPE", "new york")]}, {"a": [("GPE", "new  york")]}, SCORED_LABELS).f1.micro.f1 == 0


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
    found = ner_scores(gold, predicted, SCORED_LABELS)
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
    assert ner_scores({i: gold[i] for i in shuffled}, again, SCORED_LABELS).to_json() == found.to_json()


def test_an_unknown_gold_label_is_an_error():
    with pytest.raises(FormatError, match=r"Gold of utterance 'a': There is no entity label 'CITY'\. Known: LAW"):
        ner_scores({"a": [("CITY", "rome")]}, {"a": []}, SCORED_LABELS)


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
        ner_scores({i: [] for i in gold}, {i: [] for i in predicted}, SCORED_LABELS)


def test_micro_f1_takes_many_sums_at_once():
    found = micro_f1([[[1, 2, 2], [0, 0, 0]], [[3, 3, 3], [0, 1, 0]]])
    assert found.tolist() == [[0.5, 0.0], [1.0, 0.0]]


def test_precision_recall_and_macro_by_hand():
    """tp, gold, predicted = 1, 4, 2 and 0, 1, 0: P = 1/2 and 0, R = 1/4 and 0, F1 = 2/6 and 0; label 3 is nowhere.

    Macro over the two labels that are in gold or prediction: 1/6; where none is, 0.
    """
    counts = [[1, 4, 2], [0, 1, 0], [0, 0, 0]]
    assert precision(counts).tolist() == [0.5, 0, 0]
    assert recall(counts).tolist() == [0.25, 0, 0]
    assert macro_f1([counts, [[0, 0, 0]] * 3]) == pytest.approx([1 / 6, 0])


def test_counts_of_one_utterance_by_hand():
    """rome stands twice in gold and once in the prediction; paris is predicted where gold has london."""
    gold = [("PLACE", "rome"), ("PLACE", "rome"), ("PLACE", "london"), ("ORG", "eu")]
    predicted = [("PLACE", "paris"), ("PLACE", "rome"), ("LAW", "treaty")]
    assert mention_counts(gold, predicted) == {"PLACE": Counts(1, 3, 2), "ORG": Counts(0, 1, 0), "LAW": Counts(0, 0, 1)}
    assert label_counts(gold, predicted) == {"PLACE": Counts(2, 3, 2), "ORG": Counts(0, 1, 0), "LAW": Counts(0, 0, 1)}
    assert mention_counts([], []) == {}


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
        SCORED_LABELS,
    )
    theirs = seqeval_scores(
        [bio_labels(format_tags(text, combined_entities(gold[i]))) for i, text in texts.items()],
        [bio_labels(format_tags(text, combined_entities(predicted[i]))) for i, text in texts.items()],
    )
    assert 0.3 < theirs.f1 < 0.9
    assert ours.f1.micro.to_json() == approx(theirs.precision, theirs.recall, theirs.f1)


def test_differs_from_seqeval_where_a_phrase_occurs_twice():
    """Gold is the first rome, the prediction the second: the same phrase, another place."""
    text, gold, predicted = "rome is rome", [Entity("GPE", 0, 4)], [Entity("GPE", 8, 4)]
    assert ner_scores({"a": mentions(text, gold)}, {"a": mentions(text, predicted)}, SCORED_LABELS).f1.micro.f1 == 1
    assert seqeval_scores(
        [bio_labels(format_tags(text, combined_entities(gold)))],
        [bio_labels(format_tags(text, combined_entities(predicted)))],
    ) == PRF(0.0, 0.0, 0.0)


def test_seqeval_needs_the_same_words():
    with pytest.raises(JoinError, match="Utterance 0 has 1 gold labels and 2 predicted ones"):
        seqeval_scores([["O"]], [["O", "O"]])
    with pytest.raises(JoinError, match="found 0 and 0"):
        seqeval_scores([], [])
