"""Linear layers by oneDNN: the same products, in nothing else a different module."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from harness.engine.linear import onednn_linears

OPERATION = "mkldnn::_linear_pointwise"


@pytest.fixture(scope="module")
def states():
    return torch.randn(2, 150, 384, generator=torch.Generator().manual_seed(0))


def layer(bias=True):
    torch.manual_seed(1)
    return nn.Linear(384, 400, bias=bias)


@torch.inference_mode()
def operations(module, states, head=None):
    """What the module computes within the context, and the names of the operations that it does it by."""
    with onednn_linears(module, head), profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        out = module(states)
    return out, {event.key for event in found.key_averages()}


def exact(module, states):
    """The products in double precision."""
    bias = 0 if module.bias is None else module.bias.double()
    return (states.double() @ module.weight.double().T + bias).float()


@pytest.mark.parametrize("is_head", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", ["batch", "packed", "transposed"])
def test_products_are_the_same_within_rounding(states, is_head, bias, shape):
    given = {"batch": states, "packed": states.flatten(0, 1)[None], "transposed": states.transpose(0, 1)}[shape]
    module = layer(bias)
    out, names = operations(module, given, module if is_head else None)
    assert OPERATION in names
    torch.testing.assert_close(out, exact(module, given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 3, 255, 256, 300])
def test_few_rows_are_multiplied_as_ever_except_for_logits(states, rows):
    module, some = layer(), states.flatten(0, 1)[:rows]
    out, names = operations(module, some)
    assert (OPERATION in names) == (rows >= 256)
    torch.testing.assert_close(out, exact(module, some), rtol=1e-4, atol=1e-5)
    out, names = operations(module, some, head=module)
    assert OPERATION in names
    torch.testing.assert_close(out, exact(module, some), rtol=1e-4, atol=1e-5)


def test_layers_inside_are_reached_and_narrow_ones_left(states):
    module = nn.Sequential(layer(), nn.ReLU(), nn.Linear(400, 3))
    with torch.inference_mode(), onednn_linears(module):
        assert [("forward" in vars(m)) for m in module] == [True, False, False]
        out = module(states)
    torch.testing.assert_close(out, module(states), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_numbers_are_multiplied_as_ever(states, dtype):
    module = layer().to(dtype)
    out, names = operations(module, states.to(dtype))
    assert OPERATION not in names
    assert torch.equal(out, module(states.to(dtype)))


def test_layers_that_compute_something_else_do_so_still(states):
    class Doubled(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    doubled, hooked = Doubled(384, 400), layer()
    hooked.forward = lambda input: input + 1  # as libraries do that move weights between devices
    for module in (doubled, hooked):
        before = module(states)
        out, names = operations(module, states, module)
        assert OPERATION not in names
        assert torch.equal(out, before)
    assert "forward" in vars(hooked)


def test_who_turned_onednn_off_gets_what_was_asked_for(states, monkeypatch):
    module = layer()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    _, names = operations(module, states)
    assert OPERATION not in names


@pytest.mark.parametrize("error", [False, True])
def test_the_layers_are_as_before_afterwards_and_can_be_trained(states, error):
    module = layer()
    weight, before = module.weight, module.weight.detach().clone()
    try:
        with torch.inference_mode(), onednn_linears(module, module):
            module(states[..., :7] if error else states)
    except RuntimeError:
        assert error
    assert "forward" not in vars(module)
    assert module.weight is weight
    assert torch.equal(weight, before)
    module(states).square().sum().backward()
    assert weight.grad is not None


def test_logits_are_those_of_the_weights_at_the_time(states):
    """What is held is of one use: weights that training changes in between are not missed."""
    module = layer()
    operations(module, states, module)
    with torch.no_grad():
        module.weight.mul_(2)
    out, _ = operations(module, states, module)
    torch.testing.assert_close(out, exact(module, states), rtol=1e-4, atol=1e-5)


def test_one_within_another_leaves_the_outer_one_in_place(states):
    module = layer()
    with onednn_linears(module):
        _, names = operations(module, states)
        assert OPERATION in names
        assert "forward" in vars(module)
    assert "forward" not in vars(module)
