"""Speed of float32 linear layers: PyTorch's own (MKL) against oneDNN, as in `harness/engine/linear.py`.

Rounds are paired and in alternating order. The last shape is a product with a vocabulary, 128 rows at a time as the
engine makes it. Prints Markdown.

    .venv/bin/python benchmarks/linear.py
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from harness.engine.linear import onednn_linears
from harness.engine.memory import logit_rows

ROWS = (64, 128, 256, 512, 1536)
SHAPES = ((256, 256), (256, 1024), (1024, 256), (384, 384), (384, 1536), (1536, 384), (384, 12000))
VOCABULARY = 12000


@torch.inference_mode()
def main() -> None:
    """Prints a table of shapes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    today = time.strftime("%Y-%m-%d")
    print(f"{today}, torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} paired rounds.\n")
    print("| rows | inputs × outputs | MKL GFLOP/s | oneDNN GFLOP/s | × faster |\n|---|---|---|---|---|")
    for rows in ROWS:
        for inputs, outputs in SHAPES:
            print(row(rows, inputs, outputs, rounds), flush=True)


def row(rows: int, inputs: int, outputs: int, rounds: int) -> str:
    """One shape: GFLOP/s by MKL and by oneDNN."""
    layer, states, times = nn.Linear(inputs, outputs), torch.randn(rows, inputs), ([], [])
    flop = 2 * rows * inputs * outputs
    is_head = outputs == VOCABULARY
    size = logit_rows("cpu") if is_head else rows

    def seconds() -> float:
        repeats = max(3, int(1e9 / flop))
        start = time.perf_counter()
        for _ in range(repeats):
            for part in states.split(size):
                layer(part)
        return (time.perf_counter() - start) / repeats

    for i in range(rounds + 1):
        for side in (0, 1) if i % 2 == 0 else (1, 0):
            if side:
                with onednn_linears(layer, layer if is_head else None):
                    times[side].append(seconds())
            else:
                times[side].append(seconds())
    ratios = [a / b for a, b in zip(*times, strict=True)][1:]
    mkl, onednn = (flop / statistics.median(t[1:]) / 1e9 for t in times)
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    return f"| {rows} | {inputs} × {outputs} | {mkl:.0f} | {onednn:.0f} | {spread} |"


if __name__ == "__main__":
    main()
