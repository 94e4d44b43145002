import numpy as np
import pytest

from harness.engine.sampling import Sampling, _passing, _passing_exactly
from harness.errors import InputError

SAMPLERS = [Sampling(0.7, top_k=12), Sampling(1.3, top_p=0.8), Sampling(1.0, 20, 0.9)]


@pytest.mark.parametrize("options", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": 0}])
def test_samplers_that_draw_nothing_are_refused(options):
    with pytest.raises(InputError, match="Sampling needs"):
        Sampling(**options)


def test_certain_and_possible_tokens_hold_what_passes_exactly():
    """Whatever rounding below the slack does to the logits, what is cut exactly lies between the two."""
    rng = np.random.default_rng(0)
    for sampling in SAMPLERS:
        for _ in range(50):
            logits = rng.normal(size=(1, 30)).round(int(rng.integers(1, 4)))
            certain, possible = _passing(logits, sampling)
            for _ in range(5):
                moved = logits[0] + rng.uniform(-2e-4, 2e-4, size=30)
                exact = _passing_exactly(moved, sampling)
                assert (certain[0] <= exact).all()
                assert (exact <= possible[0]).all()
