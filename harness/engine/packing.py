"""Packing documents into fixed-length rows in which no document sees another: for training, and their losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from harness.errors import OptionError

#: The name under which attention within documents is registered with transformers.
PACKED = "packed"
#: Documents that wait for a row with room; more waste less padding, 32 leave about 2 %.
POOL = 32


class TokenDocument(Protocol):
    """A sequence of token ids."""

    @property
    def ids(self) -> Sequence[int]:
        """Token ids."""
        ...


D = TypeVar("D", bound=TokenDocument)
D_co = TypeVar("D_co", bound=TokenDocument, covariant=True)


class DocumentStream(Protocol[D_co]):
    """An endless stream of documents."""

    def __next__(self) -> D_co:
        """The next document."""
        ...


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Packed rows.

    `ids`, `documents`, `positions` are `(rows, row_tokens)`: token ids, the number of the document within its row
    (-1 is padding), and the position within the document, from 0.
    """

    ids: NDArray[np.int64]
    documents: NDArray[np.int64]
    positions: NDArray[np.int64]

    @property
    def num_tokens(self) -> int:
        """Tokens that are not padding."""
        return int((self.documents >= 0).sum())

    def part(self, rank: int, world: int) -> PackedBatch:
        """The rows of one process of several."""
        return PackedBatch(*(array[rank::world] for array in (self.ids, self.documents, self.positions)))


def pack(rows: Sequence[Sequence[TokenDocument]], row_tokens: int, *, pad_id: int = 0) -> PackedBatch:
    """Rows of documents as arrays; every row must fit in `row_tokens`. Any `pad_id` will do: nothing attends to it."""
    shape = (len(rows), row_tokens)
    ids, documents, positions = np.full(shape, pad_id), np.full(shape, -1), np.zeros(shape, np.int64)
    for r, row in enumerate(rows):
        at = 0
        for number, document in enumerate(row):
            end = at + len(document.ids)
            ids[r, at:end] = document.ids
            documents[r, at:end] = number
            positions[r, at:end] = np.arange(len(document.ids))
            at = end
    return PackedBatch(ids, documents, positions)


class Packer(Generic[D]):
    """Takes documents off a stream and fills rows, oldest document first, then whichever waiting one still fits."""

    def __init__(self, stream: DocumentStream[D], row_tokens: int, waiting: Sequence[D] = ()) -> None:
        self.stream, self.row_tokens = stream, row_tokens
        self.waiting = list(waiting)

    def batch(self, num_rows: int) -> PackedBatch:
        """The next `num_rows` rows."""
        return pack([list(self._row()) for _ in range(num_rows)], self.row_tokens)

    def _row(self) -> Iterator[D]:
        room = self.row_tokens
        while True:
            while len(self.waiting) < POOL:
                self.waiting.append(next(self.stream))
            fits = next((i for i, d in enumerate(self.waiting) if len(d.ids) <= room), None)
            if fits is None:
                return
            document = self.waiting.pop(fits)
            room -= len(document.ids)
            yield document


def _packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    *, scaling: float, dropout: float = 0.0, packed_mask: Tensor | None = None, **_: object,
) -> tuple[Tensor, None]:  # fmt: skip
    # The mask travels beside transformers' own, which knows padding but not documents.
    out = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=packed_mask, dropout_p=dropout, scale=scaling
    )
    return out.transpose(1, 2), None


AttentionInterface.register(PACKED, _packed_attention)


def packed_mask(documents: Tensor) -> Tensor:
    """Which position may attend to which: same document, not later; `(rows, 1, time, time)` booleans.

    Padding attends to itself, so that no softmax is over nothing.
    """
    same = documents[:, :, None] == documents[:, None, :]
    causal = torch.ones(documents.shape[1], documents.shape[1], dtype=torch.bool, device=documents.device).tril()
    return (same & causal)[:, None]


def packed_losses(model: PreTrainedModel, ids: Tensor, documents: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token losses of packed rows.

    Args:
        model: the decoder, its attention set to `PACKED`.
        ids: `(rows, time)` token ids.
        documents: `(rows, time)` document numbers, -1 for padding.
        positions: `(rows, time)` positions within the document.

    Returns:
        Losses in nats (≥ 0), one per predicted token, float32; and their flat indices into `(rows, time)`. The first
        token of a document is not predicted.

    Raises:
        OptionError: if the model's attention is another, which would let documents see each other.
    """
    if (attention := model.config._attn_implementation) != PACKED:
        raise OptionError(
            f"Packed rows need the attention '{PACKED}', which keeps documents apart; the model has '{attention}'. "
            f"Call model.set_attn_implementation('{PACKED}') first."
        )
    hidden = model.base_model(
        input_ids=ids, position_ids=positions, packed_mask=packed_mask(documents), use_cache=False
    ).last_hidden_state
    predicts = torch.zeros_like(ids, dtype=torch.bool)
    predicts[:, :-1] = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)
    targets = torch.nonzero(predicts.flatten()).squeeze(1) + 1
    # Logits only where something is predicted: padding and document ends cost nothing.
    logits = model.get_output_embeddings()(hidden.flatten(0, 1)[targets - 1])
    return nn.functional.cross_entropy(logits.float(), ids.flatten()[targets], reduction="none"), targets
