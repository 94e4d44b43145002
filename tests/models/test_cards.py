import json
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.config import build
from harness.corpora.corpus import corpus_registry, open_corpus
from harness.corpora.manifest import write_manifest
from harness.errors import CheckpointError, ConfigError
from harness.model import ModelCard, card_names, load_model, read_card
from harness.training.recipe import Architecture, TokenizersConfig, TrainingConfig
from harness.training.train import runnable_as, train_model, training_card

TRAINED_HERE = [name for name in card_names() if read_card(name).adapter == "sutlm"]


@pytest.fixture
def offline_card():
    return training_card(read_card("sutlm-350m"), corpus="demo", settings={})


@pytest.mark.parametrize("name", TRAINED_HERE)
def test_every_card_of_ours_can_be_trained(name):
    card = training_card(read_card(name), corpus=None, settings={})
    build(TokenizersConfig, card.tokenizers, where=name)
    architecture = build(Architecture, card.architecture, where=name)
    training = build(TrainingConfig, card.training, where=name)
    assert training.row_tokens <= architecture.context
    assert training.batch_tokens // training.row_tokens >= training.accumulate
    assert training.min_learning_rate < training.learning_rate
    assert training.warmup_steps < training.steps
    assert architecture.hidden_size % architecture.num_heads == 0
    assert card.description
    assert card.license


def test_a_card_is_not_inherited_with_its_weights():
    assert read_card("sutlm-tiny-ast").checkpoint != read_card("sutlm-tiny").checkpoint
    assert read_card("sutlm-tiny-ast").architecture == read_card("sutlm-tiny").architecture


