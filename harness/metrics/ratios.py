"""Ratios of counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Elementwise `part / whole`; 0 where `whole` is 0."""
    numerator = np.asarray(part, dtype=np.float64)
    return np.asarray(np.divide(numerator, whole, out=np.zeros_like(numerator), where=np.asarray(whole) > 0))
