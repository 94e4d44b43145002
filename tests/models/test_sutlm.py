import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from harness.by_name import evaluate
from harness.cli.main import main
from harness.corpora.corpus import open_corpus
from harness.engine.scoring import Scorer
from harness.errors import CheckpointError, InputError, UnitSystemError
from harness.model import load_model
from harness.segments import AudioSpan, Speech, Text, UnitSpan
from harness.task import Request
from harness.testing import ModelContract
from harness.training.data import pair
from harness.training.formats import Formatter
from harness.training.recipe import TextTokenizerConfig
from harness.training.text_tokenizer import train_text_tokenizer
from harness.training.vocabulary import EOS, T2U, T_EN, U2T, U_EN


@pytest.fixture(autouse=True)
def own_home(slice_folder, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(slice_folder / "home"))


@pytest.fixture(scope="session")
def model(slice_folder, trained):
    return load_model(str(slice_folder / "toy.yaml"))


@pytest.fixture(scope="session")
def corpus(slice_folder):
    return open_corpus(str(slice_folder / "train.jsonl"), "test")


def test_a_run_whose_answers_are_stored_imports_no_torch(slice_folder, trained):
    card, corpus = str(slice_folder / "toy.yaml"), str(slice_folder / "train.jsonl")
    asked = {"tasks": ["cra"], "corpus": corpus, "limit": 2, "settings": {"cra": {"directions": ["t2t"]}}}
    first = evaluate(card, **asked)
    code = (
        "import sys, harness\n"
        f"result = harness.evaluate({card!r}, **{asked!r})\n"
        "print(result.run_id, result.metrics['cra.t2t.gold_nll'].value, {'torch', 'transformers'} & set(sys.modules))\n"
        f"print(type(harness.load_model({card!r}).module).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number = first.metrics["cra.t2t.gold_nll"].value
    assert done.stdout.splitlines() == [f"{first.run_id} {number} set()", "OPTForCausalLM"]


@pytest.fixture
def paired(corpus, model):
    return pair([corpus], model.tokenizers)


def text_ids(model, text: str) -> list[int]:
    return [6 + 60 + i for i in model.tokenizers.text.encode(text)]


def unit_ids(model, units: UnitSpan) -> list[int]:
    return [6 + i for i in model.tokenizers.speech.subwords(units)]


# --- from a card or a folder ------------------------------------------------------------------------------------------


def harness(*arguments: object) -> int:
    return main([*map(str, arguments), "--no-tracking"])


def test_a_checkpoint_folder_is_a_model(trained, model):
    loaded = load_model(str(trained.checkpoint))
    assert loaded.fingerprint == model.fingerprint
    assert loaded.card.sha256 == trained.sha256
    assert loaded.card.name == "toy"


def test_a_folder_without_a_card_is_no_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no card\.yaml, .*write a card whose 'checkpoint' is that folder"):
        load_model(str(tmp_path))


def test_audio_is_encoded_on_the_device_of_the_model(trained, corpus, monkeypatch):
    """Device 0 of a kind, which the kind alone would not tell from device 1."""
    loaded: Any = load_model(str(trained.checkpoint), device="cpu:0")
    encode, devices = loaded.tokenizers.speech.encode, []

    def watched(spans, *, device):
        devices.append(device)
        return encode(spans, device=device)

    monkeypatch.setattr(loaded.tokenizers.speech, "encode", watched)
    loaded.prepare([Speech(audio=AudioSpan(corpus.audio_path(corpus.utterances[0])))])
    assert devices == ["cpu:0"]


# --- ids --------------------------------------------------------------------------------------------------------------


def test_the_prior_is_the_start_and_a_switch_where_modalities_differ(model):
    assert model.encode_prior("speech", "speech") == [U_EN] == [2]
    assert model.encode_prior("text", "text") == [T_EN] == [3]
    assert model.encode_prior("speech", "text") == [U_EN, U2T] == [2, 4]
    assert model.encode_prior("text", "speech") == [T_EN, T2U] == [3, 5]


def test_prompts_have_switch_tokens_where_the_modality_changes(model, paired):
    text, units = Text("the muffins"), paired[0].units
    speech, t, u = Speech(units=units), text_ids(model, "the muffins"), unit_ids(model, units)
    assert min(t) >= 66
    assert max(u) < 66
    assert model.encode_prompt((text,), "text") == [3, *t]
    assert model.encode_prompt((text,), "speech") == [3, *t, 5]
    assert model.encode_prompt((speech,), "speech") == [2, *u]
    assert model.encode_prompt((speech,), "text") == [2, *u, 4]
    assert model.encode_prompt((text, text), "text") == [3, *t, *t]
    assert model.encode_prompt((text, speech), "speech") == [3, *t, 5, *u]
    assert model.encode_prompt((text, speech), "text") == [3, *t, 5, *u, 4]
    assert model.encode_prompt((speech, text, speech), "text") == [2, *u, 4, *t, 5, *u, 4]


def test_continuations_have_neither_start_nor_switch_nor_end(model, paired):
    assert model.encode_continuation(Text("the muffins")) == text_ids(model, "the muffins")
    assert model.encode_continuation(Speech(units=paired[0].units)) == unit_ids(model, paired[0].units)
    assert model.encode_continuation(Text("")) == []


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(InputError, match="at least one segment; use encode_prior"):
        model.encode_prompt((), "text")


def test_prompt_and_continuation_are_what_training_saw(model, paired):
    """CST and AST documents of the same utterance, spelled through the adapter."""
    utterance = paired[1]
    tokenizers = model.tokenizers
    made = Formatter(tokenizers.vocabulary, tokenizers.speech.subwords, tokenizers.text.encode, max_span_words=4)
    whole = {
        U_EN: (Speech(units=utterance.units), Text(" ".join(utterance.words)), "text"),
        T_EN: (Text(" ".join(utterance.words)), Speech(units=utterance.units), "speech"),
    }
    for seed in range(4):
        ids = made.format(utterance, "cst", np.random.default_rng(seed))
        prompt, continuation, target = whole[ids[0]]
        assert [*model.encode_prompt((prompt,), target), *model.encode_continuation(continuation), EOS] == ids

        ids = made.format(utterance, "ast", np.random.default_rng(seed))
        prompt = model.decode(ids)
        target = prompt[-1].modality
        assert [*model.encode_prompt(prompt, target), EOS] == ids


def test_weights_are_computed_with_in_the_type_that_the_card_names(slice_folder, model, paired):
    text = (slice_folder / "toy.yaml").read_text()
    card = slice_folder / "half.yaml"
    card.write_text(text + "options: {dtype: bfloat16}\n")
    half = load_model(str(card))
    assert half.module.dtype == half.module.config.dtype == torch.bfloat16
    assert half.fingerprint != model.fingerprint
    pool = tuple(Text(" ".join(p.words)) for p in paired[:5])
    requests = [
        Request(str(i), (Speech(units=p.units),), "speech", "text", pool, tuple(range(5)))
        for i, p in enumerate(paired[:2])
    ]
    found, expected = (np.stack([a.values for _, a in Scorer(m).answer(requests)]) for m in (half, model))
    np.testing.assert_allclose(found, expected, rtol=0.02)
    assert not np.array_equal(found, expected)


def test_types_that_a_model_cannot_be_computed_in_are_refused(slice_folder, capsys):
    card = slice_folder / "int.yaml"
    card.write_text((slice_folder / "toy.yaml").read_text() + "options: {dtype: int8}\n")
    assert harness("run", "--model", card, "--tasks", "cra") == 2
    error = capsys.readouterr().err
    assert "dtype" in error
    assert "'float32', 'bfloat16' or 'float16'" in error


def test_ids_decode_to_the_segments_they_came_from(model, paired):
    words, units = " ".join(paired[2].words), paired[2].units
    ids = [*model.encode_prompt((Text(words), Speech(units=units)), "text"), *text_ids(model, "muffins"), EOS]
    first, second, third = model.decode(ids)
    assert first == Text(words)
    assert second.units.units == units.units
    assert (second.units.system, second.units.rate_hz) == (units.system, units.rate_hz)
    assert set(second.units.durations) == {1}
    assert third == Text("muffins")


def test_special_tokens_decode_to_nothing(model):
    assert model.decode([]) == model.decode([0, 1, 2, 3, 4, 5]) == ()


def test_audio_is_encoded_whole_and_then_cut(model, corpus, paired):
    path = corpus.audio_path(corpus.utterances[0])
    whole = paired[0].units
    assert model.encode_continuation(Speech(audio=AudioSpan(path))) == unit_ids(model, whole)
    part = model.encode_continuation(Speech(audio=AudioSpan(path, 0.8, 2.0)))
    assert part == unit_ids(model, whole.cut(0.8, 2.0))


def test_preparing_in_bulk_changes_no_id(slice_folder, model, corpus):
    segments = [Speech(audio=AudioSpan(corpus.audio_path(u), 0.2, 1.7)) for u in corpus.utterances[:4]]
    bulk = load_model(str(slice_folder / "toy.yaml"))
    bulk.prepare([*segments, Text("the muffins"), *segments])
    assert [bulk.encode_continuation(s) for s in segments] == [model.encode_continuation(s) for s in segments]


def test_units_of_another_system_are_refused(model, paired):
    foreign = replace(paired[0].units, system="feedbeef00000000")
    with pytest.raises(UnitSystemError, match=r"system feedbeef00000000 were given to .*'toy', which reads") as caught:
        model.encode_continuation(Speech(units=foreign))
    assert model.tokenizers.speech.system in str(caught.value)


# --- forward ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sequences(model, paired) -> list[list[int]]:
    """Ids of different lengths, of both modalities."""
    texts = [model.encode_prompt((Text(" ".join(u.words[: 2 + i])),), "speech") for i, u in enumerate(paired[:3])]
    return [*texts, model.encode_prompt((Speech(units=paired[3].units),), "text")]


def alone(model, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model.forward(torch.tensor([ids])).states[0]


def test_states_do_not_depend_on_padding_or_neighbors(model, sequences):
    lengths = torch.tensor([len(ids) for ids in sequences])
    for filler in (0, 70):
        batch = torch.full((len(sequences), int(lengths.max()) + 5), filler)
        for row, ids in zip(batch, sequences, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        with torch.inference_mode():
            states = model.forward(batch, lengths=lengths).states
        for row, ids in zip(states, sequences, strict=True):
            torch.testing.assert_close(row[: len(ids)], alone(model, ids), atol=1e-5, rtol=1e-5)


def test_going_on_from_kept_keys_and_values_is_going_through_all(model, sequences):
    ids = torch.tensor([sequences[-1]])
    with torch.inference_mode():
        kept = model.forward(ids[:, :7], use_cache=True)
        rest = model.forward(ids[:, 7:], past=kept.past, lengths=torch.tensor([ids.shape[1] - 7]))
    assert model.forward(ids).past is rest.past is None
    whole = alone(model, sequences[-1])
    torch.testing.assert_close(torch.cat([kept.states[0], rest.states[0]]), whole, atol=1e-5, rtol=1e-5)


def test_logits_are_over_the_joint_vocabulary(model, sequences):
    with torch.inference_mode():
        logits = model.logits(alone(model, sequences[0]))
        plain = model.module(torch.tensor([sequences[0]])).logits[0]
    assert logits.shape == (len(sequences[0]), 6 + 60 + 80)
    torch.testing.assert_close(logits, plain)


def test_the_model_is_in_evaluation_mode_and_says_its_length(model):
    assert not model.module.training
    assert model.max_length == 256
    assert model.modalities == {"speech", "text"}


# --- identity ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(slice_folder, trained, tmp_path) -> Path:
    """The card and its checkpoint, to be altered."""
    shutil.copytree(slice_folder / "checkpoint", tmp_path / "checkpoint")
    shutil.copyfile(slice_folder / "toy.yaml", tmp_path / "toy.yaml")
    return tmp_path / "toy.yaml"


def rewrite(card: Path, **settings) -> str:
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), **settings}))
    return str(card)


