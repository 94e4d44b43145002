import numpy as np

from harness.sweep.acquisition import expected_improvement, scalarize
from harness.sweep.simplex import lattice, scheffe_design

DESIGN = scheffe_design(3)  # 10 points


def bowl(w):
    return 3 * ((w - [0.2, 0.3, 0.5]) ** 2).sum(axis=1)


def test_a_mixture_in_training_promises_less():
    grid = lattice(3, 10)
    gain = expected_improvement(grid, DESIGN[:6], bowl(DESIGN[:6]), np.empty((0, 3)))
    best = grid[[int(np.argmax(gain))]]
    after = expected_improvement(grid, DESIGN[:6], bowl(DESIGN[:6]), best)
    assert gain.min() >= 0
    assert after[np.argmax(gain)] < 0.5 * gain.max()


def test_scalarizing_keeps_one_objective_and_orders_dominated_trials():
    losses = np.array([[0.0, 0.0], [1.0, 5.0], [0.5, 5.0]])
    assert scalarize(losses[:, :1], rng=np.random.default_rng(0)).tolist() == [0.0, 1.0, 0.5]
    for seed in range(20):
        first, last, middle = scalarize(losses, rng=np.random.default_rng(seed))
        assert first == 0
        assert first < middle < last
