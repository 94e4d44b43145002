import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from harness.errors import CheckpointError, InputError
from harness.speech.config import TokenizerConfig
from harness.speech.features import FeatureConfig
from harness.speech.tokenizer import SpeechTokenizer
from harness.speech.units import UnitSubwords
from harness.training.checkpoint import Tokenizers, load_checkpoint, save_checkpoint
from harness.training.decoder import build_decoder
from harness.training.recipe import TextTokenizerConfig
from harness.training.text_tokenizer import train_text_tokenizer
from tests.training.toy import ARCHITECTURE


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory) -> Path:
    """A folder with a codebook of five random centroids and 20 text subwords."""
    folder = tmp_path_factory.mktemp("tokenizers")
    config = TokenizerConfig(features=FeatureConfig(n_mfcc=4, deltas=0), n_clusters=5, subwords="none", vocab_size=None)
    centroids = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    SpeechTokenizer(config, centroids, UnitSubwords(5)).save(folder / "speech")
    train_text_tokenizer(["the cat sat on the mat", "a hat"], TextTokenizerConfig(vocab_size=20), folder / "text.model")
    return folder


@pytest.fixture
def decoder(tokenizers):
    return build_decoder(ARCHITECTURE, Tokenizers.load(tokenizers).vocabulary.size, seed=3)


@pytest.fixture
def folder(tmp_path, tokenizers, decoder) -> Path:
    save_checkpoint(tmp_path / "saved", decoder, ARCHITECTURE, tokenizers, {"steps": 7})
    return tmp_path / "saved"


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


def test_the_digest_of_the_card_is_held(folder):
    digest = load_checkpoint(folder).weights_sha256
    assert load_checkpoint(folder, sha256=digest).weights_sha256 == digest
    with pytest.raises(CheckpointError, match=f"has SHA-256 {digest}, its card says 00ff; fetch or train it again"):
        load_checkpoint(folder, sha256="00ff")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt", "weights.pth"])
