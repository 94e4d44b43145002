"""The code that computes answers, as part of what they are stored under."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.code import PACKAGE, own_sources, sources_digest, versions_of
from harness.config import digest

if TYPE_CHECKING:
    from harness.model import Model

#: Packages whose modules all count, but for those named.
_PACKAGES: dict[str, frozenset[str]] = {
    "engine": frozenset(),
    "speech": frozenset({"cache", "lookup", "record", "training"}),
}
#: Further modules that turn segments into ids, and ids into numbers.
_MODULES = (
    "segments.py",
    *(
        f"training/{name}.py"
        for name in ("checkpoint", "checkpoint_folder", "decoder", "decoder_config", "text_tokenizer", "vocabulary")
    ),
)
_LIBRARIES = ("torch", "torchaudio", "transformers", "tokenizers", "sentencepiece", "soundfile", "numpy", "peft")


@functools.cache
def source_digest(package: Path = PACKAGE) -> str:
    """Changes whenever the source of a module does that may decide a number: all of the engine, and what feeds it."""
    modules = [
        path
        for folder, without in _PACKAGES.items()
        for path in sorted((package / folder).glob("*.py"))
        if path.stem not in without
    ]
    return sources_digest([*modules, *(package / name for name in _MODULES)])


def scoring_version(*models: Model) -> str:
    """Digest of the code that computes answers: engine, adapters of the models, versions of the libraries below."""
    adapters = sorted({digest(own_sources(type(model))) for model in models})
    return digest([source_digest(), adapters, versions_of(_LIBRARIES)])


def procedure_version(task: object, models: Sequence[Model]) -> str:
    """Digest of the code that computes a procedure's records: its own, and what computes the answers of its models."""
    return digest([own_sources(type(task), also=("harness.metrics",)), scoring_version(*models)])
