"""Codebooks on disk: storage and digest, without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from harness.errors import CheckpointError


def centroids_digest(centroids: NDArray[np.float32]) -> str:
    """SHA-256 of the centroids' shape and float32 bytes, in hexadecimal."""
    array = np.ascontiguousarray(centroids).astype("<f4")
    return hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()


def save_centroids(centroids: NDArray[np.float32], path: Path) -> None:
    """Writes the centroids as safetensors."""
    safetensors.numpy.save_file({"centroids": np.ascontiguousarray(centroids)}, path)


def load_centroids(path: Path) -> NDArray[np.float32]:
    """Centroids `(n_clusters, dim)` written by `save_centroids`.

    Raises:
        CheckpointError: if the file is absent or is not such a file.
    """
    if not path.is_file():
        raise CheckpointError(f"There are no centroids at {path}.")
    try:
        return safetensors.numpy.load_file(path)["centroids"]
    except (safetensors.SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path} does not hold centroids: {error}") from None
