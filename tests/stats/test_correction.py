"""Correction for several tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.stats import holm


def test_holm_by_hand():
    """0.01 · 3 = 0.03; 0.03 · 2 = 0.06; 0.04 · 1 = 0.04, but no less than the one before: 0.06."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert list(holm({"b": 0.04, "a": 0.01})) == ["b", "a"]
    assert holm({}) == {}


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_step_by_step(ps):
    """Corrected p ≤ level exactly where Holm's procedure rejects: walk up while p ≤ level / (those left)."""
    corrected = holm({str(i): p for i, p in enumerate(ps)})
    for level in (0.01, 0.05, 0.5):
        rejected, left = set(), sorted(range(len(ps)), key=lambda i: ps[i])
        while left and ps[left[0]] * len(left) <= level:
            rejected.add(str(left.pop(0)))
        assert {key for key, p in corrected.items() if p <= level} == rejected


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(InputError, match=r"found 1.5 for b"):
        holm({"a": 0.5, "b": 1.5})
