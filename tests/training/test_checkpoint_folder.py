import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.errors import CheckpointError, InputError
from harness.speech.config import TokenizerConfig
from harness.speech.features import FeatureConfig
from harness.speech.tokenizer import SpeechTokenizer
from harness.speech.units import UnitSubwords
from harness.training.checkpoint import Tokenizers, save_checkpoint
from harness.training.checkpoint_folder import CheckpointFolder
from harness.training.recipe import TextTokenizerConfig
from harness.training.text_tokenizer import train_text_tokenizer
from tests.training.toy import ARCHITECTURE


def test_the_digest_of_the_card_is_held(folder):
    digest = CheckpointFolder.open(folder).weights_sha256
    assert CheckpointFolder.open(folder, sha256=digest).weights_sha256 == digest
    with pytest.raises(CheckpointError, match=f"has SHA-256 {digest}, its card says 00ff; fetch or train it again"):
        CheckpointFolder.open(folder, sha256="00ff")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt", "weights.pth"])
def test_pickles_are_refused(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(CheckpointError, match=f"It holds {name}, but pickles are refused: convert it to safetensors"):
        CheckpointFolder.open(folder)


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
        CheckpointFolder.open(folder)


def test_an_absent_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere holds no model\.safetensors"):
        CheckpointFolder.open(tmp_path / "nowhere")


def test_an_altered_codebook_is_refused(folder):
    path = folder / "speech" / "centroids.safetensors"
    save_file({name: value + 0.1 for name, value in load_file(path).items()}, path)
    with pytest.raises(CheckpointError, match="was altered: its centroids have the digest"):
        CheckpointFolder.open(folder)


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
        CheckpointFolder.open(folder)


def test_units_that_the_weights_were_not_trained_with_are_refused(folder):
    config = TokenizerConfig(features=FeatureConfig(n_mfcc=4, deltas=0), n_clusters=5, subwords="none", vocab_size=None)
    other = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    SpeechTokenizer(config, other, UnitSubwords(5)).save(folder / "speech")
    with pytest.raises(CheckpointError, match="its weights were trained with"):
        CheckpointFolder.open(folder)


def test_a_checkpoint_from_before_the_digest_was_kept_is_loaded(folder):
    edit_record(folder, tokenizers=None)
    assert CheckpointFolder.open(folder).architecture == ARCHITECTURE


@pytest.mark.parametrize("form", [2, 0, "1"])
def test_an_unknown_format_is_refused(folder, form):
    edit_record(folder, format=form)
    with pytest.raises(
        CheckpointError, match=rf"sutlm\.json is of format {form!r}, and this version .* reads format 1"
    ):
        CheckpointFolder.open(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": 1}'])
def test_a_damaged_record_is_refused(folder, text):
    (folder / "sutlm.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"sutlm\.json is damaged"):
        CheckpointFolder.open(folder)


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
    assert CheckpointFolder.open(tmp_path / "empty").architecture == ARCHITECTURE


def edit_architecture(folder, **changes):
    content = json.loads((folder / "sutlm.json").read_text())
    (folder / "sutlm.json").write_text(json.dumps(content | {"architecture": content["architecture"] | changes}))


def edit_configuration(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))


def integers(folder):
    path = folder / "model.safetensors"
    save_file({name: value.to(torch.int8) for name, value in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit_architecture(f, num_layers=ARCHITECTURE.num_layers + 1), r"does not fit: missing \['model"),
        (
            lambda f: edit_architecture(f, context=ARCHITECTURE.context // 2),
            "size mismatch for model.decoder.embed_pos",
        ),
        (lambda f: edit_configuration(f, activation_function="gelu"), "says activation_function='gelu', but by"),
        (lambda f: edit_configuration(f, num_attention_heads=1), "says num_attention_heads=1, but by"),
        (lambda f: (f / "config.json").write_text("{bad"), r"config\.json is damaged"),
        (lambda f: edit_record(f, tokenizers=5), r"sutlm\.json is damaged"),
        (integers, "is of type I8; weights are of F64, F32"),
    ],
)
def test_what_contradicts_the_weights_is_refused_without_building_the_decoder(folder, damage, message):
    CheckpointFolder.open(folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        CheckpointFolder.open(folder)
