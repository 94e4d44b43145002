"""How many tokens a model may read at once, and how they get to its device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.model import Model

#: Share of the available memory that a batch may take.
_SHARE = 0.5
#: Batches beyond this many tokens are no faster.
_MOST_TOKENS = {"cpu": 8192, "cuda": 65536}
_FEWEST_TOKENS = 16
#: Activations of a pass on a processor, in bytes: with more it is hardly faster.
_PASS_BYTES = 48 * 2**20
#: Rows of logits made at once, as wide as the vocabulary each: on a processor so few that they stay in its cache.
_LOGIT_ROWS = {"cpu": 128, "cuda": 512}
#: Copies of logits in float32.
_LOGIT_COPIES = 3
_CGROUP = Path("/sys/fs/cgroup")


def token_budget(model: Model) -> int:
    """Tokens that fit into half of the memory that is available now, within what is useful."""
    most, free, config = _most_tokens(model), available_bytes(model.device), getattr(model.module, "config", None)
    if free is None or config is None:
        return most
    # Beside the logits, the copy of the output embedding that `harness.engine.linear` holds on a processor.
    row = _LOGIT_COPIES * logit_rows(model.device) + int(config.hidden_size)
    rest = free * _SHARE - row * 4 * int(config.vocab_size)
    return max(_FEWEST_TOKENS, min(most, int(rest / bytes_per_token(config))))


def pass_tokens(model: Model) -> int:
    """Tokens that a pass should read at most, however many a batch holds."""
    config = getattr(model.module, "config", None)
    if config is None or torch.device(model.device).type != "cpu":
        return _most_tokens(model)
    return max(_FEWEST_TOKENS, min(_most_tokens(model), _PASS_BYTES // _activations(config)))


def logit_rows(device: torch.device | str) -> int:
    """Rows of logits made at once."""
    return _LOGIT_ROWS.get(torch.device(device).type, _LOGIT_ROWS["cpu"])


def _most_tokens(model: Model) -> int:
    return _MOST_TOKENS.get(torch.device(model.device).type, _MOST_TOKENS["cpu"])


def bytes_per_token(config: Any) -> int:
    """Estimated memory of one token in a pass: keys and values of every layer, read and gathered, and activations.

    Args:
        config: of a decoder of transformers.
    """
    heads = int(config.num_attention_heads)
    head = int(getattr(config, "head_dim", None) or int(config.hidden_size) // heads)
    kept = 2 * int(config.num_hidden_layers) * head * int(getattr(config, "num_key_value_heads", None) or heads)
    # Old and new keys and values at once.
    return 2 * kept * _itemsize(config) + _activations(config)


def _activations(config: Any) -> int:
    # About eight tensors as wide as the states, three as the inner layer.
    width = int(config.hidden_size)
    inner = int(getattr(config, "ffn_dim", None) or getattr(config, "intermediate_size", None) or 4 * width)
    return (8 * width + 3 * inner) * _itemsize(config)


def _itemsize(config: Any) -> int:
    dtype: torch.dtype = getattr(config, "dtype", None) or torch.float32
    return dtype.itemsize


def available_bytes(device: torch.device | str) -> int | None:
    """Memory that could be taken now on a device; None where the system does not tell."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [n for n in (_system_bytes(), _cgroup_bytes()) if n is not None]
    return min(known, default=None)


def _system_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_bytes() -> int | None:
    try:
        limit, used = ((_CGROUP / name).read_text("ascii").strip() for name in ("memory.max", "memory.current"))
        return None if limit == "max" else max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice; on the CPU torch raises a plain RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device; to a GPU through pinned memory, so that nobody waits for the copy."""
    if torch.device(device).type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def release(device: torch.device | str) -> None:
    """Gives cached memory back to the device."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
