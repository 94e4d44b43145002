"""Text subwords: additive over words, and the same for the same texts."""

import pytest

from harness.errors import CheckpointError, TokenizerError
from harness.training.recipe import TextTokenizerConfig
from harness.training.text_tokenizer import TextTokenizer, train_text_tokenizer


def test_text_subwords_of_spans_add_up_to_those_of_the_whole(tmp_path):
    texts = ["the cat sat on the mat", "a cat and a hat", "on that mat the hat sat"]
    tokenizer = train_text_tokenizer(texts, TextTokenizerConfig(vocab_size=24), tmp_path / "text.model")
    for text in texts:
        words = text.split()
        whole = tokenizer.encode(text)
        for cut in range(1, len(words)):
            assert tokenizer.encode(" ".join(words[:cut])) + tokenizer.encode(" ".join(words[cut:])) == whole
        assert tokenizer.decode(whole) == text
        assert max(whole) < tokenizer.size == 24


def test_the_same_texts_give_the_same_text_tokenizer(tmp_path):
    texts = ["the cat sat on the mat", "a cat and a hat"]
    made = [train_text_tokenizer(texts, TextTokenizerConfig(vocab_size=20), tmp_path / f"{i}") for i in range(2)]
    assert made[0].digest == made[1].digest


def test_texts_that_are_too_few_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(TokenizerError, match="cannot make 500 text subwords of these texts"):
        train_text_tokenizer(["a cat"], TextTokenizerConfig(vocab_size=500), tmp_path / "text.model")
    with pytest.raises(CheckpointError, match=r"text\.model is missing"):
        TextTokenizer(tmp_path / "text.model")
