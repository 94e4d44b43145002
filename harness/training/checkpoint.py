"""Checkpoint folders: weights and tokenizers in one place, safetensors only."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import OPTForCausalLM

from harness.config import build, digest, file_digest, plain
from harness.errors import CheckpointError
from harness.speech.tokenizer import SpeechTokenizer
from harness.training.decoder import build_decoder
from harness.training.recipe import Architecture
from harness.training.text_tokenizer import TextTokenizer
from harness.training.vocabulary import Vocabulary

WEIGHTS, TEXT, SPEECH, RECORD = "model.safetensors", "text.model", "speech", "sutlm.json"
_FORMAT = 1


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
) -> None:
    """Writes a checkpoint folder whole or not at all.

    Args:
        folder: replaced if it exists.
        model: whose weights are written (tied output weights once).
        architecture: its sizes, needed to build it again.
        tokenizers_from: a folder with `speech/` and `text.model`.
        record: how the weights came about, kept for readers; no code reads it.
        dtype: torch type in which the weights are written.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    shutil.copytree(tokenizers_from / SPEECH, part / SPEECH)
    shutil.copy2(tokenizers_from / TEXT, part / TEXT)
    save_file(_weights(model, getattr(torch, dtype)), part / WEIGHTS)
    content = {"format": _FORMAT, "architecture": plain(architecture), "record": record}
    (part / RECORD).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    part.replace(folder)


def load_checkpoint(folder: Path, *, sha256: str | None = None) -> Checkpoint:
    """Reads a checkpoint folder.

    Raises:
        CheckpointError: if a file is absent, the weights are not safetensors of this architecture, or `sha256` differs.
    """
    if not (folder / WEIGHTS).is_file():
        pickles = [p.name for p in folder.glob("*") if p.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
        why = f" It holds {pickles[0]}, but pickles are refused: convert it to safetensors." if pickles else ""
        raise CheckpointError(f"{folder} holds no {WEIGHTS}.{why}")
    found = file_digest(folder / WEIGHTS)
    if sha256 and sha256 != found:
        raise CheckpointError(
            f"{folder / WEIGHTS} has SHA-256 {found}, its card says {sha256}; fetch or train it again."
        )
    if not (folder / RECORD).is_file():
        raise CheckpointError(f"{folder} holds no {RECORD}, which says the architecture of the weights.")
    content = json.loads((folder / RECORD).read_text("utf-8"))
    architecture = build(Architecture, content["architecture"], where=str(folder / RECORD))
    tokenizers = Tokenizers.load(folder)
    model = build_decoder(architecture, tokenizers.vocabulary.size, seed=0)
    load_weights(model, folder / WEIGHTS)
    return Checkpoint(model.eval(), tokenizers, architecture, found)


def load_weights(model: OPTForCausalLM, path: Path) -> None:
    """Puts the weights of a safetensors file into a model of the same architecture.

    Raises:
        CheckpointError: if names or shapes do not fit.
    """
    try:
        weights = load_file(path)
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be loaded into this architecture: {error}") from error
    left_out = [name for name in missing if name != "lm_head.weight"]
    if left_out or unexpected:
        raise CheckpointError(f"{path} does not fit: missing {left_out[:3]}, unexpected {unexpected[:3]}.")
    model.tie_weights()


def _weights(model: OPTForCausalLM, dtype: torch.dtype) -> dict[str, Tensor]:
    state = model.state_dict()
    return {k: v.detach().to("cpu", dtype).contiguous() for k, v in state.items() if k != "lm_head.weight"}
