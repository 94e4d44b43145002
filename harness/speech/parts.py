"""The parts that make a speech tokenizer, and what identifies them; torch is not needed to read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.config import build, digest
from harness.errors import CheckpointError
from harness.speech.codebook import centroids_digest, load_centroids
from harness.speech.config import TokenizerConfig
from harness.speech.features import extractor_digest
from harness.speech.record import read_record
from harness.speech.units import UnitSubwords

_DIGEST_LENGTH = 16


@dataclass(frozen=True)
class TokenizerParts:
    """What decides the ids that audio becomes.

    Attributes:
        config: what the tokenizer was trained with.
        centroids: the codebook, `(n_clusters, dim)`.
        subwords: pieces over the units.
        weights_sha256: digest of the extractor's weights; None for `mfcc`.
    """

    config: TokenizerConfig
    centroids: NDArray[np.float32]
    subwords: UnitSubwords
    weights_sha256: str | None = None

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each part."""
        return {
            "extractor": extractor_digest(self.config.features, self.weights_sha256),
            "centroids": centroids_digest(self.centroids),
            "subwords": self.subwords.digest,
        }

    @property
    def system(self) -> str:
        """Digest of extractor, layer and codebook, 16 hexadecimal characters."""
        return _short({name: value for name, value in self.digests.items() if name != "subwords"})

    @property
    def digest(self) -> str:
        """Digest of the unit system and the subwords, 16 hexadecimal characters."""
        return _short({"system": self.system, "subwords": self.subwords.digest})

    @classmethod
    def load(cls, folder: Path, *, weights: Path | None = None) -> TokenizerParts:
        """The parts of the tokenizer saved in a folder.

        Args:
            folder: as written by `SpeechTokenizer.save`.
            weights: path of the extractor's weights on this machine; defaults to the one used in training.

        Raises:
            CheckpointError: if a file is absent, of another format, or altered since it was saved.
        """
        record = read_record(folder)
        settings = dict(record["config"])
        if weights is not None:
            settings["features"] = {**settings["features"], "weights": weights}
        config = build(TokenizerConfig, settings, where=str(folder / "tokenizer.json"))
        model = None if config.subwords == "none" else folder / "units.model"
        parts = cls(
            config,
            load_centroids(folder / "centroids.safetensors"),
            UnitSubwords.load(model, n_units=config.n_clusters),
            weights_sha256=record["digests"]["weights"],
        )
        for part, value in parts.digests.items():
            if value != record["digests"][part]:
                raise CheckpointError(
                    f"The tokenizer {folder} was altered: its {part} have the digest {value[:16]}, tokenizer.json says "
                    f"{record['digests'][part][:16]}. Models trained with it would get wrong units; restore the folder."
                )
        return parts


def _short(value: object) -> str:
    return digest(value)[:_DIGEST_LENGTH]
