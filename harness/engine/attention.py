"""Packed passes of a decoder: rows of tokens without padding that attend to prompts they share.

The keys and values of a prompt are held once. A row attends to them and to itself in two parts, whose softmaxes are
merged through their log-sum-exps (as in flash decoding and cascade inference; Dao et al. 2023, Ye et al. 2024), so
that nothing is copied per row. It reaches any decoder of transformers through the attention interface.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from transformers import AttentionInterface, PreTrainedModel

from harness.engine.linear import onednn_linears
from harness.engine.memory import to_device
from harness.model import Model

#: Keys and values of one layer, `(rows, heads, time, width)` each.
Layer = tuple[Tensor, Tensor]

_NAME = "shared_prefix"
#: Queries and keys per row up to which plain products are faster on CPU than its fused attention.
_FEW_QUERIES, _FEW_KEYS = 16, 32
_LAYER_TYPES = {"full_attention", "sliding_attention"}
#: Position encodings whose angles depend on the longest sequence of the batch.
_LENGTH_DEPENDENT = {"dynamic", "longrope"}
#: How far a trial pass may be from plain forward, relative to the states' norm: by dtype's resolution, and at most.
_TRIAL_TOLERANCE = (1e3, 0.1)


class _UnsupportedAttentionError(Exception):
    """An attention that two merged softmaxes do not compute."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Tokens `[start, stop)` of a pass attend to these keys and values, layer by layer, `(1, heads, time, width)`."""

    start: int
    stop: int
    layers: Sequence[Layer]


class RowLayout:
    """Where the tokens of rows of unequal length lie, one row after another, and where they would lie if padded."""

    def __init__(self, lengths: Sequence[int], device: torch.device | str) -> None:
        self.num_rows, self.width = len(lengths), max(lengths)
        self._gather: Tensor | None = None
        if min(lengths) != self.width:
            sizes = torch.tensor(lengths)
            column = torch.arange(self.width)
            real = column < sizes[:, None]
            # Padding repeats the row's last token; being to the right, no token attends to it.
            starts = sizes.cumsum(0) - sizes
            self._gather = to_device(starts[:, None] + torch.minimum(column, sizes[:, None] - 1), device)
            self._real = to_device(real.flatten().nonzero().squeeze(1), device)

    def pad(self, packed: Tensor) -> Tensor:
        """`(1, heads, tokens, width)` as `(rows, heads, time, width)`."""
        tokens = packed[0].transpose(0, 1)
        if self._gather is None:
            return tokens.reshape(self.num_rows, self.width, *tokens.shape[1:]).transpose(1, 2)
        return tokens[self._gather].transpose(1, 2)

    def unpad(self, padded: Tensor) -> Tensor:
        """`(rows, heads, time, …)` as `(tokens, heads, …)`."""
        tokens = padded.transpose(1, 2).flatten(0, 1)
        return tokens if self._gather is None else tokens[self._real]


@dataclass
class Pass:
    """What the tokens of one pass attend to besides themselves, and the keys and values they leave.

    Attributes:
        layout: the rows.
        prefixes: prompts, each of a range of tokens.
        past: keys and values of rows read earlier, equally many tokens of each.
        parents: `(rows,)` which of `past` each row goes on from; None means the same rows.
        use_cache: whether to leave keys and values.
        longest: no sequence is longer, prompt included.
        left: keys and values of the rows, past included; padded on the right.
    """

    layout: RowLayout
    prefixes: Sequence[Prefix] = ()
    past: Sequence[Layer] | None = None
    parents: Tensor | None = None
    use_cache: bool = False
    longest: int = 0
    left: dict[int, Layer] = field(default_factory=dict)

    def own(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Attention of each row to itself: `(tokens, heads, width)` and log-sum-exps `(tokens, heads)`."""
        key, value = self.layout.pad(key), self.layout.pad(value)
        if self.past is not None:
            before = self.past[layer]
            if self.parents is not None:
                before = before[0].index_select(0, self.parents), before[1].index_select(0, self.parents)
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        if self.use_cache:
            self.left[layer] = key, value
        if repeats := query.shape[1] // key.shape[1] - 1:
            key, value = (t.repeat_interleave(repeats + 1, 1) for t in (key, value))
        out, total = _attention(self.layout.pad(query), key, value, scale, causal=True)
        return self.layout.unpad(out), self.layout.unpad(total)

    def cached(self) -> list[Layer]:
        """Keys and values left, by layer."""
        return [self.left[i] for i in range(len(self.left))]


def _shared_prefix_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    *, scaling: float | None = None, packed: Pass, **rest: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    _refuse_other_attentions(rest, packed.longest)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: int = module.layer_idx  # type: ignore[assignment]
    out, total = packed.own(layer, query, key, value, scale)
    out = out.float()
    for prefix in packed.prefixes:
        part = slice(prefix.start, prefix.stop)
        other, other_total = _to_prefix(query[:, :, part], *prefix.layers[layer], scale)
        out[part].lerp_(other.float(), torch.sigmoid(other_total - total[part])[..., None])
    return out.to(query.dtype)[None], None


AttentionInterface.register(_NAME, _shared_prefix_attention)


def _refuse_other_attentions(options: dict[str, Any], longest: int) -> None:
    window = options.get("sliding_window")
    if window is not None and window < longest:
        raise _UnsupportedAttentionError(f"a sliding window of {window}")
    if other := [name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None]:
        raise _UnsupportedAttentionError(other[0])


def _to_prefix(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    # (1, heads, tokens, width) → (tokens, heads, width). Query heads of a group stand in a row beneath their one key.
    heads, tokens = query.shape[1:3]
    grouped = query.reshape(1, key.shape[1], -1, query.shape[-1])
    out, total = _attention(grouped, key, value, scale, causal=False)
    return out.reshape(heads, tokens, -1).transpose(0, 1), total.reshape(heads, tokens).transpose(0, 1)


def _attention(query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Attention `(rows, heads, time, width)` with float32 log-sum-exps `(rows, heads, time)`.

    Causal means that the last query attends to all keys, the one before it to all but one, and so on.
    """
    time, past = query.shape[2], key.shape[2] - query.shape[2]
    mask = None
    if causal and past and time > 1:
        mask = torch.full((time, past + time), float("-inf"), dtype=query.dtype, device=query.device).triu(past + 1)
    few = time <= _FEW_QUERIES and past + time <= _FEW_KEYS
    if query.device.type == "cpu" and query.shape[-1] == value.shape[-1] and not few:
        out, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, is_causal=causal and not past, attn_mask=mask, scale=scale
        )
        return out, total
    if mask is None and _flash_on_gpu(query, key, value, causal=causal and not past):
        found = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, is_causal=causal and not past, scale=scale
        )
        return found[0], found[1]
    if causal and not past:
        mask = torch.full((time, time), float("-inf"), dtype=query.dtype, device=query.device).triu(1)
    scores = (query @ key.transpose(2, 3)).float().mul_(scale)
    if mask is not None:
        scores += mask
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp_()
    mass = weights.sum(-1, keepdim=True)
    return weights.div_(mass).to(value.dtype) @ value, (top + mass.log())[..., 0]


