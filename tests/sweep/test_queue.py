from harness.sweep.queue import enqueue_confirmations
from harness.sweep.run import find_optima


def test_confirmations_are_made_once(swept):
    assert enqueue_confirmations(swept, {key: optimum.mixture for key, optimum in find_optima(swept).items()}) == 0
