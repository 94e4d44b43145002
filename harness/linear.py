"""Linear layers by oneDNN while only likelihoods are wanted.

PyTorch multiplies float32 matrices on the CPU with MKL, which on some processors is slower than oneDNN for many rows
(`benchmarks/linear.py`). PyTorch has both; its compiler uses this operation for inference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

#: Fewer rows are filled up: with fewer, oneDNN adds in another order, and a row's result would depend on its company.
_FEWEST_ROWS = 64


@contextmanager
def onednn_linears(module: nn.Module) -> Iterator[None]:
    """Within it, linear layers of `module` with float32 weights on the CPU multiply by oneDNN; without gradients.

    Results differ from PyTorch's by rounding. Elsewhere, or where PyTorch was built without oneDNN, nothing changes.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear) and _eligible(layer)]
    for layer in layers:
        # An instance attribute: the module has the method of its class again once it is removed.
        layer.forward = partial(_linear, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _eligible(layer: nn.Linear) -> bool:
    """Whether it is a plain one, which nothing else, such as a hook that moves its weights, has changed."""
    return (
        type(layer) is nn.Linear
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and "forward" not in vars(layer)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _linear(layer: nn.Linear, states: Tensor) -> Tensor:
    if states.dtype != torch.float32:
        return nn.functional.linear(states, layer.weight, layer.bias)
    rows = states.reshape(-1, states.shape[-1])
    filled = nn.functional.pad(rows, (0, 0, 0, max(0, _FEWEST_ROWS - len(rows))))
    out: Tensor = torch.ops.mkldnn._linear_pointwise(filled, layer.weight, layer.bias, "none", [], "")
    return out[: len(rows)].reshape(*states.shape[:-1], layer.out_features)
