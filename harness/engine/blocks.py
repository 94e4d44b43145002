"""Blocks of candidates that advance together, a few tokens at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.engine.attention import Layer
from harness.engine.candidates import CandidateGroup

#: Tokens that could be read in the time that a pass takes whatever it reads.
_PASS_OVERHEAD = 200


@dataclass
class Block:
    """Candidates read equally far.

    Attributes:
        slots: their indices in the group, ascending.
        depth: tokens read of each.
        past: their keys and values.
        parents: each one's index in `past`; several may share one.
    """

    slots: NDArray[np.int64]
    depth: int = 0
    past: Sequence[Layer] | None = None
    parents: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.slots)

    def only(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Block:
        """The block with some of its candidates, which are named in ascending order."""
        parents = None if self.parents is None else self.parents[keep]
        return Block(self.slots[keep], self.depth, self.past, parents)

    def halves(self, wanted: NDArray[np.int64]) -> tuple[Block, Block]:
        """Those wanted the furthest and the others: apart, each can advance at its own pace."""
        order, half = np.argsort(wanted, kind="stable"), len(self) // 2
        return self.only(np.sort(order[half:])), self.only(np.sort(order[:half]))

    def width(self, wanted: NDArray[np.int64], remaining: NDArray[np.int64]) -> int:
        """Tokens to advance by: until those read in vain are likely to have cost as much as another pass.

        Args:
            wanted: `(candidates,)` tokens that each is likely to be read, ≥ 1.
            remaining: `(candidates,)` tokens that each has left, no fewer.
        """
        if not self.depth and (wanted < remaining).any():
            return 1  # many begin with the same token, which is then read once
        longest = int(remaining.max())
        left = np.bincount(wanted, minlength=longest + 1) - np.bincount(remaining, minlength=longest + 1)
        in_vain = left[:longest].cumsum().cumsum()
        return max(1, int(np.searchsorted(in_vain, _PASS_OVERHEAD, side="right")))


@dataclass
class BlockStep:
    """The next tokens of a block: those that begin alike are read once.

    Attributes:
        lengths: `(candidates,)` tokens that each one advances by, ≥ 1.
        first: `(rows,)` the first candidate of each row.
        row: `(candidates,)` the row each one shares.
        ids: `(tokens,)` the rows' tokens, one row after another.
        starts: `(rows,)` where each row begins.
    """

    lengths: NDArray[np.int64]
    first: NDArray[np.int64]
    row: NDArray[np.int64]
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, group: CandidateGroup, block: Block, width: int) -> BlockStep:
        """The step by up to `width` tokens."""
        lengths = np.minimum(width, group.lengths[block.slots] - 1 - block.depth)
        real = np.arange(lengths.max()) < lengths[:, None]
        ids = group.pool.tokens[group.row[block.slots], block.depth : block.depth + lengths.max()] * real
        parents = np.zeros_like(lengths) if block.parents is None else block.parents
        keys = np.column_stack([group.job[block.slots], parents, lengths, ids])
        rows: dict[bytes, int] = {}
        row = np.array([rows.setdefault(key.tobytes(), len(rows)) for key in keys])
        first = np.unique(row, return_index=True)[1]
        return cls(lengths, first, row, ids[first][real[first]], np.cumsum(lengths[first]) - lengths[first])
