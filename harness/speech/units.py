"""Subwords over deduplicated units."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import sentencepiece

from harness.config import digest
from harness.errors import CheckpointError, TokenizerError

SubwordKind = Literal["unigram", "bpe", "none"]

# The CJK block holds the first 20,992 units, a private-use plane the rest: no normalization, script or white-space
# rule of SentencePiece touches either.
_CJK, _CJK_SIZE = 0x4E00, 0x9FFF - 0x4E00 + 1
_PRIVATE, _PRIVATE_SIZE = 0xF0000, 0xFFFD + 1
MAX_UNITS = _CJK_SIZE + _PRIVATE_SIZE


def unit_to_char(unit: int) -> str:
    """The code point that stands for a unit: U+4E00 + unit, and from unit 20,992 on U+F0000 + (unit - 20,992)."""
    return chr(_CJK + unit) if unit < _CJK_SIZE else chr(_PRIVATE + unit - _CJK_SIZE)


def char_to_unit(char: str) -> int:
    """The inverse of `unit_to_char`."""
    code = ord(char)
    return code - _CJK if code < _PRIVATE else code - _PRIVATE + _CJK_SIZE


class UnitSubwords:
    """A bijection between unit sequences and piece ids `0 … vocab_size - 1`, one segmentation per sequence.

    Args:
        n_units: number of units (clusters); every single unit is a piece.
        model: a serialized SentencePiece model over unit code points, or None for one piece per unit.

    Raises:
        CheckpointError: if the model is not such a model or lacks a unit.
    """

    def __init__(self, n_units: int, model: bytes | None = None) -> None:
        if not 1 <= n_units <= MAX_UNITS:
            raise TokenizerError(f"Subwords hold 1 to {MAX_UNITS} units; found {n_units}.")
        self.n_units = n_units
        self.model = model
        self._processor = None if model is None else _processor(model)
        self._pieces = self._read_pieces()
        missing = set(range(n_units)) - {piece[0] for piece in self._pieces if len(piece) == 1}
        if missing or any(unit >= n_units for piece in self._pieces for unit in piece):
            raise CheckpointError(f"The unit subwords do not fit {n_units} units; do they belong to another codebook?")

    @classmethod
    def train(
        cls,
        sequences: Iterable[Sequence[int]],
        *,
        n_units: int,
        vocab_size: int | None = None,
        kind: SubwordKind = "unigram",
        max_piece_units: int = 16,
    ) -> UnitSubwords:
        """Subwords learned from deduplicated unit sequences; deterministic (one thread, no sampling).

        Args:
            sequences: one sequence of units per utterance.
            n_units: number of units of the codebook, seen in the sequences or not.
            vocab_size: number of pieces, at least `n_units`; not asked for by `none`.
            kind: SentencePiece's unigram model (Kudo 2018), byte-pair encoding, or `none`: each unit is its own piece.
            max_piece_units: longest piece, in units (SentencePiece's default).

        Raises:
            TokenizerError: if there is nothing to learn from, a unit is out of range, or the vocabulary is too small
                for the units or larger than the data supports.
        """
        if kind not in get_args(SubwordKind):
            raise TokenizerError(
                f"'{kind}' is not a kind of unit subwords; use one of {', '.join(get_args(SubwordKind))}."
            )
        if kind == "none":
            return cls(n_units)
        if vocab_size is None or vocab_size < n_units:
            raise TokenizerError(f"{n_units} units need a 'vocab_size' of at least {n_units}; found {vocab_size}.")
        lines = [_text(sequence, n_units) for sequence in sequences if len(sequence)]
        if not lines:
            raise TokenizerError("Unit subwords cannot be learned from no sequences.")
        # Each unit once more on a line of its own: all are in the alphabet, also those that the data never show.
        lines += [unit_to_char(unit) for unit in range(n_units)]
        return cls(n_units, _train(lines, vocab_size=vocab_size, kind=kind, max_piece_units=max_piece_units))

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return len(self._pieces)

    @property
    def piece_lengths(self) -> tuple[int, ...]:
        """Number of units in each piece, by piece id."""
        return tuple(len(piece) for piece in self._pieces)

    @property
    def digest(self) -> str:
        """SHA-256 of the model's bytes; without a model, of the number of units."""
        if self.model is None:
            return digest({"subwords": "none", "n_units": self.n_units})
        return hashlib.sha256(self.model).hexdigest()

    def encode(self, units: Sequence[int]) -> list[int]:
        """Piece ids of a unit sequence.

        Raises:
            TokenizerError: if a unit is out of range.
        """
        text = _text(units, self.n_units)
        if self._processor is None:
            return list(units)
        # SentencePiece cannot do without an unknown piece; it is id 0 there and does not exist here.
        return [int(i) - 1 for i in self._processor.encode(text, out_type=int)]

    def decode(self, ids: Iterable[int]) -> list[int]:
        """Units of a sequence of piece ids.

        Raises:
            TokenizerError: if an id is out of range.
        """
        units: list[int] = []
        for i in ids:
            if not 0 <= i < len(self._pieces):
                raise TokenizerError(f"{i} is not a unit piece; ids go from 0 to {len(self._pieces) - 1}.")
            units.extend(self._pieces[i])
        return units

    def save(self, path: Path) -> None:
        """Writes the SentencePiece model; subwords of kind `none` have none to write."""
        if self.model is not None:
            path.write_bytes(self.model)

    @classmethod
    def load(cls, path: Path | None, *, n_units: int) -> UnitSubwords:
        """Subwords written by `save`; None gives kind `none`.

        Raises:
            CheckpointError: if the file is absent or does not fit the number of units.
        """
        if path is None:
            return cls(n_units)
        if not path.is_file():
            raise CheckpointError(f"There is no unit subword model at {path}.")
        return cls(n_units, path.read_bytes())

    def _read_pieces(self) -> list[tuple[int, ...]]:
        if self._processor is None:
            return [(unit,) for unit in range(self.n_units)]
        texts = [self._processor.id_to_piece(i) for i in range(1, self._processor.get_piece_size())]
        return [tuple(char_to_unit(char) for char in text) for text in texts]


def _text(units: Sequence[int], n_units: int) -> str:
    for unit in units:
        if not 0 <= unit < n_units:
            raise TokenizerError(f"Unit {unit} is out of range; this codebook has units 0 to {n_units - 1}.")
    return "".join(map(unit_to_char, units))


def _processor(model: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise CheckpointError(f"The unit subword model cannot be read: {error}") from None
    if processor.unk_id() != 0 or not processor.get_piece_size() > 1:
        raise CheckpointError("The unit subword model was not made by this harness: its piece 0 is not <unk>.")
    return processor


def _train(lines: list[str], *, vocab_size: int, kind: str, max_piece_units: int) -> bytes:
    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=out,
            model_type=kind,
            vocab_size=vocab_size + 1,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_unicode_script=False,
            split_by_whitespace=False,
            split_by_number=False,
            split_digits=False,
            byte_fallback=False,
            character_coverage=1.0,
            max_sentencepiece_length=max_piece_units,
            # The default of 4,192 bytes would silently drop every utterance over about a minute.
            max_sentence_length=1 << 24,
            input_sentence_size=0,
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        limit = re.search(r"<= (\d+)", str(error))
        # SentencePiece counts its unknown piece, callers do not.
        advice = f"they support at most {int(limit[1]) - 1}" if limit else str(error)
        other = "'bpe' (which finds more pieces in little data) or 'none'" if kind == "unigram" else "'none'"
        raise TokenizerError(
            f"These unit sequences do not support {vocab_size} {kind} pieces: {advice}. Ask for fewer pieces, give "
            f"more speech, or use {other}."
        ) from None
    return out.getvalue()
