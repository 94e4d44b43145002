"""Analysis of a sweep: best mixtures with intervals, comparisons with the uniform mixture, trade-offs between tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.stats import spearmanr

from harness.errors import SweepError
from harness.stats import holm
from harness.sweep.comparison import SeedComparison, welch
from harness.sweep.cross_validation import FAMILIES, CrossValidated, best_surface
from harness.sweep.plan import SweepPlan
from harness.sweep.simplex import Floats
from harness.sweep.surface import LossScale, Surface
from harness.sweep.trial import TrialResult

#: Number of surfaces drawn from the posterior.
_DRAWS = 1000
#: Different mixtures below which no surface is fitted.
ENOUGH_MIXTURES = 5


@dataclass(frozen=True)
class Optimum:
    """The best mixture for one metric, with its uncertainty.

    Attributes:
        key: of the metric.
        higher: whether higher is better.
        scale: of the loss (the metric, negated where higher is better), that surfaces are fitted on.
        surface: of the scaled loss, fitted to all trials of the swept size; of the family with the least error on
            left-out mixtures.
        errors: of every family, best first.
        optima_by_family: where the surface of each family is best, among lattice and trained mixtures: a linear
            surface and a data mixing law always have it at a vertex, which their intervals do not show.
        mixture: where the surface of the family with the least error is best, before any confirmation.
        value: the surface there.
        value_ci95: 95 % interval of the surface there.
        shares_ci95: by part, 2.5 to 97.5 % of the best mixture's share over surfaces drawn from the posterior.
        indifferent: mixtures whose surface is not worse with 95 % confidence, a mask over `Analysis.points`.
        uniform: the surface at the uniform mixture.
        gain: how much better the best mixture is than the uniform one on the surface, in the metric's unit.
        gain_ci95: of that difference, which is biased upwards: the same trials chose the best mixture.
        lead: the same difference on the scale.
        comparison: the same over seeds of trials that took no part in the choice.
    """

    key: str
    higher: bool
    scale: LossScale
    surface: Surface
    errors: list[CrossValidated]
    optima_by_family: dict[str, tuple[float, ...]]
    mixture: tuple[float, ...]
    value: float
    value_ci95: tuple[float, float]
    shares_ci95: tuple[tuple[float, float], ...]
    indifferent: Floats
    uniform: float
    gain: float
    gain_ci95: tuple[float, float]
    lead: float
    comparison: SeedComparison

    def values(self, scaled: Floats) -> Floats:
        """Values of the metric for scaled losses."""
        return (-1.0 if self.higher else 1.0) * self.scale.losses(scaled)

    @property
    def error(self) -> CrossValidated:
        """How well the surface's family predicts mixtures that were left out."""
        return next(row for row in self.errors if row.family == self.surface.name)

    @property
    def verdict(self) -> str:
        """Whether the best mixture differs from the uniform one, in words."""
        if self.comparison.significant is not None:
            better = (self.comparison.difference or 0) > 0 if self.higher else (self.comparison.difference or 0) < 0
            direction = "better than" if better else "worse than"
            word = direction if self.comparison.significant else "cannot be told from"
            p = self.comparison.p if self.comparison.corrected is None else self.comparison.corrected
            return f"{word} uniform (p = {p:.2g}, {min(self.comparison.seeds)}+ seeds each)"
        # A surface fitted to noise can have narrow intervals; its error on unseen mixtures shows that it is noise.
        if self.error.r2 <= 0:
            return "cannot be told from uniform: no surface predicts mixtures it has not seen"
        if self.gain_ci95[0] <= 0:
            return "cannot be told from uniform"
        if self.lead <= self.error.rmse:
            return "cannot be told from uniform: the gain is within the error on left-out mixtures"
        return "better than uniform on the surface; not confirmed by further seeds"


