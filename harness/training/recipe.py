"""The sections of a card that say how a `sutlm` checkpoint is built: tokenizers, architecture, training."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from harness.config import STRICT
from harness.errors import ConfigError
from harness.speech.tokenizer import TokenizerConfig

Format = Literal["speech", "text", "cst", "ast"]
FORMATS: tuple[Format, ...] = ("speech", "text", "cst", "ast")


@dataclass(frozen=True, config=STRICT)
class TextTokenizerConfig:
    """SentencePiece over lower-case text; the paper's subwords, size ours."""

    kind: Literal["bpe", "unigram"] = "bpe"
    vocab_size: int = 400


@dataclass(frozen=True, config=STRICT)
class TokenizersConfig:
    """The two tokenizers of a checkpoint and the utterances they are trained on."""

    speech: TokenizerConfig = field(default_factory=TokenizerConfig)
    text: TextTokenizerConfig = field(default_factory=TextTokenizerConfig)
    #: Utterances the k-means codebook and the subword models are trained on, drawn by seed.
    num_utterances: int = 2000
    seed: int = 0


@dataclass(frozen=True, config=STRICT)
class Architecture:
    """An OPT-style decoder: pre-norm, learned positions, ReLU, tied embeddings."""

    num_layers: int = 4
    hidden_size: int = 256
    num_heads: int = 4
    ffn_size: int = 1024
    context: int = 512
    dropout: float = 0.0


@dataclass(frozen=True, config=STRICT)
class Mixture:
    """Weights of the four formats (≥ 0, not all zero); read as proportions, so 1:1:3:2 is as good as fractions."""

    speech: float = 1.0
    text: float = 1.0
    cst: float = 1.0
    ast: float = 1.0

    def __post_init__(self) -> None:
        if min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0:
            raise ConfigError(f"Mixture weights must be ≥ 0 and not all zero; found {self.weights}.")

    @property
    def weights(self) -> dict[Format, float]:
        """The weights as given, by format."""
        return {"speech": self.speech, "text": self.text, "cst": self.cst, "ast": self.ast}

    @property
    def shares(self) -> dict[Format, float]:
        """The weights normalized to sum to 1."""
        total = sum(self.weights.values())
        return {name: weight / total for name, weight in self.weights.items()}


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """Everything that decides which weights come out of training, and nothing else."""

    mixture: Mixture = field(default_factory=Mixture)
    #: `tokens`: shares count tokens; `samples`: they count sequences.
    ratio_unit: Literal["tokens", "samples"] = "tokens"
    #: Corpus splits as `corpus:split`.
    train: tuple[str, ...] = ("demo:train",)
    dev: tuple[str, ...] = ("demo:dev",)
    #: AST spans last a whole number of words drawn uniformly from 1 … this.
    max_span_words: int = 10
    #: Probability that a document loses its beginning, so that the model learns how likely a continuation is without
    #: its prompt: what `pmi` scores subtract.
    prompt_dropout: float = 0.0
    steps: int = 1000
    batch_tokens: int = 4096
    accumulate: int = 1
    row_tokens: int = 256
    learning_rate: float = 2e-3
    min_learning_rate: float = 2e-4
    warmup_steps: int = 100
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    #: Share of the steps over which `wsd` decays linearly at the end.
    decay_share: float = 0.2
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    #: Type in which the finished weights are written; they are computed with in float32 wherever they are loaded.
    export_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    eval_every: int = 200
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        if not 0 <= self.prompt_dropout <= 1:
            raise ConfigError(f"prompt_dropout is a probability, 0 to 1; found {self.prompt_dropout}.")
        if self.batch_tokens < self.row_tokens:
            raise ConfigError(
                f"batch_tokens={self.batch_tokens} is smaller than one row of row_tokens={self.row_tokens}; "
                "raise batch_tokens or lower row_tokens."
            )
