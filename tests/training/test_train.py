"""Training from a card: what it reports, where its checkpoint goes, and what runs it."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from harness.cli.main import main
from harness.config import home
from harness.errors import CheckpointError, InputError
from harness.model import load_model, read_card
from harness.training.train import Trained, runnable_as, train_model, training_card
from tests.toy import card_for


@pytest.fixture(autouse=True)
def own_home(slice_folder, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(slice_folder / "home"))


def harness(*arguments: object) -> int:
    return main([*map(str, arguments), "--no-tracking"])


def test_training_reports_what_it_did(trained, slice_folder):
    assert trained.checkpoint == slice_folder / "checkpoint"
    assert trained.steps == 2
    assert set(trained.losses) == {"loss", "dev_speech", "dev_text", "dev_cst", "dev_ast"}
    assert all(4 < loss < 6 for loss in trained.losses.values())  # ln(6 + 60 + 80) = 4.98
    assert set(trained.realized) == {"speech", "text", "cst", "ast"}
    record = json.loads((trained.checkpoint / "sutlm.json").read_text())["record"]
    assert record["steps"] == 2
    assert record["tokens"] == trained.tokens
    assert [c["split"] for c in record["corpora"]] == ["test", "test"]
    assert record["training"]["row_tokens"] == 256


def test_training_again_gives_the_same_weights(trained, slice_folder, tmp_path):
    def bytes_of(output: Path) -> bytes:
        card = training_card(read_card(str(slice_folder / "toy.yaml")), corpus=None, settings={})
        return (train_model(card, output=output).checkpoint / "model.safetensors").read_bytes()

    first = (trained.checkpoint / "model.safetensors").read_bytes()
    assert bytes_of(tmp_path / "from_the_saved_state") == first
    shutil.rmtree(home() / "training")
    assert bytes_of(tmp_path / "from_the_start") == first


def test_training_can_start_from_the_weights_of_another_model(trained, slice_folder, tmp_path):
    """One step of next to no size leaves them what they were, to float32's last digits; without a start it does not."""

    def weights_after(**training):
        settings = {
            "training": {"steps": 1, "warmup_steps": 0, "learning_rate": 1e-9, "min_learning_rate": 0, **training}
        }
        card = training_card(read_card(str(slice_folder / "toy.yaml")), corpus=None, settings=settings)
        return load_file(train_model(card, output=tmp_path / "out").checkpoint / "model.safetensors")

    start = load_file(trained.checkpoint / "model.safetensors")
    gone_on, afresh = weights_after(start_from=str(slice_folder / "toy.yaml")), weights_after()
    assert all(torch.allclose(gone_on[name], value, atol=1e-6) for name, value in start.items())
    assert not all(torch.allclose(afresh[name], value, atol=1e-6) for name, value in start.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": {"ffn_size": 64}}, "Training cannot start from .*ffn_size=32.*, not a .*ffn_size=64"),
        ({"tokenizers": {"text": {"vocab_size": 70}}}, "its embeddings would mean other subwords"),
    ],
)
def test_training_starts_from_no_model_of_another_kind(trained, slice_folder, tmp_path, changes, message):
    settings = {"training": {"start_from": str(slice_folder / "toy.yaml")}, **changes}
    card = training_card(read_card(str(slice_folder / "toy.yaml")), corpus=None, settings=settings)
    with pytest.raises(InputError, match=message):
        train_model(card, output=tmp_path / "out")


def test_without_a_place_named_the_checkpoint_goes_where_the_card_is_looked_for(slice_folder, tmp_path):
    path = tmp_path / "elsewhere.yaml"
    path.write_text(yaml.safe_dump({**card_for(slice_folder), "name": "elsewhere", "checkpoint": None}))
    with pytest.raises(CheckpointError, match="Train them with 'harness train --model elsewhere'"):
        load_model(str(path))
    trained = train_model(training_card(read_card(str(path)), corpus=None, settings={}))
    assert trained.checkpoint == home() / "checkpoints" / "elsewhere"
    assert load_model(str(path)).max_length == 256


