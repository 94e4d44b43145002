"""Regret of samplers of mixing ratios on synthetic response surfaces over four parts.

Four surfaces, put on a range of 1: a bowl with its best mixture inside the simplex, one whose best mixture lies on an
edge, a data mixing law, a sum of two exp(t · w), and the bowl with a part that nothing works without, put on a range of
1 over its better half. Values carry noise of 2 % of the range. Every sampler begins with the same 15 designed mixtures.
Regret is that of the mixture with the best noisy value, the one a user would take, without noise. Prints Markdown.

    .venv/bin/python benchmarks/simplex_samplers.py --quick
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import optuna  # noqa: TID251  # what is measured is its samplers
from numpy.typing import NDArray

from harness.sweep.sampler import MixtureSampler
from harness.sweep.simplex import lattice, scheffe_design

Floats = NDArray[np.float64]
PARTS = ("speech", "text", "cst", "ast")
NOISE = 0.02
TRIALS = 30
GRID = lattice(4, 20)
FINE = lattice(4, 40)


def interior(w: Floats) -> Floats:
    """A bowl with its minimum inside the simplex."""
    return ((w - np.array([0.15, 0.2, 0.25, 0.4])) ** 2).sum(axis=-1)


def edge(w: Floats) -> Floats:
    """A bowl with its minimum on an edge."""
    return 3 * ((w - np.array([0.0, 0.35, 0.0, 0.65])) ** 2).sum(axis=-1) + 0.5 * w[..., 0] + 0.8 * w[..., 2]


def law(w: Floats) -> Floats:
    """The exponential data mixing law."""
    return np.exp(w @ np.array([0.9, -0.6, 0.2, -1.4])) + 0.6 * np.exp(w @ np.array([-1.5, 0.8, -0.4, 1.2]))


def needed(w: Floats) -> Floats:
    """A surface that is high without its second part."""
    return interior(w) + 50 * np.exp(-40 * w[..., 1])


SURFACES: dict[str, Callable[[Floats], Floats]] = {
    "interior": interior,
    "edge": edge,
    "exponential law": law,
    "needed part": needed,
}


def regret(kind: str, surface: Callable[[Floats], Floats], seed: int, trials: int) -> float:
    """In per cent of the surface's range."""
    values = surface(FINE)
    low, spread = values.min(), (np.median(values) - values.min() if surface is needed else np.ptp(values))
    study = optuna.create_study(sampler=MixtureSampler(PARTS, GRID, kind=kind, seed=seed))
    for mixture in scheffe_design(4):
        study.enqueue_trial(dict(zip(PARTS, map(float, mixture), strict=True)))
    noise = np.random.default_rng([seed, 7])

    def objective(trial: optuna.Trial) -> float:
        w = np.array([trial.suggest_float(part, 0, 1) for part in PARTS])
        trial.set_user_attr("true", float((surface(w) - low) / spread))
        return float((surface(w) - low) / spread + NOISE * noise.standard_normal())

    study.optimize(objective, n_trials=trials)
    return 100 * float(study.best_trial.user_attrs["true"])


def overhead(num_trials: int, repeats: int) -> float:
    """Processor seconds per suggestion of the Gaussian process sampler in a study of so many trials."""
    rng = np.random.default_rng(0)
    study = optuna.create_study(sampler=MixtureSampler(PARTS, GRID, kind="gp"))
    space = {part: optuna.distributions.FloatDistribution(0, 1) for part in PARTS}
    for w in GRID[rng.integers(len(GRID), size=num_trials)]:
        params = dict(zip(PARTS, map(float, w), strict=True))
        value = float(interior(w) + NOISE * rng.standard_normal())
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=value))
    start = time.process_time()
    for _ in range(repeats):
        study.ask(space)
    return (time.process_time() - start) / repeats


def main() -> None:
    """Prints each sampler's regret on each surface."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="5 seeds instead of 20")
    parser.add_argument("--trials", type=int, default=TRIALS)
    a = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    seeds = range(5 if a.quick else 20)
    print(
        f"Mean regret in % of the range after {a.trials} trials, noise {NOISE:.0%}, {len(seeds)} seeds (worst seed).\n"
    )
    print("| surface | gp | random |\n|---|---|---|")
    for name, surface in SURFACES.items():
        cells = []
        for kind in ("gp", "random"):
            found = [regret(kind, surface, seed, a.trials) for seed in seeds]
            cells.append(f"{np.mean(found):.2f} ({max(found):.2f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"\nA suggestion at 200 trials takes {overhead(200, 5):.2f} s of processor time.")


if __name__ == "__main__":
    main()
