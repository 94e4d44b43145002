"""What a checkpoint says of itself, read without loading it."""

import shutil

import pytest
from safetensors.torch import load_file

from harness.errors import CheckpointError
from harness.training.show import describe_checkpoint


def test_what_training_came_to_is_shown_without_loading_it(trained):
    found = describe_checkpoint(trained.checkpoint)
    assert found["parameters"] == sum(
        value.numel() for value in load_file(trained.checkpoint / "model.safetensors").values()
    )
    assert (found["steps"], found["tokens"]) == (2, trained.tokens)
    assert found["tokenizers"]["text"]["vocab_size"] == 80
    assert found["mixture"]["ast"]["asked"] == 0.25
    assert found["mixture"]["ast"]["token_share"] == trained.realized["ast"]["token_share"]
    assert (found["num_cut"], found["num_without_word_times"]) == (0, 0)


def test_weights_alone_are_shown_by_their_number_of_parameters(trained, tmp_path):
    shutil.copy(trained.checkpoint / "model.safetensors", tmp_path)
    assert list(describe_checkpoint(tmp_path)) == ["parameters"]
    for content in (b"", b"not safetensors"):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.safetensors is not readable as safetensors"):
            describe_checkpoint(tmp_path)
