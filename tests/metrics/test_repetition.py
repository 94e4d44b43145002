import itertools
import math
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from harness.errors import InputError, JoinError
from harness.metrics.repetition import (
    auto_bleu,
    copied_ngrams,
    copied_subsequence,
    distinct,
    score,
    self_bleu,
    vert,
    words_of,
)

OUTPUTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=9), min_size=2, max_size=6)


# --- slow oracles -----------------------------------------------------------------------------------------------------


def grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def slow_auto_bleu(words):
    """Each n-gram is looked for among the n-grams of what is left of it and of what is right of it."""
    if len(words) <= 1:
        return 0.0
    product = 1.0
    for n in (1, 2):
        found = [g in grams(words[:i], n) + grams(words[i + n :], n) for i, g in enumerate(grams(words, n))]
        product *= (sum(found) / len(found)) ** 0.5
    return 100 * product


def slow_self_bleu(outputs):
    """BLEU-2 with each other output as a reference, by the definition of clipped precision."""
    values = []
    for i, words in enumerate(outputs):
        others = outputs[:i] + outputs[i + 1 :]
        product = 1.0
        for n in (1, 2):
            own = Counter(grams(words, n))
            clipped = sum(min(c, max(Counter(grams(o, n))[g] for o in others)) for g, c in own.items())
            product *= (clipped / max(1, sum(own.values()))) ** 0.5
        values.append(100 * product)
    return values


def slow_lcs(a, b):
    """The longest sequence of places of `a` whose words are found in `b` in this order."""
    for size in range(len(a), -1, -1):
        for places in itertools.combinations(a, size):
            rest = iter(b)
            if all(word in rest for word in places):
                return size
    return 0


# --- worked by hand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("a", 0.0),
        ("a a", 0.0),  # 2 of 2 words occur again; the one pair does not
        ("a a a", 0.0),  # 3 of 3 words; pairs at 0 and 1 overlap, so 0 of 2
        ("a b c d", 0.0),
        ("a b a b", 100 * math.sqrt(4 / 4 * 2 / 3)),  # pairs ab, ba, ab: ba stands once
        ("a a a a", 100 * math.sqrt(4 / 4 * 2 / 3)),  # pairs at 0 and 2 do not overlap; the one at 1 overlaps both
        ("a b c a b", 100 * math.sqrt(4 / 5 * 2 / 4)),
        ("a b a", 0.0),  # 2 of 3 words, no pair
    ],
)
def test_auto_bleu_by_hand(text, expected):
    assert auto_bleu(text.split()) == pytest.approx(expected)


def test_self_bleu_by_hand():
    """Clipped words and pairs that any other output holds, out of all.

    a b c: words a, b in "a b d", c nowhere: 2/3; pairs ab: 1/2. a b d: the same: 2/3, 1/2. e a a: of two a the others
    hold at most one: 1/3; pairs ea, aa: 0. Hence √(2/3 · 1/2), the same, 0.
    """
    expected = 100 * math.sqrt(2 / 3 * 1 / 2)
    assert self_bleu([s.split() for s in ("a b c", "a b d", "e a a")]) == pytest.approx([expected, expected, 0.0])


def test_self_bleu_of_twins_single_words_and_nothing():
    assert self_bleu([["a", "b"], ["a", "b"]]) == [100.0, 100.0]
    assert self_bleu([["a"], ["a"], []]) == [0.0, 0.0, 0.0]


def test_self_bleu_is_not_made_less_by_shortness():
    """Brevity costs nothing: "a b" is wholly inside of the other."""
    assert self_bleu([words_of("a b"), words_of("a b c d e f")])[0] == 100.0


def test_vert_is_the_geometric_mean_of_the_two_means():
    """Auto-BLEU 100·√(2/3) and 0, mean 50·√(2/3); self-BLEU 100·√(2/2 · 2/3)... of "a b a b" and "a b".

    "a b a b" under "a b": words 2 of 4, pairs ab clipped to 1 of 3: √(1/2 · 1/3). "a b" under it: 1.
    """
    first, second = 100 * math.sqrt(1 / 6), 100.0
    expected = math.sqrt((first + second) / 2 * 50 * math.sqrt(2 / 3))
    assert vert([words_of("a b a b"), words_of("a b")]) == pytest.approx(expected)


