"""Corpora opened for training, and utterances paired with their units."""

import pytest

from harness.config import home
from harness.errors import CorpusError
from harness.model import read_card
from harness.training.checkpoint import Tokenizers
from harness.training.data import open_splits, pair, prepare_tokenizers
from harness.training.recipe import TrainingRecipe
from harness.training.train import train_model, training_card


@pytest.fixture(autouse=True)
def own_home(slice_folder, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(slice_folder / "home"))


def test_a_split_that_is_not_named_is_refused(slice_folder):
    settings = {"training": {"train": ["demo"]}}
    card = training_card(read_card(str(slice_folder / "toy.yaml")), corpus=None, settings=settings)
    with pytest.raises(CorpusError, match="'demo' names no split; write it as corpus:split"):
        train_model(card)


def test_utterances_have_their_units_and_words_in_the_order_of_the_corpora(trained, slice_folder):
    dev, train = corpora = open_splits([f"{slice_folder}/{split}.jsonl:test" for split in ("dev", "train")])
    found = pair(corpora, Tokenizers.load(trained.checkpoint))
    assert [p.id for p in found] == [u.id for u in (*dev.utterances, *train.utterances)]
    for one, utterance in zip(found, (*dev.utterances, *train.utterances), strict=True):
        assert one.words == tuple(utterance.text.split())
        assert one.starts_s == tuple(word.start for word in utterance.words or ())
        assert abs(sum(one.units.durations) / one.units.rate_hz - utterance.seconds) < 0.1


def test_tokenizers_are_trained_once(trained, slice_folder, monkeypatch):
    recipe = TrainingRecipe.of(read_card(str(slice_folder / "toy.yaml")))
    monkeypatch.setattr("harness.training.data.train_text_tokenizer", lambda *_: pytest.fail("trained again"))
    folder = prepare_tokenizers(recipe.tokenizers, open_splits(recipe.training.train))
    assert folder.parent == home() / "tokenizers"
    assert Tokenizers.load(folder).digest == Tokenizers.load(trained.checkpoint).digest
