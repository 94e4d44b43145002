import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from harness.errors import CheckpointError
from harness.training.checkpoint import Tokenizers, load_checkpoint, save_checkpoint
from harness.training.recipe import TextTokenizerConfig
from harness.training.text_tokenizer import train_text_tokenizer
from tests.training.toy import ARCHITECTURE


def test_what_is_saved_is_loaded(folder, decoder, tokenizers):
    loaded = load_checkpoint(folder)
    assert loaded.architecture == ARCHITECTURE
    assert loaded.tokenizers.digest == Tokenizers.load(tokenizers).digest
    assert loaded.tokenizers.vocabulary.size == 6 + 5 + 20
    assert loaded.weights_sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert not loaded.model.training
    for name, value in decoder.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)


def test_tied_weights_are_saved_once_and_tied_again(folder):
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = load_checkpoint(folder).model
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_in_half_precision_take_half_the_room_and_are_loaded_as_float32(tmp_path, decoder, tokenizers, dtype):
    for name in ("float32", dtype):
        save_checkpoint(tmp_path / name, decoder, ARCHITECTURE, tokenizers, {}, dtype=name)
    written = load_file(tmp_path / dtype / "model.safetensors")
    assert {value.dtype for value in written.values()} == {getattr(torch, dtype)}
    loaded = load_checkpoint(tmp_path / dtype).model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for parameter, exact in zip(loaded.parameters(), decoder.parameters(), strict=True):
        torch.testing.assert_close(parameter, exact, atol=1e-3, rtol=1e-2)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("float32", dtype)]
    assert sizes[1] < 0.7 * sizes[0]


def test_a_checkpoint_says_how_it_came_about_and_leaves_nothing_beside_it(folder):
    assert json.loads((folder / "sutlm.json").read_text())["record"] == {"steps": 7}
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "speech",
        "sutlm.json",
        "text.model",
    ]
    assert os.listdir(folder.parent) == ["saved"]


def test_saving_again_replaces_and_the_same_weights_are_the_same_bytes(folder, decoder, tokenizers):
    first = (folder / "model.safetensors").read_bytes()
    (folder / "stale").touch()
    save_checkpoint(folder, decoder, ARCHITECTURE, tokenizers, {})
    assert (folder / "model.safetensors").read_bytes() == first
    assert not (folder / "stale").exists()


def test_an_interrupted_save_leaves_the_old_checkpoint(folder, decoder, tokenizers, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr("harness.training.checkpoint.save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(folder, decoder, ARCHITECTURE, tokenizers, {})
    monkeypatch.undo()
    assert load_checkpoint(folder).weights_sha256 == hashlib.sha256(before).hexdigest()
    save_checkpoint(folder, decoder, ARCHITECTURE, tokenizers, {})
    assert os.listdir(folder.parent) == ["saved"]


def test_a_pickle_by_the_name_of_safetensors_is_refused(folder):
    torch.save({}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="cannot be loaded into this architecture"):
        load_checkpoint(folder)


def test_another_text_tokenizer_is_another_digest(folder):
    before = load_checkpoint(folder).tokenizers.digest
    train_text_tokenizer(["other words that cats know"], TextTokenizerConfig(vocab_size=20), folder / "text.model")
    assert Tokenizers.load(folder).digest != before


def test_weights_too_large_for_their_type_are_refused_and_nothing_is_written(tmp_path, decoder, tokenizers):
    """float16 ends at 65504, bfloat16 reaches as far as float32."""
    with torch.no_grad():
        decoder.model.decoder.layers[0].fc1.weight[0, 0] = 70000.0
    message = r"layers\.0\.fc1\.weight reaches 70000, but float16 ends at 65504\. .*export_dtype=bfloat16"
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / "half", decoder, ARCHITECTURE, tokenizers, {}, dtype="float16")
    assert list(tmp_path.iterdir()) == []
    save_checkpoint(tmp_path / "half", decoder, ARCHITECTURE, tokenizers, {}, dtype="bfloat16")


def test_a_card_lies_beside_its_weights(tmp_path, decoder, tokenizers):
    card = {"name": "toy", "adapter": "sutlm", "training": {"train": ("a:b",)}}
    sha256 = save_checkpoint(tmp_path / "toy", decoder, ARCHITECTURE, tokenizers, {}, card=card)
    assert sha256 == hashlib.sha256((tmp_path / "toy" / "model.safetensors").read_bytes()).hexdigest()
    written = yaml.safe_load((tmp_path / "toy" / "card.yaml").read_text())
    assert written == {**card, "training": {"train": ["a:b"]}, "checkpoint": ".", "sha256": sha256}


def test_a_vocabulary_of_another_size_does_not_fit(folder):
    record = json.loads((folder / "sutlm.json").read_text())
    (folder / "sutlm.json").write_text(json.dumps({k: v for k, v in record.items() if k != "tokenizers"}))
    train_text_tokenizer(["the cat sat on the mat"], TextTokenizerConfig(vocab_size=18), folder / "text.model")
    with pytest.raises(CheckpointError, match=r"size mismatch for model\.decoder\.embed_tokens"):
        load_checkpoint(folder)


def test_weights_with_other_names_do_not_fit(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["extra"] = weights.pop("model.decoder.final_layer_norm.bias")
    save_file(weights, path)
    message = r"does not fit: missing \['model.decoder.final_layer_norm.bias'\], unexpected \['extra'\]"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


# --- as a folder of transformers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_transformers_reads_the_same_model_and_misses_nothing(tmp_path, decoder, tokenizers, dtype):
    with torch.no_grad():
        decoder.model.decoder.embed_tokens.weight.mul_(8)  # far from uniform
    save_checkpoint(tmp_path / "saved", decoder, ARCHITECTURE, tokenizers, {}, dtype=dtype)
    ids = torch.randint(2, 31, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = load_checkpoint(tmp_path / "saved").model(input_ids=ids).logits
        model, found = AutoModelForCausalLM.from_pretrained(
            tmp_path / "saved", dtype=torch.float32, output_loading_info=True
        )
        assert torch.equal(model(input_ids=ids).logits, ours)
    assert not any(found.values()), found
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == dtype


def edit_config(folder: Path, **changes) -> None:
    content = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden_size", 32, "16"),
        ("num_attention_heads", 4, "2"),
        ("dropout", 0.5, "0.0"),
        ("activation_function", "gelu", "'relu'"),
        ("do_layer_norm_before", False, "True"),
        ("model_type", "gpt2", "'opt'"),
        ("vocab_size", 30, "31"),
    ],
)
def test_a_configuration_of_another_decoder_is_refused(folder, name, value, expected):
    edit_config(folder, **{name: value})
    message = (
        rf"config\.json says {name}={value!r}, but by sutlm\.json it is {expected}: transformers would read another"
    )
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_what_changes_no_number_may_stand_in_the_configuration(folder):
    edit_config(folder, transformers_version="9.9", dtype="float16", use_cache=False, architectures=["OPTModel"])
    assert load_checkpoint(folder).architecture == ARCHITECTURE
    (folder / "config.json").unlink()
    assert load_checkpoint(folder).architecture == ARCHITECTURE


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_configuration_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        load_checkpoint(folder)
