"""Packing documents into fixed-length rows in which no document sees another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.training.mixture import Document, MixtureStream
from harness.training.vocabulary import PAD

#: Documents that wait for a row with room; more waste less padding, 32 leave about 2 %.
POOL = 32


@dataclass(frozen=True, slots=True)
class Batch:
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

    def part(self, rank: int, world: int) -> Batch:
        """The rows of one process of several."""
        return Batch(*(array[rank::world] for array in (self.ids, self.documents, self.positions)))


def pack(rows: Sequence[Sequence[Document]], row_tokens: int) -> Batch:
    """Rows of documents as arrays; every row must fit in `row_tokens`."""
    shape = (len(rows), row_tokens)
    ids, documents, positions = np.full(shape, PAD), np.full(shape, -1), np.zeros(shape, np.int64)
    for r, row in enumerate(rows):
        at = 0
        for number, document in enumerate(row):
            end = at + len(document.ids)
            ids[r, at:end] = document.ids
            documents[r, at:end] = number
            positions[r, at:end] = np.arange(len(document.ids))
            at = end
    return Batch(ids, documents, positions)


class Packer:
    """Takes documents off a stream and fills rows, oldest document first, then whichever waiting one still fits."""

    def __init__(self, stream: MixtureStream, row_tokens: int, waiting: Sequence[Document] = ()) -> None:
        self.stream, self.row_tokens = stream, row_tokens
        self.waiting = list(waiting)

    def batch(self, num_rows: int) -> Batch:
        """The next `num_rows` rows."""
        return pack([list(self._row()) for _ in range(num_rows)], self.row_tokens)

    def _row(self) -> Iterator[Document]:
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
