"""Corpora opened for training, paired utterances, and tokenizers trained once for all that decides them."""

import shutil

import pytest

from harness.config import home
from harness.corpora.corpus import open_corpus
from harness.errors import CorpusError, DamageWarning, ManifestError
from harness.model import ModelCard, read_card
from harness.training import data
from harness.training.checkpoint import Tokenizers
from harness.training.data import open_splits, pair, prepare_tokenizers
from harness.training.recipe import TokenizersConfig, TrainingRecipe
from harness.training.train import train_model, training_card
from tests.toy import copy_utterances, toy_card


@pytest.fixture
def own_home(slice_folder, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(slice_folder / "home"))


@pytest.mark.usefixtures("own_home")
def test_a_split_that_is_not_named_is_refused(slice_folder):
    settings = {"training": {"train": ["demo"]}}
    card = training_card(read_card(str(slice_folder / "toy.yaml")), corpus=None, settings=settings)
    with pytest.raises(CorpusError, match="'demo' names no split; write it as corpus:split"):
        train_model(card)


@pytest.mark.usefixtures("own_home")
def test_utterances_have_their_units_and_words_in_the_order_of_the_corpora(trained, slice_folder):
    dev, train = corpora = open_splits([f"{slice_folder}/{split}.jsonl:test" for split in ("dev", "train")])
    found = pair(corpora, Tokenizers.load(trained.checkpoint))
    assert [p.id for p in found] == [u.id for u in (*dev.utterances, *train.utterances)]
    for one, utterance in zip(found, (*dev.utterances, *train.utterances), strict=True):
        assert one.words == tuple(utterance.text.split())
        assert one.starts_s == tuple(word.start for word in utterance.words or ())
        assert abs(sum(one.units.durations) / one.units.rate_hz - utterance.seconds) < 0.1


@pytest.mark.usefixtures("own_home")
def test_tokenizers_are_trained_once(trained, slice_folder, monkeypatch):
    recipe = TrainingRecipe.of(read_card(str(slice_folder / "toy.yaml")))
    monkeypatch.setattr("harness.training.data.train_text_tokenizer", lambda *_: pytest.fail("trained again"))
    folder = prepare_tokenizers(recipe.tokenizers, open_splits(recipe.training.train))
    assert folder.parent == home() / "tokenizers"
    assert Tokenizers.load(folder).digest == Tokenizers.load(trained.checkpoint).digest


@pytest.fixture(scope="module")
def utterances(harness_home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("utterances")
    copy_utterances(folder, dev=1)
    return folder


@pytest.fixture(scope="module")
def config(utterances) -> TokenizersConfig:
    card = toy_card(utterances)
    return TrainingRecipe.of(
        ModelCard(name="toy", adapter="sutlm", **{k: card[k] for k in ("tokenizers", "training")})
    ).tokenizers


@pytest.fixture
def folder(utterances, empty_home, config, splits):
    return prepare_tokenizers(config, splits)


@pytest.fixture
def splits(utterances, empty_home):
    return open_splits([f"{utterances}/train.jsonl:test"])


def bytes_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


FILES = ["text.model", "speech/centroids.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_damaged_tokenizers_are_trained_again(folder, config, splits, name):
    whole = bytes_of(folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2] + b"\xa5" * 300 + content[len(content) // 2 + 300 :])
    with pytest.warns(DamageWarning, match=rf"The folder of tokenizers {folder} is damaged \({name}.*trained again"):
        assert prepare_tokenizers(config, splits) == folder
    assert bytes_of(folder) == whole
    assert folder.with_name(f"{folder.name}.corrupt-1").is_dir()


def test_sound_tokenizers_are_used(folder, config, splits, monkeypatch):
    monkeypatch.setattr(data, "_train_tokenizers", lambda *a, **k: pytest.fail("trained again"))
    assert prepare_tokenizers(config, splits) == folder
    Tokenizers.load(folder)


def test_other_code_or_libraries_train_others(folder, config, splits, monkeypatch):
    monkeypatch.setattr(data, "versions_of", lambda packages: "0")
    assert prepare_tokenizers(config, splits) != folder


def test_other_audio_trains_others(folder, config, utterances, tmp_path, empty_home):
    shutil.copytree(utterances, tmp_path / "copy")
    assert prepare_tokenizers(config, open_splits([f"{tmp_path}/copy/train.jsonl:test"])) == folder
    audio = sorted((tmp_path / "copy").rglob("*.wav"))
    content = audio[0].read_bytes()
    audio[0].write_bytes(content[:1000] + content[-9000:] + content[10_000:])
    assert prepare_tokenizers(config, open_splits([f"{tmp_path}/copy/train.jsonl:test"])) != folder


def test_splits_are_opened_with_their_audio(utterances, tmp_path, empty_home):
    shutil.copytree(utterances, tmp_path / "copy")
    audio = open_corpus(tmp_path / "copy" / "train.jsonl", "test")
    audio.audio_path(audio.utterances[0]).write_bytes(audio.audio_path(audio.utterances[1]).read_bytes())
    with pytest.raises(ManifestError, match="is it another recording"):
        open_splits([f"{tmp_path}/copy/train.jsonl:test"])
    with pytest.raises(CorpusError, match="names no split"):
        open_splits(["demo"])