@dataclass(frozen=True)
class Analysis:
    """The analysis of a sweep.

    Attributes:
        plan: of the sweep.
        results: of all complete trials.
        points: mixtures at which surfaces are compared: the allowed lattice and the trained ones, `(points, k)`.
        optima: by metric key, objectives first.
        pareto: trials that no other beats in every objective, by number.
        regret: by metric, by metric: how much worse the first is at the second's best mixture than at its own, on its
            surface and in its unit, ≥ 0.
        transfer: by size and metric, Spearman's rank correlation with the swept size over the mixtures of both.
    """

    plan: SweepPlan
    results: list[TrialResult]
    points: Floats
    optima: dict[str, Optimum]
    pareto: list[int]
    regret: dict[str, dict[str, float]] = field(default_factory=dict)
    transfer: dict[str, dict[str, tuple[float, int]]] = field(default_factory=dict)

    def swept(self) -> list[TrialResult]:
        """Trials of the swept size."""
        return [o for o in self.results if o.spec.size == self.plan.spec.size]

    def mixtures(self, results: Sequence[TrialResult]) -> Floats:
        """Their mixtures, `(trials, k)`."""
        return mixtures_of(self.plan, results)


def mixtures_of(plan: SweepPlan, results: Sequence[TrialResult]) -> Floats:
    """The mixtures of trials, `(trials, k)`."""
    return np.array([[o.spec.mixture[name] for name in plan.spec.names] for o in results]).reshape(
        -1, len(plan.spec.names)
    )


def analyze(
    plan: SweepPlan, results: Sequence[TrialResult], *, keys: Sequence[str] | None = None, seed: int = 0
) -> Analysis:
    """Fits a surface to every metric and finds each one's best mixture.

    Args:
        plan: of the sweep.
        results: of complete trials.
        keys: metrics to analyze; None: those that the sweep reports.
        seed: of draws from posteriors.

    Raises:
        SweepError: with too few different mixtures to fit anything.
    """
    swept = [o for o in results if o.spec.size == plan.spec.size]
    mixtures = mixtures_of(plan, swept)
    number = len(np.unique(mixtures.round(6), axis=0))
    if number < ENOUGH_MIXTURES:
        raise SweepError(
            f"A response surface needs at least {ENOUGH_MIXTURES} different mixtures; {number} are trained. Let the "
            "sweep go on: the same 'harness sweep run' continues."
        )
    points = np.unique(np.vstack([plan.spec.candidates(plan.repetition), mixtures, plan.spec.uniform]).round(9), axis=0)
    chosen = list(plan.spec.reported if keys is None else keys)
    optima = {key: _optimum(plan, key, swept, points, seed) for key in chosen}
    for family in (plan.spec.objectives, [key for key in chosen if key not in plan.spec.objectives]):
        optima |= corrected({key: optima[key] for key in family if key in optima})
    return Analysis(
        plan=plan,
        results=list(results),
        points=points,
        optima=optima,
        pareto=_pareto(plan, swept),
        regret=_regret(optima, points),
        transfer=_transfer(plan, results, chosen),
    )


def _optimum(plan: SweepPlan, key: str, swept: Sequence[TrialResult], points: Floats, seed: int) -> Optimum:
    higher = bool(plan.higher_is_better[key])
    sign = -1.0 if higher else 1.0
    # Trials that confirm a choice must not take part in it.
    choosing = [o for o in swept if o.spec.stage != "confirm"]
    scale = LossScale.of(sign * _values(choosing, key))

    def trials(results: Sequence[TrialResult]) -> tuple[Floats, Floats]:
        return mixtures_of(plan, results), scale.scaled(sign * _values(results, key))

    chosen_by, compared = best_surface(*trials(choosing))
    best = int(np.argmin(chosen_by.mean(points)))
    fits = {row.family: FAMILIES[row.family] for row in compared if row.family in FAMILIES}
    by_family = {name: points[np.argmin(fit(*trials(choosing)).mean(points))] for name, fit in fits.items()}
    surface, errors = best_surface(*trials(swept))
    mean, covariance = surface.predict(points)
    draws = surface.draws(points, _DRAWS, seed=seed)
    argbest = points[np.argmin(draws, axis=1)]
    base = int(np.argmin(np.abs(points - plan.spec.uniform).sum(axis=1)))
    variance = np.clip(np.diag(covariance), 0, None)
    to_best = np.sqrt(np.clip(variance + variance[best] - 2 * covariance[:, best], 0, None))
    value, low, high = sign * scale.losses(mean[best] + np.sqrt(variance[best]) * np.array([0, -1.96, 1.96]))
    uniform = sign * scale.losses(mean[base])
    gains = scale.losses(draws[:, base]) - scale.losses(draws[:, best])
    return Optimum(
        key=key,
        higher=higher,
        scale=scale,
        surface=surface,
        errors=errors,
        optima_by_family={name: tuple(float(x) for x in mixture) for name, mixture in by_family.items()},
        mixture=tuple(float(x) for x in points[best]),
        value=float(value),
        value_ci95=(float(min(low, high)), float(max(low, high))),
        shares_ci95=tuple((float(a), float(b)) for a, b in np.quantile(argbest, [0.025, 0.975], axis=0).T),
        indifferent=(mean - mean[best]) <= 1.645 * to_best + 1e-12,
        uniform=float(uniform),
        gain=float(sign * (uniform - value)),
        gain_ci95=(float(np.quantile(gains, 0.025)), float(np.quantile(gains, 0.975))),
        lead=float(mean[base] - mean[best]),
        comparison=_compare(plan, key, swept, points[best]),
    )