def test_the_fingerprint_is_that_of_what_can_change_a_number(copy, model):
    assert load_model(str(copy), device="cpu:0").fingerprint == model.fingerprint
    assert load_model(rewrite(copy, description="other", corpus="librispeech")).fingerprint == model.fingerprint
    # How it was trained is in the weights; the card cannot change them any more.
    assert load_model(rewrite(copy, training={"steps": 9})).fingerprint == model.fingerprint


def test_other_weights_have_another_fingerprint(copy, model):
    path = copy.parent / "checkpoint" / "model.safetensors"
    weights = load_file(path)
    weights["model.decoder.final_layer_norm.bias"][0] += 1e-3
    save_file(weights, path)
    assert load_model(str(copy)).fingerprint != model.fingerprint


def test_other_subwords_have_another_fingerprint(copy, model, corpus):
    texts = [u.text for u in corpus.utterances[1:]]
    record = copy.parent / "checkpoint" / "sutlm.json"
    content = json.loads(record.read_text())
    del content["tokenizers"]  # as in a checkpoint from before it was kept; with it, loading refuses
    record.write_text(json.dumps(content))
    train_text_tokenizer(texts, TextTokenizerConfig(vocab_size=80), copy.parent / "checkpoint" / "text.model")
    assert load_model(str(copy)).fingerprint != model.fingerprint


def test_another_number_of_heads_has_another_fingerprint(copy, model):
    record, config = (copy.parent / "checkpoint" / name for name in ("sutlm.json", "config.json"))
    content = json.loads(record.read_text())
    content["architecture"]["num_heads"] = 4
    record.write_text(json.dumps(content))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_attention_heads": 4}))
    assert load_model(str(copy)).fingerprint != model.fingerprint


def test_the_digest_on_the_card_is_held(copy):
    with pytest.raises(CheckpointError, match="its card says 0123; fetch or train it again"):
        load_model(rewrite(copy, sha256="0123"))


# --- what every model keeps -------------------------------------------------------------------------------------------


class TestContract(ModelContract):
    @pytest.fixture(autouse=True)
    def toy(self, request, slice_folder, trained, corpus):
        request.cls.card, request.cls.corpus = slice_folder / "toy.yaml", str(slice_folder / "train.jsonl")
        request.cls.texts = tuple(u.text for u in corpus.utterances[:3])
