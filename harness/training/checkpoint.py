"""Checkpoint folders: weights and tokenizers in one place, safetensors only.

A folder is also one of Hugging Face transformers: `AutoModelForCausalLM.from_pretrained(folder)` reads its decoder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from harness.config import digest, file_digest, plain
from harness.errors import CheckpointError
from harness.files import new_folder
from harness.model import CARD
from harness.speech.tokenizer import SpeechTokenizer
from harness.training.checkpoint_folder import (
    CONFIG,
    FORMAT,
    RECORD,
    SILENT_SETTINGS,
    SPEECH,
    TEXT,
    WEIGHTS,
    CheckpointFolder,
    check_replaceable,
)
from harness.training.decoder import build_decoder
from harness.training.decoder_config import decoder_settings
from harness.training.recipe import Architecture
from harness.training.text_tokenizer import TextTokenizer
from harness.training.vocabulary import Vocabulary


@dataclass(frozen=True)
class Tokenizers:
    """The speech and text tokenizers of a checkpoint, and the vocabulary they make together."""

    speech: SpeechTokenizer
    text: TextTokenizer

    @property
    def vocabulary(self) -> Vocabulary:
        """Id ranges."""
        return Vocabulary(num_units=self.speech.vocab_size, num_text=self.text.size)

    @property
    def digest(self) -> str:
        """Changes whenever the same input could become other ids."""
        return digest({"speech": self.speech.digest, "text": self.text.digest})

    @classmethod
    def load(cls, folder: Path) -> Tokenizers:
        """Reads both from a checkpoint folder.

        Raises:
            CheckpointError: if either is absent or altered.
        """
        return cls(SpeechTokenizer.load(folder / SPEECH), TextTokenizer(folder / TEXT))


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds, loaded."""

    model: OPTForCausalLM
    tokenizers: Tokenizers
    architecture: Architecture
    weights_sha256: str


def save_checkpoint(
    folder: Path,
    model: OPTForCausalLM,
    architecture: Architecture,
    tokenizers_from: Path,
    record: dict[str, Any],
    *,
    dtype: str = "float32",
    card: Mapping[str, Any] | None = None,
) -> str:
    """Writes a checkpoint folder whole or not at all; returns the SHA-256 of its weights, in hexadecimal.

    Args:
        folder: replaced if it holds a checkpoint of this kind.
        model: whose weights are written (tied output weights once).
        architecture: its sizes, needed to build it again.
        tokenizers_from: a folder with `speech/` and `text.model`.
        record: how the weights came about, for readers and `harness show`.
        dtype: torch type in which the weights are written.
        card: what `harness run` is to know of the model; written as a card whose weights lie beside it.

    Raises:
        UsageError: if the folder holds something else.
        CheckpointError: if a weight is too large for `dtype`.
    """
    folder = folder.resolve()
    check_replaceable(folder)
    weights = _weights(model, getattr(torch, dtype))
    with new_folder(folder) as part:
        shutil.copytree(tokenizers_from / SPEECH, part / SPEECH)
        shutil.copy2(tokenizers_from / TEXT, part / TEXT)
        save_file(weights, part / WEIGHTS)
        sha256 = file_digest(part / WEIGHTS)
        if card is not None:
            text = yaml.safe_dump({**plain(card), "checkpoint": ".", "sha256": sha256}, sort_keys=False, width=120)
            (part / CARD).write_text(text, "utf-8")
        tokenizers = Tokenizers.load(part)
        _write(part / CONFIG, huggingface_config(architecture, tokenizers.vocabulary.size, dtype=dtype))
        content = {"architecture": plain(architecture), "tokenizers": tokenizers.digest, "record": record}
        _write(part / RECORD, {"format": FORMAT, **content})
    return sha256


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")


def huggingface_config(architecture: Architecture, vocab_size: int, *, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `dtype` is the type in which the weights are stored."""
    kind = {"model_type": OPTConfig.model_type, "architectures": [OPTForCausalLM.__name__], "dtype": dtype}
    return {**kind, **decoder_settings(architecture, vocab_size)}


def load_checkpoint(folder: Path, *, sha256: str | None = None) -> Checkpoint:
    """Reads a checkpoint folder.

    Raises:
        CheckpointError: if a file is absent, the weights are not safetensors of this architecture, `sha256` differs,
            `config.json` is of another decoder, or the tokenizers are not those that the weights were trained with.
    """
    opened = CheckpointFolder.open(folder, sha256=sha256)
    tokenizers = Tokenizers.load(folder)
    model = load_decoder(opened, tokenizers.vocabulary.size)
    return Checkpoint(model, tokenizers, opened.architecture, opened.weights_sha256)


def load_decoder(folder: CheckpointFolder, vocab_size: int) -> OPTForCausalLM:
    """The decoder of a checkpoint whose tokenizers make `vocab_size` ids; in float32 on the CPU, ready to evaluate.

    Raises:
        CheckpointError: if the weights are not of this architecture, or `config.json` is of another decoder.
    """
    model = build_decoder(folder.architecture, vocab_size, seed=0)
    load_weights(model, folder.path / WEIGHTS)
    check_config(folder.path, model.config)
    return model.eval()


def check_config(folder: Path, expected: OPTConfig) -> None:
    """Refuses a `config.json` of another decoder: transformers would compute other numbers than the harness.

    Raises:
        CheckpointError: if it is damaged or says anything else that can change a number.
    """
    path = folder / CONFIG
    if not path.is_file():
        return
    try:
        content = dict(json.loads(path.read_text("utf-8")))
        kind = content.get("model_type")
        found = OPTConfig.from_dict(content).to_dict()
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); restore the checkpoint or train it again.") from None
    wanted = expected.to_dict()
    for name in sorted((wanted.keys() | found.keys()) - SILENT_SETTINGS):
        value = kind if name == "model_type" else found.get(name)
        if value != wanted.get(name):
            raise CheckpointError(
                f"{path} says {name}={value!r}, but by {RECORD} it is {wanted.get(name)!r}: transformers would read "
                "another model from this folder than the harness. Restore the checkpoint or train it again."
            )


def load_weights(model: OPTForCausalLM, path: Path) -> None:
    """Puts the weights of a safetensors file into a model of the same architecture.

    Raises:
        CheckpointError: if names or shapes do not fit.
    """
    try:
        weights = load_file(path)
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be loaded into this architecture: {error}") from error
    left_out = [name for name in missing if name != "lm_head.weight"]
    if left_out or unexpected:
        raise CheckpointError(f"{path} does not fit: missing {left_out[:3]}, unexpected {unexpected[:3]}.")
    model.tie_weights()


def _weights(model: OPTForCausalLM, dtype: torch.dtype) -> dict[str, Tensor]:
    weights = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        written = value.detach().to("cpu", dtype).contiguous()
        if written.isinf().any():
            raise CheckpointError(
                f"{name} reaches {value.abs().max():g}, but {str(dtype).removeprefix('torch.')} ends at "
                f"{torch.finfo(dtype).max:g}. Run the same command with '--set training.export_dtype=bfloat16' (or "
                "float32): the finished training is exported again without another step."
            )
        weights[name] = written
    return weights
