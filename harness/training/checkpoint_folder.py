"""What a checkpoint folder says of itself, read and checked without building its decoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import build, digest, file_digest
from harness.errors import CheckpointError, UsageError
from harness.speech.parts import TokenizerParts
from harness.training.recipe import Architecture

WEIGHTS, TEXT, SPEECH, RECORD = "model.safetensors", "text.model", "speech", "sutlm.json"
#: The configuration of the decoder, for transformers.
CONFIG = "config.json"
FORMAT = 1


@dataclass(frozen=True)
class CheckpointFolder:
    """A checkpoint folder whose files belong together.

    Attributes:
        path: of the folder.
        architecture: of its decoder.
        weights_sha256: digest of the weights file, in hexadecimal.
        tokenizers_digest: changes whenever the same input could become other ids.
    """

    path: Path
    architecture: Architecture
    weights_sha256: str
    tokenizers_digest: str

    @classmethod
    def open(cls, folder: Path, *, sha256: str | None = None) -> CheckpointFolder:
        """Reads everything but the weights, which are hashed.

        Raises:
            CheckpointError: if a file is absent, the weights are not safetensors, `sha256` differs, or the tokenizers
                are not those that the weights were trained with.
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
        content = _read_record(folder / RECORD)
        architecture = build(Architecture, content["architecture"], where=str(folder / RECORD))
        tokenizers = tokenizers_digest(folder)
        # Checkpoints made before the digest was recorded have none.
        if content.get("tokenizers", tokenizers) != tokenizers:
            raise CheckpointError(
                f"The tokenizers in {folder} ({SPEECH}/, {TEXT}) have the digest {tokenizers[:16]}, but its weights "
                f"were trained with {content['tokenizers'][:16]}: the same ids would mean something else. Restore the "
                "folder or train it again."
            )
        return cls(folder, architecture, found, tokenizers)


def tokenizers_digest(folder: Path) -> str:
    """Digest of the speech and text tokenizers of a checkpoint folder, from their files.

    Raises:
        CheckpointError: if either is absent or altered.
    """
    if not (folder / TEXT).is_file():
        raise CheckpointError(f"The text tokenizer {folder / TEXT} is missing; the checkpoint folder is incomplete.")
    return digest({"speech": TokenizerParts.load(folder / SPEECH).digest, "text": file_digest(folder / TEXT)})


def check_replaceable(folder: Path) -> None:
    """Makes sure that writing a checkpoint to `folder` destroys nothing but an older checkpoint.

    Raises:
        UsageError: if it is a file, or a folder that holds anything without being a checkpoint.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the checkpoint.")
    if any(folder.iterdir()) and not ((folder / WEIGHTS).is_file() and (folder / RECORD).is_file()):
        raise UsageError(
            f"{folder} is not empty and holds no checkpoint ({WEIGHTS} with {RECORD}), so it is not replaced; name "
            "another folder, or empty it first."
        )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        content = dict(json.loads(path.read_text("utf-8")))
        form, _ = content["format"], content["architecture"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path} is damaged; restore the checkpoint or train it again.") from None
    if form != FORMAT:
        raise CheckpointError(
            f"{path} is of format {form!r}, and this version of the harness reads format {FORMAT}; it was written by "
            "another version: install that one, or train the checkpoint again."
        )
    return content