def test_pickles_are_refused(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(CheckpointError, match=f"It holds {name}, but pickles are refused: convert it to safetensors"):
        load_checkpoint(folder)


def test_a_pickle_by_the_name_of_safetensors_is_refused(folder):
    torch.save({}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="cannot be loaded into this architecture"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", r"holds no model\.safetensors\.$"),
        ("sutlm.json", r"holds no sutlm\.json, which says the architecture"),
        ("text.model", r"text tokenizer .*text\.model is missing"),
        ("speech/tokenizer.json", r"has no tokenizer\.json"),
    ],
)
def test_a_missing_file_is_named(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_an_absent_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere holds no model\.safetensors"):
        load_checkpoint(tmp_path / "nowhere")


def test_an_altered_codebook_is_refused(folder):
    path = folder / "speech" / "centroids.safetensors"
    save_file({name: value + 0.1 for name, value in load_file(path).items()}, path)
    with pytest.raises(CheckpointError, match="was altered: its centroids have the digest"):
        load_checkpoint(folder)


def test_another_text_tokenizer_is_another_digest(folder):
    before = load_checkpoint(folder).tokenizers.digest
    train_text_tokenizer(["other words that cats know"], TextTokenizerConfig(vocab_size=20), folder / "text.model")
    assert Tokenizers.load(folder).digest != before


def edit_record(folder: Path, **changes) -> None:
    """Writes `sutlm.json` again with other values; None takes a key out."""
    content = json.loads((folder / "sutlm.json").read_text()) | changes
    (folder / "sutlm.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_tokenizers_that_the_weights_were_not_trained_with_are_refused(folder, tokenizers):
    """The text model has as many pieces as the right one, so that every shape fits."""
    right = Tokenizers.load(tokenizers).digest
    assert json.loads((folder / "sutlm.json").read_text())["tokenizers"] == right
    train_text_tokenizer(["other words that cats know"], TextTokenizerConfig(vocab_size=20), folder / "text.model")
    wrong = Tokenizers.load(folder).digest
    message = rf"have the digest {wrong[:16]}, but its weights were trained with {right[:16]}: the same ids would mean"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_units_that_the_weights_were_not_trained_with_are_refused(folder):
    config = TokenizerConfig(features=FeatureConfig(n_mfcc=4, deltas=0), n_clusters=5, subwords="none", vocab_size=None)
    other = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    SpeechTokenizer(config, other, UnitSubwords(5)).save(folder / "speech")
    with pytest.raises(CheckpointError, match="its weights were trained with"):
        load_checkpoint(folder)


def test_a_checkpoint_from_before_the_digest_was_kept_is_loaded(folder):
    edit_record(folder, tokenizers=None)
    assert load_checkpoint(folder).architecture == ARCHITECTURE


@pytest.mark.parametrize("form", [2, 0, "1"])
def test_an_unknown_format_is_refused(folder, form):
    edit_record(folder, format=form)
    with pytest.raises(
        CheckpointError, match=rf"sutlm\.json is of format {form!r}, and this version .* reads format 1"
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": 1}'])
def test_a_damaged_record_is_refused(folder, text):
    (folder / "sutlm.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"sutlm\.json is damaged"):
        load_checkpoint(folder)


def test_weights_too_large_for_their_type_are_refused_and_nothing_is_written(tmp_path, decoder, tokenizers):
    """float16 ends at 65504, bfloat16 reaches as far as float32."""
    with torch.no_grad():
        decoder.model.decoder.layers[0].fc1.weight[0, 0] = 70000.0
    message = r"layers\.0\.fc1\.weight reaches 70000, but float16 ends at 65504\. .*export_dtype=bfloat16"
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / "half", decoder, ARCHITECTURE, tokenizers, {}, dtype="float16")
    assert list(tmp_path.iterdir()) == []
    save_checkpoint(tmp_path / "half", decoder, ARCHITECTURE, tokenizers, {}, dtype="bfloat16")


@pytest.mark.parametrize("files", [["thesis.tex"], ["model.safetensors"], ["sutlm.json"], ["sub/thesis.tex"]])
def test_a_folder_that_is_no_checkpoint_is_not_replaced(tmp_path, decoder, tokenizers, files):
    for name in files:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("years of work")
    with pytest.raises(
        InputError, match=r"mine is not empty and holds no checkpoint .*so it is not replaced"
    ) as caught:
        save_checkpoint(tmp_path / "mine", decoder, ARCHITECTURE, tokenizers, {})
    assert caught.value.exit_code == 2
    assert (tmp_path / "mine" / files[0]).read_text() == "years of work"
    assert os.listdir(tmp_path) == ["mine"]


def test_a_file_is_not_replaced_but_an_empty_folder_is(tmp_path, decoder, tokenizers):
    (tmp_path / "file").write_text("years of work")
    with pytest.raises(InputError, match="file is a file; name a folder"):
        save_checkpoint(tmp_path / "file", decoder, ARCHITECTURE, tokenizers, {})
    (tmp_path / "empty").mkdir()
    save_checkpoint(tmp_path / "empty", decoder, ARCHITECTURE, tokenizers, {})
    assert load_checkpoint(tmp_path / "empty").architecture == ARCHITECTURE


def test_a_card_lies_beside_its_weights(tmp_path, decoder, tokenizers):
    card = {"name": "toy", "adapter": "sutlm", "training": {"train": ("a:b",)}}
    sha256 = save_checkpoint(tmp_path / "toy", decoder, ARCHITECTURE, tokenizers, {}, card=card)
    assert sha256 == hashlib.sha256((tmp_path / "toy" / "model.safetensors").read_bytes()).hexdigest()
    written = yaml.safe_load((tmp_path / "toy" / "card.yaml").read_text())
    assert written == {**card, "training": {"train": ["a:b"]}, "checkpoint": ".", "sha256": sha256}


def test_a_vocabulary_of_another_size_does_not_fit(folder):
    edit_record(folder, tokenizers=None)
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
