"""Linear layers by oneDNN while only likelihoods are wanted.

PyTorch multiplies float32 matrices on CPU by MKL. It has oneDNN too, which its compiler uses for inference and
which on many rows is faster, most of all on the product with the vocabulary (`benchmarks/linear.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

#: Layers narrower than this, and fewer rows, are no faster by oneDNN.
_NARROWEST = _FEWEST_ROWS = 256


@contextmanager
def onednn_linears(module: nn.Module, head: nn.Module | None = None) -> Iterator[None]:
    """Within it, linear layers of `module` with float32 weights on CPU multiply by oneDNN; without gradients.

    Results differ from PyTorch's by rounding. On other devices, or where PyTorch has no oneDNN or its use is switched
    off, nothing changes.

    Args:
        module: whose layers are meant.
        head: the layer that makes the logits. Of its weight a copy in oneDNN's own order is held, so that few rows at
            a time are fast too; other weights are put in order in each product.
    """
    changed: list[nn.Module] = []
    try:
        for layer in module.modules():
            if isinstance(layer, nn.Linear) and _eligible(layer):
                weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach()) if layer is head else None
                # An instance attribute: the layer has the method of its class again once it is removed.
                layer.forward = partial(_linear, layer, weight)  # type: ignore[method-assign]
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            del vars(layer)["forward"]


def _eligible(layer: nn.Linear) -> bool:
    """Whether it is a plain linear layer, which nothing else, such as a hook that moves its weights, has changed."""
    return (
        type(layer) is nn.Linear
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and min(layer.weight.shape) >= _NARROWEST
        and "forward" not in vars(layer)
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _linear(layer: nn.Linear, packed: Tensor | None, states: Tensor) -> Tensor:
    if packed is None and states.numel() < _FEWEST_ROWS * layer.in_features:
        return nn.functional.linear(states, layer.weight, layer.bias)
    weight = layer.weight if packed is None else packed
    out: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, layer.bias, "none", [], "")
    return out
