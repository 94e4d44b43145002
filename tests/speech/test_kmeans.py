import subprocess
import sys

import pytest
import torch

from harness.errors import TokenizerError
from harness.speech.codebook import centroids_digest
from harness.speech.kmeans import assign, train_kmeans


def brute_force(features: torch.Tensor, centroids: torch.Tensor) -> list[int]:
    out = []
    for x in features.double():
        distances = [float(((x - c) ** 2).sum()) for c in centroids.double()]
        out.append(distances.index(min(distances)))
    return out


@pytest.mark.parametrize("seed", range(5))
def test_assign_is_the_nearest_centroid(seed):
    generator = torch.Generator().manual_seed(seed)
    features, centroids = torch.randn(200, 7, generator=generator), torch.randn(11, 7, generator=generator)
    assert assign(features, centroids).tolist() == brute_force(features, centroids)


def test_assign_by_hand():
    """(1, 1) is sqrt(2) from (0, 0) and sqrt(5) from (3, 2); (2, 2) is sqrt(8) and 1; (1.5, 1) is nearer the first."""
    centroids = torch.tensor([[0.0, 0.0], [3.0, 2.0]])
    assert assign(torch.tensor([[1.0, 1.0], [2.0, 2.0], [1.5, 1.0]]), centroids).tolist() == [0, 1, 0]


def test_chunks_do_not_matter(monkeypatch):
    features, centroids = torch.randn(1000, 5), torch.randn(9, 5)
    whole = assign(features, centroids)
    monkeypatch.setattr("harness.speech.kmeans._CHUNK_FRAMES", 64)
    assert torch.equal(assign(features, centroids), whole)
    assert whole.dtype == torch.int64


def test_separated_clouds_are_found():
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    features = (centers[:, None] + 0.1 * torch.randn(4, 100, 2, generator=generator)).reshape(-1, 2)
    centroids = train_kmeans(features, 4, 0)
    found = centroids[assign(centers, centroids)]
    assert torch.allclose(found, centers, atol=0.1)
    assert centroids.dtype == torch.float32


def test_same_seed_in_another_process_gives_the_same_bytes():
    code = (
        "import torch; from harness.speech.kmeans import *; from harness.speech.codebook import centroids_digest;"
        "x = torch.randn(3000, 6, generator=torch.Generator().manual_seed(0));"
        "print(centroids_digest(train_kmeans(x, 20, 3).numpy()))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    features = torch.randn(3000, 6, generator=torch.Generator().manual_seed(0))
    assert centroids_digest(train_kmeans(features, 20, 3).numpy()) == there
    assert centroids_digest(train_kmeans(features, 20, 4).numpy()) != there


@pytest.mark.parametrize(
    ("features", "n_clusters", "message"),
    [
        (torch.zeros(5, 2), 6, "at least one frame per cluster"),
        (torch.zeros(5, 2), 0, "at least one frame per cluster"),
        (torch.full((5, 2), float("nan")), 2, "NaN"),
    ],
)
def test_too_little_or_bad_input(features, n_clusters, message):
    with pytest.raises(TokenizerError, match=message):
        train_kmeans(features, n_clusters, 0)


def test_dimensions_must_agree():
    with pytest.raises(TokenizerError, match="3 dimensions, centroids 4"):
        assign(torch.zeros(2, 3), torch.zeros(2, 4))
