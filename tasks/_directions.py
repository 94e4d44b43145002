"""Metrics in four directions, laid out as a grid: modality of the prompt by modality of the continuation."""

from __future__ import annotations

_LETTERS = {"speech": "u", "text": "t"}


def direction_grid(key: str) -> dict[str, dict[str, str]]:
    """Metric keys by row and column of a heat map; `{}` in `key` stands for the direction."""
    return {
        f"prompt: {source}": {f"continuation: {target}": key.format(f"{s}2{t}") for target, t in _LETTERS.items()}
        for source, s in _LETTERS.items()
    }
