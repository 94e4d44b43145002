import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.engine.generation import Continue, Generator
from harness.engine.sampling import Sampling
from harness.errors import CheckpointError, ConfigError, InputError
from harness.model import load_model, read_card
from harness.segments import Speech, Text, UnitSpan
from harness.testing import ModelContract

SIZES = {"vocab_size": 258, "max_position_embeddings": 128}


def write_checkpoint(folder, kind="gpt2", **save):
    """A folder in Hugging Face layout with random weights over bytes, `<s>` and `</s>`."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(["<s>", "</s>", *letters])}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind == "llama")
    tokens.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokens, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=258, n_positions=128, n_embd=32, n_layer=2, n_head=2))
    else:
        model = LlamaForCausalLM(
            LlamaConfig(**SIZES, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
        )
    model.save_pretrained(folder, **save)
    return folder


def write_card(folder, **more):
    path = folder / "lm.yaml"
    path.write_text(json.dumps({"name": "lm", "adapter": "hf_text", "checkpoint": "lm", **more}))
    return path


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def card(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_checkpoint(folder / "lm", request.param)
    return write_card(folder)


@pytest.fixture(scope="module")
def contract(card):
    return type("Contract", (ModelContract,), {"card": card})()


@pytest.mark.parametrize("promise", [n for n in dir(ModelContract) if n.startswith("test_")])
def test_it_keeps_the_contract(contract, promise):
    getattr(contract, promise)()


@pytest.fixture(scope="module")
def model(card):
    return load_model(str(card))


def test_prompt_and_continuation_have_the_tokens_of_the_sentence(model):
    both = model.encode_prompt((Text("the train"),), "text") + model.encode_continuation(Text("was late"))
    assert both == model.encode_prompt((Text("the train was late"),), "text")
    assert model.encode_continuation(Text("")) == []


def test_it_generates_from_its_own_vocabulary_until_its_end(model):
    asked = [Continue(str(i), (Text("the train"),), "text", 40) for i in range(40)]
    found = [g for _, g in Generator(model, sampling=Sampling(), seed=0).generate(asked)]
    assert any(g.ended for g in found)
    assert not {model.end, model.tokenizer.bos_token_id} & {i for g in found for i in g.ids}


def test_speech_is_refused(model):
    with pytest.raises(InputError, match="knows text only"):
        model.encode_prior("speech", "text")
    with pytest.raises(InputError, match="knows text only"):
        model.encode_continuation(Speech(units=UnitSpan((1,), (1,), 50.0, "mfcc")))


def test_sharded_weights_are_found_and_are_the_same_model(card, tmp_path):
    kind = "gpt2" if (card.parent / "lm" / "config.json").read_text().count("gpt2") else "llama"
    write_checkpoint(tmp_path / "lm", kind, max_shard_size="30KB")
    assert not (tmp_path / "lm" / "model.safetensors").exists()
    sharded = write_card(tmp_path)
    assert read_card(str(sharded)).available
    whole, parts = load_model(str(card)), load_model(str(sharded))
    ids = torch.tensor([whole.encode_prompt((Text("the train"),), "text")])
    torch.testing.assert_close(whole.logits(whole.forward(ids).states), parts.logits(parts.forward(ids).states))


def test_other_weights_and_types_have_other_fingerprints(tmp_path, model):
    write_checkpoint(tmp_path / "lm", "gpt2")
    single = load_model(str(write_card(tmp_path)))
    double = load_model(str(write_card(tmp_path, options={"dtype": "float64", "max_length": 20})))
    assert double.max_length == 20
    assert single.fingerprint != double.fingerprint
    GPT2LMHeadModel(GPT2Config(vocab_size=258, n_positions=128, n_embd=32, n_layer=1, n_head=2)).save_pretrained(
        tmp_path / "lm"
    )
    assert load_model(str(write_card(tmp_path))).fingerprint != single.fingerprint


@pytest.mark.parametrize(
    ("card", "error", "message"),
    [
        ({"checkpoint": "absent"}, CheckpointError, "no config.json"),
        ({"sha256": "0" * 64}, CheckpointError, "the card says 0000"),
        ({"options": {"dtype": "int8"}}, InputError, "not a floating-point type"),
        ({"options": {"dtypes": "float32"}}, ConfigError, "dtype"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, card, error, message):
    write_checkpoint(tmp_path / "lm")
    with pytest.raises(error, match=message):
        load_model(str(write_card(tmp_path, **card)))


def test_pickles_are_refused(tmp_path):
    write_checkpoint(tmp_path / "lm")
    (tmp_path / "lm" / "model.safetensors").rename(tmp_path / "lm" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, but pickles are refused"):
        load_model(str(write_card(tmp_path)))


def test_logits_that_are_changed_afterwards_are_refused(tmp_path):
    folder = write_checkpoint(tmp_path / "lm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": 30.0}))
    with pytest.raises(CheckpointError, match="final_logit_softcapping"):
        load_model(str(write_card(tmp_path)))
