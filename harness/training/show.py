"""What `harness show` reports of a finished checkpoint, read from its files without loading the model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from harness.errors import CheckpointError

# `checkpoint.py` has the names as well, but with it comes torch.
_WEIGHTS, _RECORD = "model.safetensors", "sutlm.json"
#: Bytes that say how long a safetensors file's header is.
_LENGTH_BYTES = 8


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """Parameters, and for checkpoints of `harness train` what the training was: steps, tokens, tokenizers, mixture.

    `mixture` has for each format the share asked for and the token and sample shares, tokens and epochs it came to.

    Raises:
        CheckpointError: if a file is damaged.
    """
    found: dict[str, Any] = {"parameters": num_parameters(folder / _WEIGHTS)}
    path = folder / _RECORD
    if not path.is_file():
        return found
    try:
        record = json.loads(path.read_text("utf-8"))["record"]
        weights = record["training"]["mixture"]
        total = sum(weights.values())
        mixture = {kind: {"asked": weights[kind] / total, **facts} for kind, facts in record["realized"].items()}
        facts = {key: record[key] for key in ("steps", "tokens", "losses", "tokenizers", "corpora")}
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path} is damaged; restore the checkpoint or train it again.") from None
    # Checkpoints made before these were counted have none.
    later = {key: record[key] for key in ("num_cut", "num_without_word_times") if key in record}
    return {**found, **facts, "mixture": mixture, **later}


def num_parameters(weights: Path) -> int:
    """Number of values in a safetensors file, from its header.

    Raises:
        CheckpointError: if it has none.
    """
    try:
        with weights.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(_LENGTH_BYTES), "little")))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError):
        raise CheckpointError(f"{weights} is not readable as safetensors; fetch or train it again.") from None
