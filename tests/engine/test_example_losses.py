import random

from harness.engine.example_losses import batches


def test_batches_hold_every_sequence_once_within_the_budget():
    lengths = [random.Random(0).randint(1, 30) for _ in range(200)]
    found = list(batches(lengths, 64))
    assert sorted(i for batch in found for i in batch) == list(range(200))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 64 for batch in found)
