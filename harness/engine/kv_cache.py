"""Passes of a decoder of transformers over right-padded rows, each going on from its own keys and values."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from harness.model import Hidden


@dataclass(frozen=True, slots=True)
class KVCache:
    """Keys and values of rows, and which of their positions are padding; used up by the pass that goes on from them.

    Attributes:
        cache: of transformers.
        real: `(rows, time)` booleans; None where nothing is padding.
    """

    cache: DynamicCache
    real: Tensor | None

    @property
    def time(self) -> int:
        """Positions of each row, padding included."""
        return int(self.cache.get_seq_length())

    def select(self, rows: Tensor) -> KVCache:
        """Some of the rows, in the order of `rows`; the keys and values of these stay as they are."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        cache.batch_select_indices(rows)
        return KVCache(cache, None if self.real is None else self.real[rows])


def read_rows(decoder: Any, ids: Tensor, *, lengths: Tensor | None, past: KVCache | None, use_cache: bool) -> Hidden:
    """Final hidden states of `(rows, time)` ids, by a decoder that takes `attention_mask` and `position_ids`.

    Padding, here and in the cache, is attended by nothing and counts in no position.

    Args:
        decoder: the base model of a causal language model of transformers.
        ids: padded on the right to `lengths`; None: no padding.
        lengths: `(rows,)` real tokens of each row.
        past: the cache that an earlier pass returned for these rows.
        use_cache: whether to return keys and values.
    """
    real = _real(ids, lengths, past)
    positions = mask = None
    if real is not None:
        positions = (real.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        mask = real.long()
    cache = past.cache if past is not None else None
    out = decoder(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=use_cache
    )
    return Hidden(out.last_hidden_state, KVCache(out.past_key_values, real) if use_cache else None)


def _real(ids: Tensor, lengths: Tensor | None, past: KVCache | None) -> Tensor | None:
    before = past.real if past is not None else None
    if lengths is None and before is None:
        return None
    rows, time = ids.shape
    now = torch.ones(rows, time, dtype=torch.bool, device=ids.device)
    if lengths is not None:
        now = torch.arange(time, device=ids.device) < lengths.to(ids.device)[:, None]
    if past is None:
        return now
    if before is None:
        before = torch.ones(rows, past.time, dtype=torch.bool, device=ids.device)
    return torch.cat([before, now], 1)
