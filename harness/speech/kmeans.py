"""Codebooks: training, and assignment of frames to units."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from harness.errors import TokenizerError

_CHUNK_FRAMES = 16_384


def train_kmeans(
    features: Tensor | NDArray[np.float32],
    n_clusters: int,
    seed: int,
    *,
    n_init: int = 5,
    batch_frames: int = 10_000,
    max_iter: int = 100,
) -> Tensor:
    """Centroids `(n_clusters, dim)`, float32, of frames `(n, dim)` by mini-batch k-means (Sculley 2010).

    Batch size, iterations, patience (100) and no reassignment are those of fairseq's HuBERT recipe; it uses 20
    initializations. Bit-identical for the same input and seed.

    Raises:
        TokenizerError: if there are fewer frames than clusters or a value is not finite.
    """
    # Imported here: it takes longer than torch does, and encoding does not need it.
    from sklearn.cluster import MiniBatchKMeans

    array = np.ascontiguousarray(torch.as_tensor(features).cpu().numpy(), dtype=np.float32)
    if array.ndim != 2 or not 1 <= n_clusters <= len(array):
        raise TokenizerError(
            f"k-means needs (frames, dim) with at least one frame per cluster: {array.shape}, {n_clusters}."
        )
    if not np.isfinite(array).all():
        raise TokenizerError("k-means got NaN or infinite features.")
    model = MiniBatchKMeans(
        n_clusters=n_clusters,
        init="k-means++",
        n_init=n_init,
        batch_size=batch_frames,
        max_iter=max_iter,
        tol=0.0,
        max_no_improvement=100,
        reassignment_ratio=0.0,
        random_state=seed,
    )
    # Sums over threads depend on how many there are; one thread gives the same codebook on every machine.
    with threadpool_limits(limits=1):
        model.fit(array)
    return torch.from_numpy(np.ascontiguousarray(model.cluster_centers_, dtype=np.float32))


def assign(features: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each frame: `(n, dim)` and `(k, dim)` to `(n,)` of int64; the lower index wins ties."""
    if features.shape[-1] != centroids.shape[-1]:
        raise TokenizerError(f"Features have {features.shape[-1]} dimensions, centroids {centroids.shape[-1]}.")
    centroids = centroids.to(features.device, features.dtype)
    # |x - c|^2 without |x|^2, which is the same for every c.
    bias = centroids.square().sum(dim=1)
    return torch.cat(
        [
            torch.addmm(bias, chunk, centroids.T, alpha=-2.0).argmin(dim=1)
            for chunk in torch.split(features, _CHUNK_FRAMES)
        ]
    )