def test_a_derived_card_does_not_come_from_where_its_base_does(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: sutlm-tiny\nname: mine\n")
    mine = read_card(str(tmp_path / "mine.yaml"))
    assert (mine.source, mine.checkpoint, mine.sha256) == ("", None, None)
    assert read_card("sutlm-tiny").source


# --- sutlm-350m -------------------------------------------------------------------------------------------------------


def test_350m_has_the_sizes_that_are_known_and_about_350_million_parameters():
    from transformers import OPTConfig, OPTForCausalLM

    card = read_card("sutlm-350m")
    a = build(Architecture, card.architecture, where="sutlm-350m")
    assert (a.num_layers, a.hidden_size, a.num_heads, a.ffn_size, a.context) == (24, 1024, 16, 4096, 2048)
    tokenizers = build(TokenizersConfig, card.tokenizers, where="sutlm-350m")
    assert tokenizers.speech.features.kind == "hubert-base"
    assert tokenizers.speech.vocab_size == tokenizers.text.vocab_size == 10_000
    with torch.device("meta"):
        decoder = OPTForCausalLM(
            OPTConfig(
                vocab_size=6 + 10_000 + 10_000, hidden_size=a.hidden_size, word_embed_proj_dim=a.hidden_size,
                num_hidden_layers=a.num_layers, num_attention_heads=a.num_heads, ffn_dim=a.ffn_size,
                max_position_embeddings=a.context,
            )
        )  # fmt: skip
    assert 310e6 < sum(p.numel() for p in decoder.parameters()) < 360e6


def test_350m_takes_a_third_each_of_speech_text_and_both():
    shares = build(TrainingConfig, read_card("sutlm-350m").training, where="sutlm-350m").mixture.shares
    assert shares["speech"] == shares["text"] == pytest.approx(1 / 3)
    assert shares["cst"] + shares["ast"] == pytest.approx(1 / 3)


def test_350m_reads_librispeech_and_slue_unless_told_otherwise(offline_card):
    splits = ["librispeech:train-clean-100", "librispeech:train-clean-360", "librispeech:train-other-500"]
    splits += ["slue-voxceleb:fine-tune", "slue-voxpopuli:fine-tune"]
    for corpus in (None, "librispeech"):
        card = training_card(read_card("sutlm-350m"), corpus=corpus, settings={})
        assert card.training["train"] == splits
        assert all(split in corpus_registry().load(name).info.splits for name, split in (s.split(":") for s in splits))
        assert card.training["dev"] == ["librispeech:dev-clean"]
        assert card.tokenizers == read_card("sutlm-350m").tokenizers
    assert offline_card.training["train"] == ["demo:train"]
    assert offline_card.corpus == "demo"


def test_350m_on_another_corpus_is_another_model(offline_card):
    """So that a trial on demo does not overwrite weights trained on LibriSpeech."""
    assert offline_card.name == "sutlm-350m-demo"
    assert (offline_card.checkpoint, offline_card.sha256, offline_card.source) == (None, None, "")
    for corpus in (None, "librispeech"):
        assert training_card(read_card("sutlm-350m"), corpus=corpus, settings={}).name == "sutlm-350m"


def test_350m_on_demo_shares_the_tokenizers_of_the_tiny_model(offline_card):
    ours, tiny = (build(TokenizersConfig, c.tokenizers, where="") for c in (offline_card, read_card("sutlm-tiny")))
    assert ours == tiny
    assert offline_card.architecture == read_card("sutlm-350m").architecture


def test_350m_on_demo_takes_the_two_short_steps_of_the_readme():
    settings = {"training": {"steps": 2, "batch_tokens": 512}}
    card = training_card(read_card("sutlm-350m"), corpus="demo", settings=settings)
    training = build(TrainingConfig, card.training, where="sutlm-350m")
    assert (training.steps, training.batch_tokens, training.row_tokens) == (2, 512, 256)
    assert training.accumulate == 1
    assert training.dtype == "float32"
    assert training.validation_documents == 8


def test_350m_without_weights_says_how_to_train_it(empty_home):
    place = empty_home / "checkpoints" / "sutlm-350m"
    message = rf"Model 'sutlm-350m' has no weights at {place}\. Train them with 'harness train --model sutlm-350m'"
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model("sutlm-350m")
    assert caught.value.exit_code == 2
    assert not read_card("sutlm-350m").available


@pytest.mark.slow
def test_350m_takes_two_steps_and_is_loaded(harness_home, empty_home, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(harness_home))
        demo = open_corpus("demo", "test")
    utterances = demo.utterances[:24]
    for utterance in utterances:
        (tmp_path / utterance.audio).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(demo.audio_path(utterance), tmp_path / utterance.audio)
    write_manifest(tmp_path / "train.jsonl", utterances[:20])
    write_manifest(tmp_path / "dev.jsonl", utterances[20:])
    settings = {
        "training": {
            "steps": 2, "batch_tokens": 512,
            "train": [f"{tmp_path}/train.jsonl:test"], "dev": [f"{tmp_path}/dev.jsonl:test"],
        },
        # Twenty utterances hold no 2,000 subwords.
        "tokenizers": {"speech": {"vocab_size": 200, "kmeans_n_init": 1}, "text": {"vocab_size": 80}},
    }  # fmt: skip
    trained = train_model(training_card(read_card("sutlm-350m"), corpus="demo", settings=settings))
    assert trained.steps == 2
    assert trained.checkpoint == empty_home / "checkpoints" / "sutlm-350m-demo"
    assert runnable_as("sutlm-350m", trained) == str(trained.checkpoint)
    assert sum(p.numel() for p in load_model(str(trained.checkpoint)).module.parameters()) > 300e6


# --- what harness train makes of a card -------------------------------------------------------------------------------


def test_settings_win_over_the_corpus_and_the_corpus_over_the_card():
    card = ModelCard(
        "toy", "sutlm", corpus="librispeech", training={"steps": 1, "batch_tokens": 1, "seed": 1, "dev": ["a:b"]},
        with_corpus={"demo": {"training": {"steps": 2, "batch_tokens": 2}}},
    )  # fmt: skip
    made = training_card(card, corpus="demo", settings={"training": {"steps": 3}})
    assert made.training == {"steps": 3, "batch_tokens": 2, "seed": 1, "train": ["demo:train"], "dev": ["demo:dev"]}
    assert training_card(card, corpus=None, settings={}).training == card.training
    assert training_card(card, corpus="librispeech", settings={}).training == card.training


def test_with_corpus_may_name_the_splits():
    card = ModelCard("toy", "sutlm", with_corpus={"ljspeech": {"training": {"train": ["ljspeech:all"]}}})
    assert training_card(card, corpus="ljspeech", settings={}).training == {
        "train": ["ljspeech:all"],
        "dev": ["ljspeech:dev"],
    }


@pytest.mark.parametrize(("corpus", "name"), [("a/b.jsonl", "toy-b"), ("a/b.py:CORPUS", "toy-b"), ("b", "toy-b")])
def test_the_name_on_another_corpus_has_its_short_name(corpus, name):
    assert training_card(ModelCard("toy", "sutlm"), corpus=corpus, settings={}).name == name
    assert training_card(ModelCard("toy", "sutlm"), corpus=corpus, settings={"name": "mine"}).name == "mine"


def test_only_adapters_that_load_what_training_writes_are_trained(tmp_path):
    with pytest.raises(ConfigError, match="'gpt' cannot be trained: its adapter 'hf_text' does not load what"):
        training_card(ModelCard("gpt", "hf_text"), corpus=None, settings={})
    (tmp_path / "adapter.py").write_text("class MODEL:\n    trains = True\n")
    mine = ModelCard("mine", f"{tmp_path}/adapter.py:MODEL")
    assert training_card(mine, corpus=None, settings={}).name == "mine"


def shipped_folders():
    return [name for name in card_names() if read_card(name).adapter == "sutlm" and read_card(name).available]


@pytest.mark.parametrize("name", shipped_folders())
def test_shipped_checkpoints_are_folders_of_transformers(name):
    """The same logits to the last bit, nothing missing, nothing left over."""
    ours: Any = load_model(name)
    ids = torch.randint(2, ours.vocabulary.size, (2, 50), generator=torch.Generator().manual_seed(0))
    theirs, found = AutoModelForCausalLM.from_pretrained(
        read_card(name).checkpoint_path, dtype=torch.float32, output_loading_info=True
    )
    with torch.inference_mode():
        assert torch.equal(theirs(input_ids=ids).logits, ours.module(input_ids=ids).logits)
    assert not any(found.values()), found


@pytest.mark.parametrize("name", shipped_folders())
def test_the_folder_of_a_shipped_checkpoint_is_a_model_itself(name):
    """As training writes it: the card beside the weights says what the shipped one does, but for where they lie."""
    shipped = read_card(name)
    found = read_card(str(shipped.checkpoint_path))
    assert found.require_checkpoint().resolve() == shipped.checkpoint_path.resolve()
    same = {"folder": shipped.folder, "checkpoint": shipped.checkpoint, "source": shipped.source}
    assert replace(found, **same, with_corpus=shipped.with_corpus) == shipped
    recipe = json.loads((shipped.checkpoint_path / "sutlm.json").read_text("utf-8"))["record"]["recipe"]
    assert found.source == f"made by 'harness train' 0.1.0, recipe {recipe[:12]}"


def test_a_mistyped_setting_is_refused_with_the_nearest_key():
    card = training_card(read_card("sutlm-tiny"), corpus=None, settings={"training": {"step": 3}})
    with pytest.raises(ConfigError, match=r"unknown key 'step'.*Did you mean 'steps'"):
        build(TrainingConfig, card.training, where="card 'sutlm-tiny': training")
