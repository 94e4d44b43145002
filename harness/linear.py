"""Linear layers by oneDNN while only likelihoods are wanted.

PyTorch multiplies float32 matrices on the CPU with MKL, which on some processors is slower than oneDNN, once that has
put the weights into its own order (`benchmarks/linear.py`). PyTorch has both; its compiler uses these operations for
inference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

#: Rows are filled up to a multiple: oneDNN prepares anew for every number of rows it has not seen, and with few rows it
#: adds in another order, so that a row's result would depend on its company.
_STEP = 64
#: Narrower layers gain less than filling up costs.
_NARROWEST = 384


@contextmanager
def onednn_linears(module: nn.Module) -> Iterator[None]:
    """Within it, wide linear layers of `module` with float32 weights on the CPU multiply by oneDNN; without gradients.

    Their weights are empty meanwhile, since oneDNN holds them in its own order and nothing should take memory twice;
    afterwards they have the same bits again. Weights that other layers use too, such as tied embeddings, stay as they
    are and are multiplied as ever. Results differ from PyTorch's by rounding. On other devices, or where PyTorch was
    built without oneDNN, nothing changes.
    """
    users = Counter(id(p) for layer in module.modules() for p in layer.parameters(recurse=False))
    layers = [m for m in module.modules() if isinstance(m, nn.Linear) and users[id(m.weight)] == 1 and _eligible(m)]
    packed: list[tuple[nn.Linear, Tensor]] = []
    try:
        for layer in layers:
            with _plain_tensors():
                weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight, _STEP)
                packed.append((layer, weight))
                layer.weight.data = torch.empty(0)
            # An instance attribute: the module has the method of its class again once it is removed.
            layer.forward = partial(_linear, layer, weight)  # type: ignore[method-assign]
        yield
    finally:
        while packed:
            layer, weight = packed.pop()
            vars(layer).pop("forward", None)
            with _plain_tensors():
                layer.weight.data = weight.to_dense()


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Tensors made within it can be trained later, even if inference mode is on around it."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _eligible(layer: nn.Linear) -> bool:
    """Whether it is a plain one, which nothing else, such as a hook that moves its weights, has changed."""
    return (
        type(layer) is nn.Linear
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and min(layer.weight.shape, default=0) >= _NARROWEST
        and "forward" not in vars(layer)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _linear(layer: nn.Linear, weight: Tensor, states: Tensor) -> Tensor:
    rows = states.reshape(-1, states.shape[-1])
    missing = -len(rows) % _STEP if len(rows) else _STEP
    filled = nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows
    out: Tensor = torch.ops.mkldnn._linear_pointwise(filled, weight, layer.bias, "none", [], "")
    return out[: len(rows)].reshape(*states.shape[:-1], layer.out_features)
