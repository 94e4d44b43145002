"""How many tokens a model may read at once, and how they get to its device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import psutil
import torch
from torch import Tensor

from harness.errors import OutOfMemoryError
from harness.model import Model

#: Share of the available memory that a batch may take.
_SHARE = 0.5
#: Batches beyond this many tokens are no faster.
_MOST_TOKENS = {"cpu": 8192, "cuda": 65536}
_FEWEST_TOKENS = 16
#: Activations of a pass on CPU, in bytes: with more it is hardly faster.
_PASS_BYTES = 48 * 2**20
#: Rows of logits made at once, as wide as the vocabulary each: on CPU so few that they stay in its cache.
_LOGIT_ROWS = {"cpu": 128, "cuda": 512}
#: Copies of logits in float32.
_LOGIT_COPIES = 3


def token_budget(model: Model) -> int:
    """Tokens that fit into half of the memory that is available now, within what is useful."""
    most, free, config = _most_tokens(model), available_bytes(model.device), getattr(model.module, "config", None)
    if config is None:
        return most
    # Beside the logits, the copy of the output embedding that `harness.engine.linear` holds on CPU.
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
    cache = 2 * int(config.num_hidden_layers) * head * int(getattr(config, "num_key_value_heads", None) or heads)
    # Old and new keys and values at once.
    return 2 * cache * _itemsize(config) + _activations(config)


def _activations(config: Any) -> int:
    # About eight tensors as wide as the states, three as the inner layer.
    width = int(config.hidden_size)
    inner = int(getattr(config, "ffn_dim", None) or getattr(config, "intermediate_size", None) or 4 * width)
    return (8 * width + 3 * inner) * _itemsize(config)


def _itemsize(config: Any) -> int:
    dtype: torch.dtype = getattr(config, "dtype", None) or torch.float32
    return dtype.itemsize


def available_bytes(device: torch.device | str) -> int:
    """Memory that could be taken now on a device, within the limits of this process's control groups."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    return min([available, *cgroup_bytes()])


def cgroup_bytes(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Memory left in each control group with a limit that this process is in, of cgroup v1 and v2; none elsewhere.

    Args:
        root: where the file systems of control groups are mounted.
        own: the groups of this process, a line for each hierarchy.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text("utf-8").splitlines()]
    except OSError:
        return []
    left: list[int] = []
    for number, controllers, group in lines:
        if number == "0":
            left += _left_in(root, group, ("memory.max", "memory.high"), "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            limits, used = ("memory.limit_in_bytes",), "memory.usage_in_bytes"
            left += _left_in(root / "memory", group, limits, used, "total_inactive_file")
    return left


def _left_in(root: Path, group: str, limits: Sequence[str], used: str, reclaimable: str) -> Iterator[int]:
    """Of a group and those above it; in a container without a namespace of its own, `root` itself is the group."""
    inner = PurePosixPath(group.strip("/"))
    for folder in dict.fromkeys([root / inner, *(root / outer for outer in inner.parents)]):
        for limit in (_number(folder / name) for name in limits):
            in_use = _number(folder / used)
            if limit is not None and in_use is not None:
                # Pages of files that were not read of late are given up before memory runs out.
                yield max(0, limit - max(0, in_use - _statistic(folder / "memory.stat", reclaimable)))


def _number(path: Path) -> int | None:
    """The number that a file holds; None where there is no file, or it says `max`."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text("ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
    except (OSError, ValueError, IndexError):
        return 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice; on the CPU torch raises a plain RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def smaller_batch(error: BaseException, batch_tokens: int, device: torch.device | str) -> int:
    """The tokens per batch to retry with after memory ran out; cached memory is given back to the device.

    Raises:
        OutOfMemoryError: if the batch was the smallest already.
        BaseException: `error` itself if it says something else.
    """
    if not is_out_of_memory(error):
        raise error
    if batch_tokens <= _FEWEST_TOKENS:
        raise OutOfMemoryError(
            f"Memory ran out at {batch_tokens} tokens per batch on {device}; a single prompt does not fit. Free "
            f"memory, or use a smaller model or another device. ({error})"
        ) from error
    release(device)
    return max(_FEWEST_TOKENS, batch_tokens // 2)


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device; to a GPU through pinned memory, so that the CPU does not wait for the copy."""
    if torch.device(device).type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def release(device: torch.device | str) -> None:
    """Gives cached memory back to the device."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
