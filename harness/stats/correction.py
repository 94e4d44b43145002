"""Correction of p-values for testing several hypotheses."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import SampleError


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for testing all of them, in the order given (Holm 1979, Scandinavian J. of Statistics 6).

    The i-th smallest of m becomes the largest of (m − j + 1) · p_j over j ≤ i, at most 1: the chance of any false
    discovery in the family stays below the level, whatever their dependence.

    Raises:
        SampleError: if a p-value is outside [0, 1].
    """
    for key, p in p_values.items():
        if not 0 <= p <= 1:
            raise SampleError(f"A p-value lies in [0, 1]; found {p} for {key}.")
    corrected: dict[str, float] = {}
    largest = 0.0
    for position, key in enumerate(sorted(p_values, key=lambda k: (p_values[k], k))):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[key]))
        corrected[key] = largest
    return {key: corrected[key] for key in p_values}
