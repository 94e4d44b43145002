"""The specification of a sweep, read strictly from YAML."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from harness.config import STRICT, build, merge, read_yaml
from harness.errors import ConfigError, UnknownNameError
from harness.sweep.simplex import (
    SAME,
    Floats,
    Repetition,
    distinct,
    fill,
    from_lower_bounds,
    lattice,
    scheffe_design,
    within,
)
from harness.training.recipe import FORMATS, Format

SWEEPS_PACKAGE = "harness.sweeps"


@dataclass(frozen=True, config=STRICT)
class ShareBounds:
    """Bounds of one part's share."""

    min: float = 0.0
    max: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.max <= 1:
            raise ConfigError(f"Bounds of a share must keep 0 ≤ min ≤ max ≤ 1; found {self.min} and {self.max}.")


@dataclass(frozen=True, config=STRICT)
class DesignOptions:
    """The designed mixtures, which are trained first.

    Attributes:
        degree: m of the {k, m} lattice of Scheffé: 2 has vertices and middles of edges, 3 thirds of edges and faces.
        axial: adds the half-way points between centroid and vertices.
        uniform_replicates: number of seeds with which the uniform mixture is trained.
    """

    degree: PositiveInt = 2
    axial: bool = True
    uniform_replicates: PositiveInt = 1


@dataclass(frozen=True, config=STRICT)
class SamplerOptions:
    """How mixtures are chosen after the design.

    Attributes:
        kind: `gp`, Gaussian process and expected improvement; `random`, uniform on the lattice.
        lattice: shares are multiples of 1 / this (between the lower bounds).
        seed: of every draw.
    """

    kind: Literal["gp", "random"] = "gp"
    lattice: PositiveInt = 20
    seed: NonNegativeInt = 0


@dataclass(frozen=True, config=STRICT)
class AshaOptions:
    """Successive halving (Li et al. 2020, arXiv 1810.05934) on the validation loss, a mean over all formats.

    Attributes:
        min_validations: validations before a trial can be stopped.
        reduction: one of so many trials continues at each rung.
    """

    min_validations: PositiveInt = 1
    reduction: PositiveInt = 4


