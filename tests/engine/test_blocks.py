import numpy as np

from harness.engine import blocks


def test_a_step_ends_where_what_it_reads_in_vain_costs_another_pass(monkeypatch):
    """Wanted are 1, 2 and 5 tokens of the 4, 4 and 5 that remain.

    Read in vain is by steps of 1: none, of 2: 1 by the first, of 3: 2 by the first and 1 by the second, of 4 and 5:
    3 and 2.
    """
    block = blocks.Block(np.arange(3), depth=1)
    wanted, remaining = np.array([1, 2, 5]), np.array([4, 4, 5])
    for overhead, width in {0: 1, 1: 2, 2: 2, 3: 3, 4: 3, 5: 5}.items():
        monkeypatch.setattr(blocks, "_PASS_OVERHEAD", overhead)
        assert block.width(wanted, remaining) == width
    assert block.width(remaining, remaining) == 5
    assert blocks.Block(np.arange(3)).width(wanted, remaining) == 1


def test_those_that_leave_soon_are_read_apart_from_those_that_stay():
    block = blocks.Block(np.array([3, 5, 8, 9]), depth=2, parents=np.array([0, 1, 1, 2]))
    far, near = block.halves(np.array([7, 1, 4, 2]))
    assert (far.slots.tolist(), far.parents.tolist()) == ([3, 8], [0, 1])
    assert (near.slots.tolist(), near.parents.tolist()) == ([5, 9], [1, 2])