def test_distinct_by_hand():
    """Pairs ab, bc, ab, bd: 3 of 4; words a b c a b d: 4 of 6."""
    outputs = [words_of("a b c"), words_of("a b d"), ["e"]]
    assert distinct(outputs) == 75.0
    assert distinct(outputs[:2], 1) == pytest.approx(400 / 6)


def test_copying_by_hand():
    """ "b x d" has b, d of the prompt in order: 2 of 3; of its pairs bx, xd none is there."""
    words, prompt = words_of("b x d"), words_of("a b c d")
    assert copied_subsequence(words, prompt) == pytest.approx(200 / 3)
    assert copied_ngrams(words, prompt) == 0.0
    assert copied_ngrams(words_of("a b c x"), prompt) == pytest.approx(200 / 3)
    assert copied_subsequence(words_of("d c b a"), prompt) == 25.0


# --- against the oracles ----------------------------------------------------------------------------------------------


@given(OUTPUTS)
@settings(max_examples=100, deadline=None)
def test_they_agree_with_their_definitions(outputs):
    assert self_bleu(outputs) == pytest.approx(slow_self_bleu(outputs))
    assert [auto_bleu(o) for o in outputs] == pytest.approx([slow_auto_bleu(o) for o in outputs])
    within, among = (sum(v) / len(outputs) for v in (map(slow_auto_bleu, outputs), slow_self_bleu(outputs)))
    assert vert(outputs) == pytest.approx(math.sqrt(within * among))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
@settings(max_examples=100, deadline=None)
def test_the_longest_common_subsequence_is_the_longest(words, prompt):
    assert copied_subsequence(words, prompt) == pytest.approx(100 * slow_lcs(words, prompt) / len(words))


@given(OUTPUTS, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_order_changes_nothing(outputs, order):
    turned = list(range(len(outputs)))
    order.shuffle(turned)
    values = self_bleu(outputs)
    assert self_bleu([outputs[i] for i in turned]) == pytest.approx([values[i] for i in turned])


# --- nothing to measure -----------------------------------------------------------------------------------------------


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match="compares each output with the others; found 1"):
        self_bleu([["a", "b"]])
    with pytest.raises(InputError, match="Distinct-2 needs an output of 2 words"):
        distinct([["a"], []])
    with pytest.raises(InputError, match="empty output copies nothing"):
        copied_subsequence([], ["a"])
    with pytest.raises(InputError, match="no 2-gram"):
        copied_ngrams(["a"], ["a"])


# --- all four ---------------------------------------------------------------------------------------------------------


def test_the_four_numbers_in_per_cent():
    """Words are lower-cased: "The cat the CAT" is "a b a b" above, and contains all of "the cat"."""
    first = 100 * math.sqrt(1 / 6)
    assert score([{"id": "1", "text": "The cat the CAT"}, {"id": "2", "text": "the cat"}]) == pytest.approx(
        {
            "auto_bleu": 50 * math.sqrt(2 / 3),
            "self_bleu": (first + 100) / 2,
            "vert": math.sqrt(50 * math.sqrt(2 / 3) * (first + 100) / 2),
            "distinct_2": 50.0,  # the cat, cat the, the cat; the cat: 2 of 4
        }
    )


def test_ids_are_unique():
    with pytest.raises(JoinError, match="The id '1' stands for more than one of 2 outputs"):
        score([{"id": "1", "text": "a b"}] * 2)


def test_empty_outputs_count():
    """They repeat nothing: means over two become means over four."""
    two = [{"id": "1", "text": "a b a b"}, {"id": "2", "text": "a b"}]
    four = score([*two, {"id": "3", "text": ""}, {"id": "4", "text": " "}])
    assert four["auto_bleu"] == pytest.approx(score(two)["auto_bleu"] / 2)
    assert four["vert"] == pytest.approx(score(two)["vert"] / 2)
    assert four["distinct_2"] == score(two)["distinct_2"]


def test_words_are_lower_case():
    assert words_of("  The Cat\tsat ") == ["the", "cat", "sat"]
