"""Attention in two parts: each against the definition in double precision, whichever way it is computed."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from harness.engine.attention import _FEW_KEYS, _FEW_QUERIES, _attention


def definition(query, key, value, scale, causal):
    """Of `(rows, heads, time, width)`; the last query attends to all keys, the one before to all but one."""
    scores = query.double() @ key.double().transpose(2, 3) * scale
    if causal:
        time, keys = scores.shape[2:]
        behind = torch.arange(keys) > torch.arange(keys - time, keys)[:, None]
        scores = scores.masked_fill(behind, -torch.inf)
    return scores.softmax(-1) @ value.double(), scores.logsumexp(-1)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("time", [1, 3, _FEW_QUERIES, _FEW_QUERIES + 1])
@pytest.mark.parametrize("past", [0, 1, _FEW_KEYS - _FEW_QUERIES, _FEW_KEYS - 3, _FEW_KEYS + 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_its_definition(device, causal, time, past, dtype):
    """Scores of a hundred nats and more too, whose exponentials float32 could not hold."""
    generator = torch.Generator().manual_seed(time * 100 + past)
    query, key, value = (
        torch.randn(3, 2, length, 8, generator=generator).to(dtype) for length in (time, past + time, past + time)
    )
    key = key * 80
    out, total = (t.cpu() for t in _attention(*(t.to(device) for t in (query, key, value)), 0.3, causal=causal))
    expected_out, expected_total = definition(query, key, value, 0.3, causal)
    assert out.dtype == dtype
    assert total.dtype == torch.float32
    exact = dtype == torch.float32
    torch.testing.assert_close(
        total.double(), expected_total, rtol=1e-6 if exact else 1e-2, atol=1e-4 if exact else 0.5
    )
    torch.testing.assert_close(out.double(), expected_out, rtol=1e-4, atol=1e-4 if exact else 0.3)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "flash"), [(torch.bfloat16, True), (torch.float16, True), (torch.float32, False)])
def test_gpus_use_their_flash_kernel_for_half_precision(dtype, flash):
    states = torch.randn(1, 2, 40, 64, dtype=dtype, device="cuda")
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        _attention(states, states, states, 0.3, causal=True)
    assert ("aten::_scaled_dot_product_flash_attention" in {e.key for e in found.key_averages()}) == flash
