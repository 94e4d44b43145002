"""What a speech tokenizer is trained with."""

from __future__ import annotations

from dataclasses import field

from pydantic.dataclasses import dataclass

from harness.config import STRICT
from harness.errors import ConfigError
from harness.speech.features import FeatureConfig
from harness.speech.units import SubwordKind


@dataclass(frozen=True, config=STRICT)
class TokenizerConfig:
    """What a speech tokenizer is trained with.

    Attributes:
        features: the extractor.
        n_clusters: units in the codebook.
        subwords: SentencePiece model over deduplicated units, or `none`: each unit is its own subword.
        vocab_size: number of unit subwords; ignored by `none`.
        max_piece_units: longest subword, in units.
        kmeans_frames: frames that k-means sees at most; utterances are drawn at random until they are reached.
        kmeans_n_init: random initializations tried (fairseq's HuBERT recipe: 20).
        kmeans_batch_frames: frames per mini-batch (fairseq: 10,000).
    """

    features: FeatureConfig = field(default_factory=FeatureConfig)
    n_clusters: int = 100
    subwords: SubwordKind = "unigram"
    vocab_size: int | None = 1000
    max_piece_units: int = 16
    kmeans_frames: int = 500_000
    kmeans_n_init: int = 5
    kmeans_batch_frames: int = 10_000

    def __post_init__(self) -> None:
        if self.n_clusters < 2:
            raise ConfigError(f"tokenizer: 'n_clusters' must be at least 2; found {self.n_clusters}.")
        for name in ("max_piece_units", "kmeans_n_init", "kmeans_batch_frames"):
            if getattr(self, name) < 1:
                raise ConfigError(f"tokenizer: '{name}' must be at least 1; found {getattr(self, name)}.")
        if self.kmeans_frames < self.n_clusters:
            raise ConfigError(
                f"tokenizer: 'kmeans_frames' ({self.kmeans_frames}) must reach 'n_clusters' ({self.n_clusters})."
            )
        if self.subwords != "none" and (self.vocab_size is None or self.vocab_size < self.n_clusters):
            raise ConfigError(
                f"tokenizer: every unit is a subword, so 'vocab_size' ({self.vocab_size}) must reach 'n_clusters' "
                f"({self.n_clusters})."
            )