@dataclass(frozen=True, config=STRICT)
class SweepSpec:
    """A sweep over mixing ratios: data only, everything that can change its numbers.

    Attributes:
        name: of the sweep.
        card: the proxy, a card by name or path.
        settings: changes to the card, as `harness train --set` makes them.
        sizes: changes to the card's architecture by name of size. The first is swept; the others train the designed
            mixtures, so that ranks can be compared. Defaults to one size, the card's own.
        tokens: budget of a trial; its steps are `tokens / batch_tokens`.
        parts: formats that are mixed, with bounds; the others get nothing.
        ratio_unit: whether shares count tokens or samples.
        max_epochs: most often that a part's corpus may be read in a trial; mixtures beyond are dropped.
        tasks: options of each task that trials are evaluated on.
        corpus: to evaluate on; defaults to the card's.
        split: to evaluate on; choosing a mixture on `test` would bias its score there.
        eval_seed: of the tasks, the same for all trials.
        objectives: metric keys to optimize; the task says which way is better.
        surfaces: further metric keys that the report fits surfaces to; they have no effect on the choice of mixtures.
        seeds: of training; a mixture that is trained again uses the next one.
        trials: designed and adaptive ones together.
        design: what is trained first.
        sampler: how the other mixtures are chosen.
        confirm: seeds, beyond the sweep's own trials, that the best mixture of each objective is trained with; the
            uniform mixture gets as many in all. 0 confirms nothing.
        asha: stops trials early; only with one objective.
        storage: Optuna's database; defaults to `sweep.storage` of `mlflow.yaml`, else SQLite in the output folder.
        description: one line.
    """

    name: str
    card: str
    tokens: PositiveInt
    tasks: dict[str, dict[str, Any]]
    objectives: tuple[str, ...]
    trials: PositiveInt
    surfaces: tuple[str, ...] = ()
    parts: dict[Format, ShareBounds] = field(default_factory=lambda: {name: ShareBounds() for name in FORMATS})
    settings: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, dict[str, Any]] = field(default_factory=lambda: {"proxy": {}})
    ratio_unit: Literal["tokens", "samples"] = "tokens"
    max_epochs: PositiveFloat = 4.0
    corpus: str | None = None
    split: str = "dev"
    eval_seed: int = 0
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    design: DesignOptions = field(default_factory=DesignOptions)
    sampler: SamplerOptions = field(default_factory=SamplerOptions)
    confirm: NonNegativeInt = 0
    asha: AshaOptions | None = None
    storage: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ConfigError(f"A mixture needs at least two parts; found {', '.join(self.parts) or 'none'}.")
        if not self.objectives:
            raise ConfigError("objectives must name at least one metric key.")
        if twice := [key for key in self.reported if self.reported.count(key) > 1]:
            raise ConfigError(f"objectives and surfaces must name no metric key twice; found '{twice[0]}' again.")
        if foreign := [key for key in self.reported if key.split(".")[0] not in self.tasks]:
            raise ConfigError(f"The metric '{foreign[0]}' belongs to no task of the sweep: {', '.join(self.tasks)}.")
        if self.asha and len(self.objectives) > 1:
            raise ConfigError("asha compares trials by one number; give one objective, or leave asha out.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds must be different numbers, at least one; found {self.seeds}.")
        if not self.sizes:
            raise ConfigError("sizes must name at least one size, or be left out.")
        if self.sampler.lattice * len(self.parts) > 400:
            raise ConfigError(f"A lattice of {self.sampler.lattice} steps over {len(self.parts)} parts is too fine.")
        if not within(self.uniform, self._upper()).all() or (self.uniform < self._lower() - SAME).any():
            raise ConfigError(
                "The bounds leave out the uniform mixture, which every mixture is compared with; widen them, or leave "
                "out a part."
            )

    @property
    def names(self) -> tuple[Format, ...]:
        """The parts in the order of the formats."""
        return tuple(name for name in FORMATS if name in self.parts)

    @property
    def reported(self) -> tuple[str, ...]:
        """The metrics that surfaces are fitted to, objectives first."""
        return self.objectives + self.surfaces

    @property
    def size(self) -> str:
        """The size that is swept."""
        return next(iter(self.sizes))

    @property
    def uniform(self) -> Floats:
        """The baseline, `(1, k)`."""
        return np.full((1, len(self.parts)), 1 / len(self.parts))

    def candidates(self, repetition: Repetition) -> Floats:
        """The lattice points that bounds and repetition caps allow, `(points, k)`.

        Raises:
            ConfigError: if the uniform mixture itself is not allowed.
        """
        if not repetition.allows(self.uniform).all():
            passes = ", ".join(
                f"{n} {e:.1f}" for n, e in zip(self.names, repetition.epochs(self.uniform)[0], strict=True)
            )
            raise ConfigError(
                f"{self.tokens:,} tokens in a uniform mixture read the corpus more often than max_epochs="
                f"{self.max_epochs:g} ({passes}); lower tokens, raise max_epochs, or train on more data."
            )
        points = from_lower_bounds(lattice(len(self.parts), self.sampler.lattice), self._lower())
        return points[self._allowed(points, repetition)]

    def designed(self, repetition: Repetition) -> Floats:
        """The designed mixtures, each once, the uniform one first.

        A point that bounds or caps forbid is replaced by the allowed candidate farthest from the others.
        """
        design = scheffe_design(len(self.parts), degree=self.design.degree, axial=self.design.axial)
        points = distinct(np.vstack([self.uniform, from_lower_bounds(design, self._lower())]))
        allowed = points[self._allowed(points, repetition)]
        return fill(allowed, self.candidates(repetition), len(design))

    def _allowed(self, points: Floats, repetition: Repetition) -> NDArray[np.bool_]:
        return within(points, self._upper()) & repetition.allows(points)

    def _lower(self) -> Floats:
        return np.array([self.parts[name].min for name in self.names])

    def _upper(self) -> Floats:
        return np.array([self.parts[name].max for name in self.names])


def sweeps_folder() -> Path:
    """The folder of the shipped sweeps."""
    spec = importlib.util.find_spec(SWEEPS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"The package {SWEEPS_PACKAGE} is missing; reinstall sutlm-harness.")
    return Path(next(iter(spec.submodule_search_locations)))


def read_spec(name: str, settings: Mapping[str, Any] | None = None) -> SweepSpec:
    """A sweep by registered name or by path to a YAML file, with `settings` merged in.

    Raises:
        UnknownNameError: if no sweep has the name.
        ConfigError: if the file does not fit the schema, naming the key and the nearest known one.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else sweeps_folder() / f"{name}.yaml"
    if not path.is_file() and not name.endswith((".yaml", ".yml")):
        raise UnknownNameError("sweep", name, [p.stem for p in sweeps_folder().glob("*.yaml")])
    data = read_yaml(path)
    data.setdefault("name", path.stem)
    return build(SweepSpec, merge(data, settings or {}), where=str(path))
