import hashlib

import numpy as np
import pytest

from harness.errors import CheckpointError
from harness.speech.codebook import centroids_digest, load_centroids, save_centroids


def test_save_and_load(tmp_path):
    centroids = np.arange(12, dtype=np.float32).reshape(4, 3)
    save_centroids(centroids, tmp_path / "c.safetensors")
    assert np.array_equal(load_centroids(tmp_path / "c.safetensors"), centroids)


def test_the_digest_is_of_shape_and_float32_bytes():
    centroids = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert centroids_digest(centroids) == hashlib.sha256(b"(4, 3)" + centroids.tobytes()).hexdigest()
    assert centroids_digest(centroids) != centroids_digest(centroids.reshape(3, 4))
    assert centroids_digest(centroids.T) == centroids_digest(np.ascontiguousarray(centroids.T))


def test_what_is_not_a_codebook_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no centroids at"):
        load_centroids(tmp_path / "absent")
    (tmp_path / "bad").write_bytes(b"xx")
    with pytest.raises(CheckpointError, match="does not hold centroids"):
        load_centroids(tmp_path / "bad")
