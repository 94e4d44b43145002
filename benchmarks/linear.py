"""Speed of float32 linear layers: PyTorch's own (MKL) against oneDNN, as in `harness/linear.py`.

Rounds are paired and in alternating order. Prints Markdown.

    .venv/bin/python benchmarks/linear.py
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.linear import onednn_linears

ROWS = (16, 64, 256, 512, 1536)
SHAPES = ((256, 256), (256, 1024), (1024, 256), (384, 384), (384, 1536), (1536, 384), (384, 12000))


def seconds(run: Callable[[], Tensor], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"{datetime.date.today()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds.\n")
    print("| rows | inputs × outputs | MKL GFLOP/s | oneDNN GFLOP/s | × faster |\n|---|---|---|---|---|")
    for rows in ROWS:
        for inputs, outputs in SHAPES:
            layer, states = nn.Linear(inputs, outputs), torch.randn(rows, inputs)
            flop = 2 * rows * inputs * outputs
            repeats = max(3, int(2e9 / flop))

            def onednn(layer: nn.Linear = layer, states: Tensor = states, repeats: int = repeats) -> float:
                with onednn_linears(layer):
                    return seconds(lambda: layer(states), repeats)

            def plain(layer: nn.Linear = layer, states: Tensor = states, repeats: int = repeats) -> float:
                return seconds(lambda: layer(states), repeats)

            plain(), onednn()
            pairs = []
            for i in range(rounds):
                first, second = (plain(), onednn()) if i % 2 == 0 else tuple(reversed((onednn(), plain())))
                pairs.append((first, second))
            ratio = [a / b for a, b in pairs]
            a, b = (flop / statistics.median(times) / 1e9 for times in zip(*pairs, strict=True))
            spread = f"{statistics.median(ratio):.2f} ({min(ratio):.2f}–{max(ratio):.2f})"
            print(f"| {rows} | {inputs} × {outputs} | {a:.0f} | {b:.0f} | {spread} |")


if __name__ == "__main__":
    main()
