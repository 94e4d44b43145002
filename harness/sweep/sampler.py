"""The sampler of mixtures: Gaussian process and expected improvement, or random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from harness.errors import ConfigError
from harness.sweep.acquisition import expected_improvement, scalarize
from harness.sweep.simplex import SAME, Floats
from harness.sweep.storage import DONE
from harness.sweep.surface import LossScale

#: Finished trials below which mixtures are drawn at random.
_ENOUGH = 3


class MixtureSampler(optuna.samplers.BaseSampler):
    """Chooses mixtures on a lattice; a trial's parameters are the shares of all parts.

    A suggestion is a function of (seed, trial number, trials so far): workers share no random state, and a study that
    is resumed repeats no draw. Diverged trials count as the worst loss so far.

    Args:
        parts: names of the shares.
        candidates: the allowed mixtures, `(points, k)`.
        kind: `gp`, expected improvement of a Gaussian process on the scale of `LossScale`, objectives scalarized as in
            ParEGO; or `random`, uniform over the candidates.
        seed: of every draw.
    """

    def __init__(self, parts: Sequence[str], candidates: Floats, *, kind: str = "gp", seed: int = 0) -> None:
        self.parts, self.candidates, self.kind, self.seed = tuple(parts), candidates, kind, seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The shares, all of them."""
        return {part: FloatDistribution(0.0, 1.0) for part in self.parts}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The shares of the next mixture; nothing for a trial whose shares are given."""
        given = {**trial.params, **trial.system_attrs.get("fixed_params", {})}
        if all(part in given for part in self.parts):
            return {}
        rng = np.random.default_rng([self.seed, trial.number])
        mixture = self.candidates[self._choose(study, trial, rng)]
        return {part: float(share) for part, share in zip(self.parts, mixture, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refused: shares are chosen together.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"'{param_name}' is not a part of the mixture {', '.join(self.parts)}.")

    def _choose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> int:
        """Index of the next candidate."""
        mixtures, losses, pending = self._history(study, trial)
        if self.kind == "random" or len(losses) < _ENOUGH:
            return int(rng.integers(len(self.candidates)))
        scaled = np.column_stack([LossScale.of(of_one).scaled(of_one) for of_one in losses.T])
        gain = expected_improvement(self.candidates, mixtures, scalarize(scaled, rng=rng), pending)
        for mixture in pending:
            gain[np.abs(self.candidates - mixture).max(axis=1) < SAME] = -1.0  # it is in training
        best = np.flatnonzero(gain >= gain.max() * (1 - 1e-9)) if gain.max() > 0 else np.flatnonzero(gain >= 0)
        return int(rng.choice(best))

    def _history(self, study: Study, trial: FrozenTrial) -> tuple[Floats, Floats, Floats]:
        """Mixtures of finished trials and their losses, lower is better; mixtures in training."""
        trials = [
            t
            for t in study.get_trials(deepcopy=False, states=(*DONE, TrialState.RUNNING))
            if t.number != trial.number
            and all(part in t.params for part in self.parts)
            and t.user_attrs.get("stage") != "transfer"
        ]
        signs = [1.0 if d == StudyDirection.MINIMIZE else -1.0 for d in study.directions]
        done = [t for t in trials if t.state == TrialState.COMPLETE]
        losses = np.array([[s * v for s, v in zip(signs, t.values, strict=True)] for t in done])
        losses = losses.reshape(-1, len(signs))
        pruned = [t for t in trials if t.state == TrialState.PRUNED] if len(done) else []
        worst = np.tile(losses.max(axis=0), (len(pruned), 1)) if pruned else np.empty((0, len(signs)))
        running = [t for t in trials if t.state == TrialState.RUNNING]
        return self._mixtures([*done, *pruned]), np.vstack([losses, worst]), self._mixtures(running)

    def _mixtures(self, trials: Sequence[FrozenTrial]) -> Floats:
        return np.array([[t.params[part] for part in self.parts] for t in trials]).reshape(-1, len(self.parts))