def _values(results: Sequence[TrialResult], key: str) -> Floats:
    return np.array([o.metrics[key].value for o in results])


def _compare(plan: SweepPlan, key: str, swept: Sequence[TrialResult], best: Floats) -> SeedComparison:
    mixtures = mixtures_of(plan, swept)
    at_best = (np.abs(mixtures - best) < 1e-6).all(axis=1)
    at_uniform = (np.abs(mixtures - plan.spec.uniform) < 1e-6).all(axis=1)
    new = np.array([o.spec.stage == "confirm" for o in swept])
    values = _values(swept, key)
    if (at_best & at_uniform).any():
        return SeedComparison(0.0, None, None, (int(at_best.sum()), int(at_uniform.sum())))
    return welch(values[at_best & new], values[at_uniform])


def corrected(optima: Mapping[str, Optimum]) -> dict[str, Optimum]:
    """The optima that were tested, their comparisons corrected by Holm for there being several."""
    tested = {key: a.comparison.p for key, a in optima.items() if a.comparison.p is not None}
    return {
        key: replace(optima[key], comparison=replace(optima[key].comparison, corrected=p))
        for key, p in holm(tested).items()
    }


def _pareto(plan: SweepPlan, swept: Sequence[TrialResult]) -> list[int]:
    losses = np.column_stack(
        [(-1.0 if plan.higher(key) else 1.0) * _values(swept, key) for key in plan.spec.objectives]
    )
    return sorted(swept[i].spec.number for i in pareto_front(losses))


def pareto_front(losses: Floats) -> list[int]:
    """TableBlock that no other row beats: none is at least as good in every column and better in one."""
    return [i for i, row in enumerate(losses) if not ((losses <= row).all(axis=1) & (losses < row).any(axis=1)).any()]


def _regret(optima: dict[str, Optimum], points: Floats) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    # By index among the points, since a prediction at one point and at many differ by rounding.
    positions = {key: int(np.abs(points - np.array(a.mixture)).sum(axis=1).argmin()) for key, a in optima.items()}
    for key, optimum in optima.items():
        losses = optimum.scale.losses(optimum.surface.mean(points))
        own = losses[positions[key]]
        table[key] = {other: max(0.0, float(losses[position] - own)) for other, position in positions.items()}
    return table


def _transfer(
    plan: SweepPlan, results: Sequence[TrialResult], keys: Sequence[str]
) -> dict[str, dict[str, tuple[float, int]]]:
    table: dict[str, dict[str, tuple[float, int]]] = {}
    first = [o for o in results if o.spec.size == plan.spec.size]
    for size in list(plan.spec.sizes)[1:]:
        second = [o for o in results if o.spec.size == size]
        pairs = [
            (a, b) for b in second for a in first if a.spec.mixture == b.spec.mixture and a.spec.seed == b.spec.seed
        ]
        if len(pairs) >= 3:
            left, right = [a for a, _ in pairs], [b for _, b in pairs]
            values = {key: (_values(left, key), _values(right, key)) for key in keys}
            table[size] = {
                key: (float(spearmanr(a, b).statistic), len(pairs))
                for key, (a, b) in values.items()
                if np.ptp(a) > 0 and np.ptp(b) > 0  # without different values there are no ranks
            }
    return table
