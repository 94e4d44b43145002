import math

import pytest
import torch
from torch import nn

from harness.engine.optimization import (
    EarlyStopping,
    Schedule,
    adamw,
    clip_gradients,
    optimized,
    set_learning_rate,
    update,
)

SETTINGS = {"peak": 1.0, "floor": 0.2, "warmup_steps": 4, "steps": 12}


def rates(kind, **settings):
    made = Schedule(kind, **{**SETTINGS, **settings})
    return [made.rate(step) for step in range(made.steps)]


# --- learning rate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cosine", "constant", "wsd", "linear"])
def test_the_rate_rises_linearly_to_the_peak(kind):
    assert rates(kind, floor=0.0)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates(kind, warmup_steps=0)[0] == 1.0


def test_cosine_falls_to_the_floor():
    """Eight steps after the warm-up; step 8 is half of the way: 0.2 + 0.8 · (1 + cos(π/2)) / 2 = 0.6.

    Step 6 is a quarter of it: 0.2 + 0.8 · (1 + cos(π/4)) / 2 = 0.882843; step 12, one past the last, is the floor.
    """
    found = rates("cosine")
    assert found[8] == pytest.approx(0.6)
    assert found[6] == pytest.approx(0.882843, abs=1e-6)
    assert found[4:] == sorted(found[4:], reverse=True)
    assert Schedule("cosine", **SETTINGS).rate(12) == pytest.approx(0.2)
    assert Schedule("cosine", **SETTINGS).rate(99) == pytest.approx(0.2)


def test_constant_stays_at_the_peak():
    assert rates("constant")[3:] == [1.0] * 9


def test_wsd_is_constant_then_falls_linearly():
    """A third of 12 steps decays: steps 8, 9, 10, 11 have 4/4, 3/4, 2/4, 1/4 of the way from 0.2 to 1 left."""
    found = rates("wsd", decay_share=1 / 3)
    assert found[3:9] == [1.0] * 6
    assert found[9:] == pytest.approx([0.8, 0.6, 0.4])


def test_linear_falls_to_0():
    """Eight steps after the warm-up: 8/8, 7/8, … 1/8; 0 would be the step after the last."""
    assert rates("linear")[4:] == pytest.approx([(8 - i) / 8 for i in range(8)])
    assert Schedule("linear", **SETTINGS).rate(12) == 0.0


def test_a_schedule_of_warm_up_alone_ends_at_the_peak():
    assert [round(r, 6) for r in rates("linear", steps=4)] == [0.25, 0.5, 0.75, 1.0]


# --- optimizer --------------------------------------------------------------------------------------------------------


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.ModuleDict({"embedding": nn.Embedding(5, 3), "linear": nn.Linear(3, 2), "norm": nn.LayerNorm(2)})


def test_only_matrices_decay_and_embeddings_do_not(network):
    made = adamw(network.parameters(), without_decay=[network.embedding.weight], learning_rate=0.1, weight_decay=0.5)
    decayed, others = made.param_groups
    assert [id(p) for p in decayed["params"]] == [id(network.linear.weight)]
    expected = [network.embedding.weight, network.linear.bias, network.norm.weight, network.norm.bias]
    assert [id(p) for p in others["params"]] == [id(p) for p in expected]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert len(optimized(made)) == 5


def test_a_group_without_parameters_is_left_out():
    bias = nn.Parameter(torch.zeros(3))
    assert len(adamw([bias], without_decay=[], learning_rate=0.1, weight_decay=0.5).param_groups) == 1


def test_the_first_step_of_adamw_by_hand():
    """Decay 0.1 · 0.5 takes 2 to 1.9; the first moment over the root of the second is the gradient's sign: 1.8."""
    weight = nn.Parameter(torch.full((1, 1), 2.0))
    optimizer = adamw([weight], without_decay=[], learning_rate=9.0, weight_decay=0.5)
    set_learning_rate(optimizer, 0.1)
    (3 * weight).sum().backward()
    update(optimizer)
    assert weight.item() == pytest.approx(1.8, abs=1e-6)
    assert weight.grad is None


def test_gradients_are_clipped_to_their_norm():
    """Gradients 3 and 4 have the norm 5; clipped to 1 they are 0.6 and 0.8, and smaller ones stay."""
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    for largest, expected in [(1.0, [0.6, 0.8]), (10.0, [3.0, 4.0])]:
        a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
        assert clip_gradients([a, b], largest) == pytest.approx(5.0)
        assert [float(a.grad), float(b.grad)] == pytest.approx(expected, abs=1e-5)


# --- early stopping ---------------------------------------------------------------------------------------------------


def stopped_after(losses, patience):
    stopping = EarlyStopping(patience)
    for number, loss in enumerate(losses, 1):
        stopping.add(loss)
        if stopping.stopped:
            return number, stopping
    return None, stopping


@pytest.mark.parametrize(
    ("losses", "patience", "number", "best"),
    [
        ([3.0, 2.0, 1.0], 1, None, 3),
        ([3.0, 2.0, 2.0], 1, 3, 2),  # equal is not lower
        ([3.0, 4.0, 2.0, 5.0, 6.0], 2, 5, 3),
        ([1.0, 2.0, 3.0, 4.0], 3, 4, 1),
    ],
)
def test_it_stops_when_patience_is_at_its_end(losses, patience, number, best):
    found, stopping = stopped_after(losses, patience)
    assert (found, stopping.best, stopping.diverged) == (number, best, False)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_it_stops_at_once_where_the_loss_is_not_finite(loss):
    number, stopping = stopped_after([2.0, loss, 1.0], 9)
    assert (number, stopping.best, stopping.diverged) == (2, 1, True)


def test_nothing_has_stopped_before_the_first_evaluation():
    assert not EarlyStopping(1).diverged
    assert EarlyStopping(1).add(5.0)