def _flash_on_gpu(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> bool:
    """Whether there is a flash kernel: on newer GPUs, for half precision."""
    return query.device.type == "cuda" and can_use_flash_attention(
        SDPAParams(query, key, value, None, 0.0, causal, False)
    )


class PackedDecoder:
    """The decoder of a model, reading packed rows."""

    def __init__(self, module: PreTrainedModel, longest: int) -> None:
        self.module, self.longest = module, longest

    @classmethod
    def of(cls, model: Model) -> PackedDecoder | None:
        """The decoder of `model`, or None where only plain `forward` computes what the model means.

        That is where it has no decoder of transformers, or one with other attention; a trial of a few tokens decides.
        """
        module = model.module
        if not isinstance(module, PreTrainedModel) or not _plain_config(module.config):
            return None
        decoder = cls(module, model.max_length)
        try:
            return decoder if decoder._agrees(model) else None
        except (_UnsupportedAttentionError, AttributeError, KeyError, TypeError, ValueError):
            return None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Puts this attention and faster linear layers into the module, and back again what was there."""
        before = self.module.config._attn_implementation
        self.module.set_attn_implementation(_NAME)
        try:
            with onednn_linears(self.module, self.module.get_output_embeddings()):
                yield
        finally:
            self.module.set_attn_implementation(before)

    def read(self, ids: Tensor, positions: Tensor, packed: Pass) -> Tensor:
        """Final hidden states `(tokens, width)` of packed `(tokens,)` ids at their positions."""
        packed.longest = self.longest
        out = self.module.base_model(input_ids=ids[None], position_ids=positions[None], use_cache=False, packed=packed)
        states: Tensor = out.last_hidden_state[0]
        return states

    @torch.inference_mode()
    def _agrees(self, model: Model) -> bool:
        device, ids = model.device, torch.arange(1, 8) % _vocabulary(self.module)
        prompt, rows = ids[:3].to(device), [ids[3:5], ids[4:7]]
        with self.attached():
            if self.module.config._attn_implementation != _NAME:
                return False
            first = Pass(RowLayout([3], device), use_cache=True)
            self.read(prompt, torch.arange(3, device=device), first)
            second = Pass(RowLayout([2, 3], device), [Prefix(0, 5, first.cached())])
            found = self.read(torch.cat(rows).to(device), torch.tensor([3, 4, 3, 4, 5], device=device), second)
        expected = torch.cat([model.forward(torch.cat([ids[:3], r])[None].to(device)).states[0, 3:] for r in rows])
        difference = (found - expected).float().norm() / expected.float().norm()
        steps, most = _TRIAL_TOLERANCE
        return bool(difference <= min(steps * torch.finfo(found.dtype).eps, most))


def _vocabulary(module: PreTrainedModel) -> int:
    return int(module.get_input_embeddings().num_embeddings)


def _plain_config(config: Any) -> bool:
    rope = getattr(config, "rope_parameters", None) or {}
    return set(getattr(config, "layer_types", None) or ()) <= _LAYER_TYPES and (
        rope.get("rope_type") not in _LENGTH_DEPENDENT
    )
