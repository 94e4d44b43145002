"""The trials of a sweep as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.files import new_text_file
from harness.sweep.plan import SweepPlan
from harness.sweep.trial import TrialResult


def export(plan: SweepPlan, results: Sequence[TrialResult], folder: Path) -> list[Path]:
    """Writes `ratios.csv` and `metrics.csv`, a row for each trial: what regression on mixtures reads elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    names = plan.spec.names
    head = ["trial", "stage", "size", "seed"]
    keys = sorted({key for o in results for key in o.metrics})
    about = [[o.spec.number, o.spec.stage, o.spec.size, o.spec.seed] for o in results]
    measured = {"realized": "token_share", "realized_samples": "sample_share", "epochs": "epochs"}
    realized = [f"{word}_{n}" for word in measured for n in names]
    ratios = [
        [
            *row,
            *(o.spec.mixture[n] for n in names),
            *(o.realized.get(n, {}).get(what, 0.0) for what in measured.values() for n in names),
        ]
        for row, o in zip(about, results, strict=True)
    ]
    costs = ["tokens", "flops", "train_s", "evaluate_s", "peak_memory_bytes"]
    metrics = [
        [*row, *(o.metrics[k].value if k in o.metrics else "" for k in keys), *(getattr(o, c) for c in costs)]
        for row, o in zip(about, results, strict=True)
    ]
    return [
        _csv(folder / "ratios.csv", [*head, *names, *realized], ratios),
        _csv(folder / "metrics.csv", [*head, *keys, *costs], metrics),
    ]


def _csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with new_text_file(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path