def on_other_data(folder: Path) -> list[str]:
    """Arguments that train the toy card on the manifest of its training data under the name of that manifest."""
    sets = [f"training.{split}=['{folder}/{split}.jsonl:test']" for split in ("train", "dev")]
    return ["--corpus", f"{folder}/train.jsonl", "--set", sets[0], "--set", sets[1]]


def test_training_ends_with_the_command_that_runs_what_it_wrote(slice_folder, tmp_path, capsys):
    path = tmp_path / "fresh.yaml"
    path.write_text(yaml.safe_dump({**card_for(slice_folder), "name": "fresh", "checkpoint": None}))
    assert harness("train", "--model", path, *on_other_data(slice_folder)) == 0
    said = capsys.readouterr()
    folder = home() / "checkpoints" / "fresh-train"
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert f"sha256: {sha256}" in said.out
    assert "num_cut: 0" in said.out
    command = said.err.splitlines()[-1].removeprefix("evaluate it with: harness ").split()
    assert command == ["run", "--model", str(folder), "--tasks", "cra"]
    cheap = ["--limit", 2, "--set", "cra.directions=[t2t]", "--full-scores", "--output", tmp_path / "out", "--json"]
    assert harness(*command, *cheap) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["model"]["name"], result["corpus"]["name"]) == ("fresh-train", "train")
    assert result["tasks"]["cra"]["protocol"]["options"]["full_scores"] is True


def test_the_card_itself_is_named_where_it_finds_the_weights(trained, slice_folder, tmp_path):
    assert runnable_as(str(slice_folder / "toy.yaml"), trained) == str(slice_folder / "toy.yaml")
    elsewhere = replace(trained, checkpoint=tmp_path)
    assert runnable_as(str(slice_folder / "toy.yaml"), elsewhere) == str(tmp_path)
    pinned = tmp_path / "pinned.yaml"
    pinned.write_text(yaml.safe_dump({**card_for(slice_folder), "checkpoint": str(trained.checkpoint), "sha256": "00"}))
    assert runnable_as(str(pinned), trained) == str(trained.checkpoint)
    assert runnable_as(str(pinned), replace(trained, checkpoint=Path("out"))) == "./out"


def test_weights_that_a_card_does_not_expect_are_pointed_out(slice_folder, tmp_path, capsys):
    path, folder = tmp_path / "pinned.yaml", tmp_path / "weights"
    path.write_text(yaml.safe_dump({**card_for(slice_folder), "checkpoint": "weights", "sha256": "00ff"}))
    assert harness("train", "--model", path, "--output", folder) == 0
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    said = capsys.readouterr().err.splitlines()[-2:]
    assert said[0] == f"the card 'toy' looks here for other weights; give it sha256: {sha256}"
    assert said[1] == f"evaluate it with: harness run --model {folder} --tasks cra"


def test_a_folder_of_other_things_is_refused_before_training(slice_folder, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    card = slice_folder / "toy.yaml"
    assert harness("train", "--model", card, "--output", tmp_path / "mine", "--set", "training.seed=8") == 2
    assert "is not empty and holds no checkpoint" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_default_folder_is_replaced_by_the_same_recipe_only(slice_folder, tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text(yaml.safe_dump({**card_for(slice_folder), "name": "twice", "checkpoint": None}))

    def train(steps: int, output: Path | None = None) -> Trained:
        card = training_card(read_card(str(path)), corpus=None, settings={"training": {"steps": steps}})
        return train_model(card, output=output)

    first = train(2)
    assert train(2).sha256 == first.sha256
    with pytest.raises(InputError, match=r"twice holds a checkpoint of another recipe .*Name a folder with --output"):
        train(1)
    assert train(1, first.checkpoint).steps == 1
