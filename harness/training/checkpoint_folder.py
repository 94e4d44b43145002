"""What a checkpoint folder says of itself, read and checked without building its decoder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from harness.config import build, digest, file_digest
from harness.errors import CheckpointError, UsageError
from harness.speech.parts import TokenizerParts
from harness.training.decoder_config import decoder_settings, weight_shapes
from harness.training.recipe import Architecture
from harness.training.text_tokenizer import TextTokenizer
from harness.training.vocabulary import Vocabulary

WEIGHTS, TEXT, SPEECH, RECORD = "model.safetensors", "text.model", "speech", "sutlm.json"
#: The configuration of the decoder, for transformers.
CONFIG = "config.json"
#: What `config.json` may say without another number coming out.
SILENT_SETTINGS = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
FORMAT = 1
_FLOATING = ("F64", "F32", "F16", "BF16")


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
        """Reads everything but the weights themselves, which are hashed, and whose names and shapes are checked.

        Raises:
            CheckpointError: if a file is absent, the weights are not safetensors of this architecture, `sha256`
                differs, the tokenizers are not those that the weights were trained with, or `config.json` is of another
                decoder.
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
        vocab_size = _vocabulary(folder).size
        _check_shapes(folder / WEIGHTS, weight_shapes(architecture, vocab_size))
        _check_settings(folder, architecture, vocab_size)
        return cls(folder, architecture, found, tokenizers)


def _vocabulary(folder: Path) -> Vocabulary:
    subwords = TokenizerParts.load(folder / SPEECH).subwords
    return Vocabulary(num_units=subwords.vocab_size, num_text=TextTokenizer(folder / TEXT).size)


def _check_shapes(path: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses a weights file that is not of an architecture, by its header alone."""
    try:
        with safe_open(path, framework="numpy") as weights:
            found = {name: weights.get_slice(name) for name in weights.keys() if name != "lm_head.weight"}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in found.items()}
            kinds = {name: str(part.get_dtype()) for name, part in found.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be loaded into this architecture: {error}") from None
    missing, unexpected = sorted(expected.keys() - shapes.keys()), sorted(shapes.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(f"{path} does not fit: missing {missing[:3]}, unexpected {unexpected[:3]}.")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise CheckpointError(
                f"{path} cannot be loaded into this architecture: size mismatch for {name}: {list(shapes[name])} in "
                f"the file, {list(shape)} by {RECORD} and the tokenizers. Restore the checkpoint or train it again."
            )
        if kinds[name] not in _FLOATING:
            raise CheckpointError(f"{path}: {name} is of type {kinds[name]}; weights are of {', '.join(_FLOATING)}.")


def _check_settings(folder: Path, architecture: Architecture, vocab_size: int) -> None:
    """`check_config`, without importing transformers where `config.json` says what `harness train` writes."""
    path = folder / CONFIG
    if not path.is_file():
        return
    expected = {"model_type": "opt", **decoder_settings(architecture, vocab_size)}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError:
        content = None
    if isinstance(content, dict) and {k: v for k, v in content.items() if k not in SILENT_SETTINGS} == expected:
        return
    from harness.training.checkpoint import check_config
    from harness.training.decoder import decoder_config

    check_config(folder, decoder_config(architecture, vocab_size))


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
    if not isinstance(content.get("tokenizers", ""), str):
        raise CheckpointError(f"{path} is damaged; restore the checkpoint or train it again.")
    if form != FORMAT:
        raise CheckpointError(
            f"{path} is of format {form!r}, and this version of the harness reads format {FORMAT}; it was written by "
            "another version: install that one, or train the checkpoint again."
        )
    return content
