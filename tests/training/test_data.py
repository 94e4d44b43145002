"""Tokenizers are trained once for a recipe, a corpus and a version of the code."""

import shutil

import pytest

from harness.corpora.corpus import open_corpus
from harness.errors import CorpusError, DamageWarning, ManifestError
from harness.model import ModelCard
from harness.training import data
from harness.training.checkpoint import Tokenizers
from harness.training.data import open_splits, prepare_tokenizers
from harness.training.recipe import TokenizersConfig, TrainingRecipe
from tests.toy import copy_utterances, toy_card


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
