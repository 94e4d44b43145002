"""The folder that a training run is resumed from: weights, moments of the optimizer, position in the data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.checksums import damage, write_sums
from harness.code import PACKAGE, sources_digest, versions_of
from harness.config import digest
from harness.engine.source import source_digest
from harness.errors import StaleWarning, TrainingError
from harness.files import lock_of, new_folder, recover_folder
from harness.training.checkpoint import load_weights

_WEIGHTS, _OPTIMIZER, _CONTENT = "model.safetensors", "optimizer.safetensors", "state.json"


def training_version() -> str:
    """Changes whenever the code does that trains, or a version of its libraries."""
    sources = sources_digest(sorted((PACKAGE / "training").glob("*.py")))
    return digest([sources, source_digest(), versions_of(("torch", "transformers", "numpy"))])


@dataclass(frozen=True)
class TrainingState:
    """One run's state folder.

    Attributes:
        folder: written whole or not at all.
        identity: digest of all that must be equal for the folder to be continued.
    """

    folder: Path
    identity: str

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it, no other process trains in this folder.

        Raises:
            TrainingError: if another one does.
        """
        lock = lock_of(self.folder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise TrainingError(
                f"Another process is training in {self.folder}; wait for it to end or stop it."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def recover(self) -> None:
        """Puts right what a process left that was killed while saving, unless another one is training here."""
        try:
            with self.alone():
                recover_folder(self.folder)
        except TrainingError:
            return

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, content: Mapping[str, Any]) -> None:
        """Writes all that the next step depends on; `content` holds JSON values."""
        with new_folder(self.folder) as part:
            weights = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
            save_file(weights, part / _WEIGHTS)
            state = optimizer.state_dict()["state"]
            save_file({f"{i}.{k}": v for i, s in state.items() for k, v in s.items()}, part / _OPTIMIZER)
            made_by = {"identity": self.identity, "code": training_version()}
            (part / _CONTENT).write_text(json.dumps({**made_by, **content}), "utf-8")
            write_sums(part)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Puts what was saved into `model` and `optimizer` and returns the content; None if nothing was saved.

        What other code saved is used with a `StaleWarning`.

        Raises:
            TrainingError: if the folder is of another run, or a file in it is not what was saved.
        """
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return None
        if reason := damage(self.folder):
            raise TrainingError(
                f"The training state {self.folder} is damaged ({reason}): to go on from it would end in other weights. "
                "Restore the folder from a copy, or remove it to begin anew."
            )
        content: dict[str, Any] = json.loads((self.folder / _CONTENT).read_text("utf-8"))
        if content["identity"] != self.identity:
            raise TrainingError(
                f"{self.folder} holds a training run of another configuration or data; choose another folder or "
                "remove it."
            )
        if content["code"] != training_version():
            message = (
                f"The training state {self.folder} was saved by other code, or other versions of torch, transformers "
                "or numpy, than go on from it now. For weights of this code alone, remove the folder and begin anew."
            )
            warnings.warn(StaleWarning(message), stacklevel=2)
        load_weights(model, self.folder / _WEIGHTS)
        saved: dict[int, dict[str, Tensor]] = {}
        for key, value in load_file(self.folder / _OPTIMIZER).items():
            index, _, name = key.partition(".")
            saved.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": saved, "param_groups": groups})
        return content
