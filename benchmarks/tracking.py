"""What tracking adds to a short evaluation, as a ratio within one run of this script. Prints Markdown.

.venv/bin/python benchmarks/tracking.py

The command runs with and without tracking by turns, so that whatever else the machine does weighs on both. The store is
opened by a process of its own while the evaluation runs: CPU time counts that process too, wall time shows what the
user waits for.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Cost:
    """Seconds of one command."""

    wall_s: float
    cpu_s: float


def cost(command: list[str], environment: dict[str, str]) -> Cost:
    """Runs a command, its child processes included."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", default="sutlm-tiny")
    parser.add_argument("--limit", type=int, default=2)
    a = parser.parse_args()
    arguments = ["--model", a.model, "--tasks", "cra", "--limit", str(a.limit), "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "harness", "run", *arguments, "--output", f"{folder}/results"]
        # A store of its own; corpora and stored answers are those of $HARNESS_HOME, as in any warm run.
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        arms = {"without": [*command, "--no-tracking"], "with": command}
        for arm in arms.values():  # warm
            cost(arm, environment)
        rounds = [{name: cost(arm, environment) for name, arm in arms.items()} for _ in range(a.rounds)]
    print("| | without tracking, s | with tracking, s | ratio (least–greatest) |\n|---|---|---|---|")
    for name, of in (("wall", lambda c: c.wall_s), ("CPU", lambda c: c.cpu_s)):
        ratios = [of(r["with"]) / of(r["without"]) for r in rounds]
        seconds = " | ".join(f"{median(of(r[arm]) for r in rounds):.2f}" for arm in ("without", "with"))
        print(f"| {name} | {seconds} | {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) |")


if __name__ == "__main__":
    main()
