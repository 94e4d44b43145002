"""SentencePiece over text, word by word, so that a span of words has the same subwords wherever it is cut."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece as spm

from harness.config import file_digest
from harness.errors import CheckpointError, TokenizerError
from harness.files import write_bytes
from harness.training.recipe import TextTokenizerConfig


class TextTokenizer:
    """Text subwords; pieces never cross a space, hence `encode(a + b) == encode(a) + encode(b)` for whole words."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CheckpointError(f"The text tokenizer {path} is missing; the checkpoint folder is incomplete.")
        self.digest = file_digest(path)
        self._model = spm.SentencePieceProcessor(model_file=str(path))
        self._word = functools.lru_cache(maxsize=100_000)(self._encode_word)

    @property
    def size(self) -> int:
        """Number of subwords."""
        return int(self._model.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Subword ids, `0 … size - 1`; unknown characters become the unknown piece."""
        return [i for word in text.split() for i in self._word(word)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of subword ids."""
        return str(self._model.decode(list(ids)))

    def _encode_word(self, word: str) -> tuple[int, ...]:
        return tuple(self._model.encode(word))


def train_text_tokenizer(texts: Iterable[str], config: TextTokenizerConfig, path: Path) -> TextTokenizer:
    """Trains SentencePiece on lower-case texts and writes it to `path`; the same texts give the same bytes.

    Raises:
        TokenizerError: if the texts are too few for the vocabulary size asked for.
    """
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(t.split()) for t in texts]),
            model_writer=model,
            model_type=config.kind,
            vocab_size=config.vocab_size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            unk_id=0,
            num_threads=1,
            shuffle_input_sentence=False,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise TokenizerError(
            f"SentencePiece cannot make {config.vocab_size} text subwords of these texts: {error}"
        ) from None
    write_bytes(path, model.getvalue())
    return TextTokenizer(path)
