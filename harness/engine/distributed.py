"""The processes that share one run, or one training: `torchrun --nproc-per-node K -m harness run …`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

#: Longer than any run: a process that is done waits for the others, and torchrun ends all if one fails.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Processes:
    """Who takes part in a run.

    Attributes:
        rank: which of all this process is.
        local_rank: which of those on its machine.
        world: how many there are.
    """

    rank: int = 0
    local_rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> Processes:
        """What torchrun's environment variables say; this process alone where they are not set."""
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
        if any(name not in os.environ for name in (*names, "MASTER_ADDR", "MASTER_PORT")):
            return cls()
        return cls(*(int(os.environ[name]) for name in names))

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Within it the processes can `gather`."""
        if self.world == 1:
            yield
            return
        from torch import distributed

        distributed.init_process_group("gloo", rank=self.rank, world_size=self.world, timeout=_PATIENCE)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def gather(self, value: T) -> list[T]:
        """The values of all processes by rank, in each of them; none goes on before all are here."""
        if self.world == 1:
            return [value]
        from torch import distributed

        values: list[T] = [value] * self.world
        distributed.all_gather_object(values, value)
        return values

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces every tensor, all of one type and device, by its sum over the processes."""
        if self.world == 1:
            return
        import torch

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message for all
        torch.distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def device(self, name: str) -> str:
        """The device of this process: each one its own where `name` is `cuda`."""
        return f"cuda:{self.local_rank}" if name == "cuda" and self.world > 1 else name


ALONE = Processes()
