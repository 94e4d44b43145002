"""Linear layers by oneDNN: the same products, in nothing else a different module."""

from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from harness.linear import onednn_linears

OPERATION = "mkldnn::_linear_pointwise"


@pytest.fixture(scope="module")
def states():
    return torch.randn(2, 150, 384, generator=torch.Generator().manual_seed(0))


def layer(bias=True):
    torch.manual_seed(1)
    return nn.Linear(384, 400, bias=bias)


@torch.inference_mode()
def operations(module, states):
    """What the module computes within the context, and the names of the operations that it does it by."""
    with onednn_linears(module), profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        out = module(states)
    return out, {event.key for event in found.key_averages()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", ["batch", "packed", "transposed"])
def test_products_are_the_same_within_rounding(states, bias, shape):
    given = {"batch": states, "packed": states.flatten(0, 1)[None], "transposed": states.transpose(0, 1)}[shape]
    module = layer(bias)
    out, names = operations(module, given)
    assert OPERATION in names
    torch.testing.assert_close(out, module(given), rtol=1e-4, atol=1e-4)


def test_layers_inside_are_reached(states):
    module = nn.Sequential(layer(), nn.ReLU(), nn.Linear(400, 3))
    out, names = operations(module, states)
    assert OPERATION in names
    torch.testing.assert_close(out, module(states), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 3, 63, 64, 65, 200])
def test_a_row_has_the_same_bits_in_any_company(states, rows):
    module, many = layer(), states.flatten(0, 1)
    out, _ = operations(module, many)
    few, names = operations(module, many[:rows])
    assert OPERATION in names
    assert torch.equal(few, out[:rows])


def test_narrow_layers_are_multiplied_as_ever(states):
    module, narrow = nn.Linear(96, 400), states[..., :96]
    out, names = operations(module, narrow)
    assert OPERATION not in names
    assert torch.equal(out, module(narrow))


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
        out, names = operations(module, states)
        assert OPERATION not in names
        assert torch.equal(out, before)
    assert "forward" in vars(hooked)


def test_the_layers_are_as_before_afterwards_also_after_an_error(states):
    module = layer()
    with pytest.raises(RuntimeError), onednn_linears(module):
        module(states[..., :7])
    assert "forward" not in vars(module)
    module(states).sum().backward()
    assert module.weight.grad is not None


@pytest.mark.parametrize("error", [False, True])
def test_weights_are_held_once_and_come_back_to_the_bit(states, error):
    module = layer()
    weight, before = module.weight, module.weight.detach().clone()
    with suppress(RuntimeError), onednn_linears(module):
        assert not module.weight.numel()
        if error:
            module(states[..., :7])
    assert module.weight is weight
    assert torch.equal(module.weight, before)


def test_the_module_can_be_trained_after_inference(states):
    module = layer()
    operations(module, states)
    module(states).square().sum().backward()
    assert module.weight.grad is not None


def test_weights_that_others_use_stay(states):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head, self.body = (
                nn.Embedding(400, 384),
                nn.Linear(384, 400, bias=False),
                nn.Linear(384, 384),
            )
            self.head.weight = self.embed.weight

        def forward(self, states):
            return self.head(self.body(states))

    module = Tied()
    out, names = operations(module, states)
    assert OPERATION in names  # of the body
    with onednn_linears(module):
        assert module.embed.weight.numel()
        assert not module.body.weight.numel()
    torch.testing.assert_close(out, module(states), rtol=1e-4, atol=1e-4)
    assert module.head.weight is module.embed.weight


def test_one_within_another_leaves_the_outer_one_in_place(states):
    module = layer()
    with onednn_linears(module):
        _, names = operations(module, states)
        assert OPERATION in names
        assert "forward" in vars(module)
    assert "forward" not in vars(module)
