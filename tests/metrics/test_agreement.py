import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.metrics.agreement import (
    bleu_counts,
    character_errors,
    chrf,
    corpus_bleu,
    error_rate,
    resemblance,
    word_errors,
)

SENTENCES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(" ".join)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=5)


@given(PAIRS)
@settings(max_examples=150, deadline=None)
def test_corpus_bleu_is_sacrebleus(pairs):
    texts, references = [list(side) for side in zip(*pairs, strict=True)]
    found = float(corpus_bleu(np.array([bleu_counts(t, r) for t, r in pairs]).sum(0)))
    expected = sacrebleu.corpus_bleu(texts, [references], tokenize="none").score
    if max(len(t.split()) for t in texts) < 4:
        assert np.isnan(found)  # no 4-gram was said
    else:
        assert found == pytest.approx(expected)


def test_bleu_of_the_reference_is_100_and_of_nothing_in_common_0():
    same = np.array(bleu_counts("the train was late", "the train was late"))
    other = np.array(bleu_counts("we all went home", "the train was late"))
    assert corpus_bleu(same) == pytest.approx(100)
    assert corpus_bleu(other) == 0
    assert corpus_bleu(np.stack([same, other])).shape == (2,)


def test_errors_by_hand():
    """the → a, late left out, very put in: 3 errors against 4 words; sums of two outputs give the rate of both."""
    assert word_errors("a train very was", "the train was late") == (3, 4)
    assert word_errors("", "the train") == (2, 2)
    assert character_errors("trein", "train") == (1, 5)
    assert error_rate(np.array([3.0, 4.0]) + np.array([2.0, 2.0])) == pytest.approx(100 * 5 / 6)


def test_an_empty_reference_has_no_error_rate():
    with pytest.raises(InputError, match="no error rate"):
        word_errors("a", " ")


def test_chrf_goes_from_0_to_100():
    assert chrf("the train", "the train") == pytest.approx(100)
    assert chrf("", "the train") == chrf("xyz", "the train") == 0
    assert 0 < chrf("the trains", "the train") < 100


def test_resemblance_by_hand():
    """Of "a b" the words a, b and the pair ab; with "a b c" (a, b, c, ab, bc) it shares 3: 2 · 3 / (3 + 5)."""
    found = resemblance(["A b", ""], ["a b c", "a b", "x"])
    np.testing.assert_allclose(found, [[6 / 8, 1, 0], [0, 0, 0]])
