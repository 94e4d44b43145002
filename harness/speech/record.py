"""What a tokenizer folder records about itself, in `tokenizer.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.errors import CheckpointError

FORMAT = 1


def describe(folder: Path) -> dict[str, Any]:
    """What a tokenizer folder holds, from its `tokenizer.json` alone.

    Raises:
        CheckpointError: if the folder holds no tokenizer.
    """
    record = read_record(folder)
    config = record["config"]
    return {
        "folder": str(folder),
        "system": record["system"],
        "digest": record["digest"],
        "features": config["features"]["kind"],
        "layer": config["features"]["layer"],
        "rate_hz": record["rate_hz"],
        "n_clusters": config["n_clusters"],
        "subwords": config["subwords"],
        "vocab_size": record["vocab_size"],
        "trained_on": record["trained_on"],
        "versions": record["versions"],
    }


def read_record(folder: Path) -> dict[str, Any]:
    """The checked content of `tokenizer.json`.

    Raises:
        CheckpointError: if the folder holds no tokenizer, or one of another format.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a speech tokenizer: it has no tokenizer.json. Make one with 'harness tokenizer'."
        )
    try:
        record = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of the tokenizer format {FORMAT}; it was made by another version.")
    if missing := {"config", "rate_hz", "vocab_size", "system", "digest", "digests"} - set(record):
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}; restore it or train the tokenizer again.")
    return record
