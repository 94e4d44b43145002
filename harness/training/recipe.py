"""The sections of a card that say how a `sutlm` checkpoint is built: tokenizers, architecture, training."""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.config import STRICT, build
from harness.errors import ConfigError
from harness.model import ModelCard
from harness.speech.config import TokenizerConfig

Format = Literal["speech", "text", "cst", "ast"]
FORMATS: tuple[Format, ...] = ("speech", "text", "cst", "ast")

AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveRate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: From 0 up to, but without, 1.
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class TextTokenizerConfig:
    """SentencePiece over lower-case text; the paper's subwords, size ours."""

    kind: Literal["bpe", "unigram"] = "bpe"
    vocab_size: AtLeastOne = 400


@dataclass(frozen=True, config=STRICT)
class TokenizersConfig:
    """The two tokenizers of a checkpoint and the utterances they are trained on."""

    speech: TokenizerConfig = field(default_factory=TokenizerConfig)
    text: TextTokenizerConfig = field(default_factory=TextTokenizerConfig)
    #: Utterances the k-means codebook and the subword models are trained on, drawn by seed.
    num_utterances: AtLeastOne = 2000
    seed: NotNegative = 0


@dataclass(frozen=True, config=STRICT)
class Architecture:
    """An OPT-style decoder: pre-norm, learned positions, ReLU, tied embeddings."""

    num_layers: AtLeastOne = 4
    hidden_size: AtLeastOne = 256
    num_heads: AtLeastOne = 4
    ffn_size: AtLeastOne = 1024
    #: Tokens; no document and no prompt with its continuation is longer.
    context: Annotated[int, Field(ge=2)] = 512
    dropout: Fraction = 0.0

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size={self.hidden_size} does not divide among num_heads={self.num_heads}; make it a multiple."
            )


@dataclass(frozen=True, config=STRICT)
class Mixture:
    """Weights of the four formats (≥ 0, not all zero); read as proportions, so 1:1:3:2 is as good as fractions."""

    speech: float = 1.0
    text: float = 1.0
    cst: float = 1.0
    ast: float = 1.0

    def __post_init__(self) -> None:
        if not all(0 <= w < math.inf for w in self.weights.values()) or not sum(self.weights.values()):
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
    max_span_words: AtLeastOne = 10
    #: Probability that a document loses its beginning, so that the model learns how likely a continuation is without
    #: its prompt: what `pmi` scores subtract.
    prompt_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: Which half of CST comes first: drawn per sample, or always speech (`u2t`), or always text (`t2u`).
    cst_direction: Literal["both", "u2t", "t2u"] = "both"
    #: Probability that CST takes a random run of words in place of the whole utterance; needs word times.
    cst_part: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: A registered model or card with the same tokenizers and architecture whose weights training starts from.
    start_from: str | None = None
    steps: AtLeastOne = 1000
    batch_tokens: AtLeastOne = 4096
    accumulate: AtLeastOne = 1
    row_tokens: Annotated[int, Field(ge=2)] = 256
    learning_rate: PositiveRate = 2e-3
    min_learning_rate: Rate = 2e-4
    warmup_steps: NotNegative = 100
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    #: Share of the steps over which `wsd` decays linearly at the end.
    decay_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    weight_decay: Rate = 0.1
    clip_norm: PositiveRate = 1.0
    seed: NotNegative = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    #: Type in which the finished weights are written; they are computed with in float32 wherever they are loaded.
    export_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    eval_every: AtLeastOne = 200
    checkpoint_every: AtLeastOne = 200
    #: Validation documents of each format; 100 leave a standard error of about 1 % of the loss. A run of few steps
    #: takes fewer (`validation_documents`).
    eval_documents: AtLeastOne = 100

    def __post_init__(self) -> None:
        if self.batch_tokens < self.row_tokens:
            raise ConfigError(
                f"batch_tokens={self.batch_tokens} is smaller than one row of row_tokens={self.row_tokens}; "
                "raise batch_tokens or lower row_tokens."
            )
        if self.batch_tokens // self.row_tokens < self.accumulate:
            raise ConfigError(
                f"batch_tokens={self.batch_tokens} holds {self.batch_tokens // self.row_tokens} rows of "
                f"row_tokens={self.row_tokens}, too few for accumulate={self.accumulate} parts; raise batch_tokens or "
                "lower accumulate."
            )
        if self.min_learning_rate > self.learning_rate:
            raise ConfigError(
                f"min_learning_rate={self.min_learning_rate:g} is above learning_rate={self.learning_rate:g}, which "
                "the schedule falls from; lower min_learning_rate too."
            )

    @property
    def validation_documents(self) -> int:
        """Documents of each format in a validation: no more than steps, so that a trial is not mostly validation."""
        return min(self.eval_documents, max(8, self.steps))


@plain_dataclass(frozen=True)
class TrainingRecipe:
    """The three sections of a card that say how its checkpoint is made.

    Attributes:
        tokenizers: how its tokenizers are made.
        architecture: the sizes of the decoder.
        training: how its weights are made.
    """

    tokenizers: TokenizersConfig
    architecture: Architecture
    training: TrainingConfig

    @classmethod
    def of(cls, card: ModelCard, *, where: str | None = None) -> TrainingRecipe:
        """The recipe of a card; `where` is what errors call it.

        Raises:
            ConfigError: if a section does not fit its schema.
        """
        where = where or f"card '{card.name}'"
        return cls(
            tokenizers=build(TokenizersConfig, card.tokenizers, where=f"{where}: tokenizers"),
            architecture=build(Architecture, card.architecture, where=f"{where}: architecture"),
            training=build(TrainingConfig, card.training, where=f"{where}: training"),
        )
