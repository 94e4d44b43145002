"""Response surfaces: a metric as a function of the mixture, fitted to trials, with uncertainty.

Every surface predicts means and a joint covariance, so that mixtures can be compared with each other. Surfaces are of
losses on the scale of `Excess`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import least_squares
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from harness.errors import InputError
from harness.sweep.simplex import SAME, Floats

#: Trials from which trees have enough to split.
TREES_FROM = 64
#: Losses further below the best trial than this share of the unit are one: the scale ends at a whole unit.
_DEEPEST = 0.95


@dataclass(frozen=True)
class Excess:
    """The scale on which surfaces are fitted: log(1 + (loss − best) / unit).

    It is straight near the best losses and logarithmic far from them. A mixture without what a metric needs costs many
    times what all others differ by, and on the plain scale would bend every family to itself.

    Attributes:
        best: the least loss of the trials.
        unit: of half of the trials the loss is within so much of it; > 0.
    """

    best: float
    unit: float

    @classmethod
    def of(cls, losses: Floats) -> Excess:
        """The scale of trials, `(trials,)`."""
        best = float(losses.min())
        return cls(best, float(np.median(losses)) - best or float(np.ptp(losses)) or 1.0)

    def scaled(self, losses: Floats) -> Floats:
        """From losses; they keep their order."""
        return np.asarray(np.log1p(np.maximum((losses - self.best) / self.unit, -_DEEPEST)))

    def losses(self, scaled: Floats) -> Floats:
        """Back to losses."""
        return np.asarray(self.best + self.unit * np.expm1(scaled))

    def slope(self, scaled: Floats) -> Floats:
        """Change of the loss with the scale, > 0."""
        return np.asarray(self.unit * np.exp(scaled))


@dataclass(frozen=True)
class Surface:
    """A fitted surface.

    Attributes:
        name: of its family.
        predict: mixtures `(points, k)` → means `(points,)` and the covariance of the latent surface `(points, points)`.
        noise: standard deviation of a trial around the surface.
        formula: what was fitted, where it can be written down, for values on this scale.
    """

    name: str
    predict: Callable[[Floats], tuple[Floats, Floats]]
    noise: float
    formula: Callable[[Excess], str] = lambda _: ""

    def mean(self, mixtures: Floats) -> Floats:
        """The means alone."""
        return self.predict(mixtures)[0]

    def draws(self, mixtures: Floats, number: int, *, seed: int) -> Floats:
        """Surfaces drawn from the posterior at these mixtures, `(number, points)`."""
        mean, covariance = self.predict(mixtures)
        symmetric = (covariance + covariance.T) / 2
        try:
            root = np.linalg.cholesky(symmetric + 1e-9 * np.trace(symmetric) / len(mean) * np.eye(len(mean)))
        except np.linalg.LinAlgError:  # rounding left it indefinite; slower, but always defined
            values, vectors = np.linalg.eigh(symmetric)
            root = vectors * np.sqrt(np.clip(values, 0, None))
        normal = np.random.default_rng(seed).standard_normal((number, len(mean)))
        return np.asarray(mean + normal @ root.T)


Fit = Callable[[Floats, Floats], Surface]


class GaussianProcess:
    """A Gaussian process over the shares, Matérn 5/2, conditioned on noisy values.

    Args:
        latent: covariance of the surface, in standardized units.
        noise: variance of a value around the surface, likewise.
        mixtures: `(trials, k)`.
        values: `(trials,)`.
    """

    def __init__(self, latent: Callable[..., Floats], noise: float, mixtures: Floats, values: Floats) -> None:
        self._latent, self._noise, self._mixtures, self._values = latent, noise, mixtures, values
        self._center, self._scale = float(values.mean()), float(values.std()) or 1.0
        # scikit-learn counts the noise as part of what it predicts; asked for is the surface beneath it.
        gram = latent(mixtures) + (noise + 1e-10) * np.eye(len(mixtures))
        self._factor = cho_factor(gram, lower=True)
        self._weights = cho_solve(self._factor, (values - self._center) / self._scale)

    @classmethod
    def fit(cls, mixtures: Floats, values: Floats) -> GaussianProcess:
        """Kernel and noise by maximum likelihood (scikit-learn), values standardized."""
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(0.5, (0.05, 5.0), nu=2.5) + WhiteKernel(1e-2, (1e-5, 1.0))
        scale = float(values.std()) or 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound is an answer too
            fitted = GaussianProcessRegressor(kernel, random_state=0)
            fitted.fit(mixtures, (values - values.mean()) / scale)
        return cls(fitted.kernel_.k1, float(fitted.kernel_.k2.noise_level), mixtures, values)

    def believing(self, pending: Floats) -> GaussianProcess:
        """The same process as if each pending mixture had given its mean ("kriging believer", Ginsbourger 2010)."""
        if not len(pending):
            return self
        values = np.append(self._values, self.mean(pending))
        return GaussianProcess(self._latent, self._noise, np.vstack([self._mixtures, pending]), values)

    def mean(self, points: Floats) -> Floats:
        """Means of the surface, `(points,)`."""
        return np.asarray(self._center + self._scale * (self._latent(points, self._mixtures) @ self._weights))

    def deviation(self, points: Floats) -> Floats:
        """Standard deviations of the surface, `(points,)`."""
        cross = self._latent(points, self._mixtures)
        explained = np.einsum("ij,ji->i", cross, cho_solve(self._factor, cross.T))
        prior = np.diag(self._latent(points[:1]))[0]  # the kernel is stationary
        return np.asarray(self._scale * np.sqrt(np.clip(prior - explained, 0, None)))

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Means and joint covariance."""
        cross = self._latent(points, self._mixtures)
        covariance = self._latent(points) - cross @ cho_solve(self._factor, cross.T)
        return self.mean(points), np.asarray(self._scale**2 * covariance)

    def best_mean(self) -> float:
        """The least mean at a mixture it is conditioned on: the least value would be the luckiest under noise."""
        return float(self.mean(self._mixtures).min())

    def surface(self) -> Surface:
        """As a surface."""
        length = getattr(getattr(self._latent, "k2", None), "length_scale", float("nan"))
        noise = self._scale * float(np.sqrt(self._noise))
        return Surface("gaussian process", self.predict, noise, lambda _: f"Matérn 5/2, length {length:.2g}")


def fit_gaussian_process(mixtures: Floats, values: Floats) -> Surface:
    """A `GaussianProcess` as a surface."""
    return GaussianProcess.fit(mixtures, values).surface()


def fit_linear(mixtures: Floats, values: Floats) -> Surface:
    """Scheffé's linear blending model, Σ βᵢ wᵢ."""
    return _least_squares("linear", mixtures, values, lambda points: points)


def fit_quadratic(mixtures: Floats, values: Floats) -> Surface:
    """Scheffé's quadratic model, Σ βᵢ wᵢ + Σ βᵢⱼ wᵢ wⱼ."""
    left, right = np.triu_indices(mixtures.shape[1], 1)
    return _least_squares(
        "quadratic", mixtures, values, lambda points: np.hstack([points, points[:, left] * points[:, right]])
    )


def _least_squares(name: str, mixtures: Floats, values: Floats, terms: Callable[[Floats], Floats]) -> Surface:
    design = terms(mixtures)
    # A trace of ridge keeps the fit defined where mixtures are fewer than terms.
    ridge = 1e-6 * np.eye(design.shape[1])
    inverse = np.linalg.inv(design.T @ design + ridge)
    coefficients = inverse @ (design.T @ values)
    residual = values - design @ coefficients
    variance = _variance(residual, int(np.linalg.matrix_rank(design)))

    def predict(points: Floats) -> tuple[Floats, Floats]:
        rows = terms(points)
        return rows @ coefficients, variance * rows @ inverse @ rows.T

    formula = " ".join(f"{c:+.4g}" for c in coefficients)
    return Surface(name, predict, float(np.sqrt(variance)), lambda _: f"coefficients {formula}")


def fit_exponential_law(mixtures: Floats, values: Floats) -> Surface:
    """The data mixing law L(w) = c ± exp(Σ tᵢ wᵢ) (Ye et al. 2024, arXiv 2403.16952); its factor k is in the tᵢ.

    The law is one of losses: values on the scale of `Excess` are taken back, and errors count as they do on that scale.
    Fitted by least squares from two starts for each sign, exponents kept within ±6: without bounds few trials drive
    them to infinity. The covariance is that of the linearized law.
    """
    k, excess = mixtures.shape[1], np.expm1(values)
    weights = np.exp(-values)  # the scale's slope
    bounds = (np.array([-20.0, *[-6.0] * k]), np.array([20.0, *[6.0] * k]))
    fits = []
    for sign, start in ((1.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (-1.0, 1.0)):
        first = np.array([-sign, *[start] * k])

        def residual(theta: Floats, sign: float = sign) -> Floats:
            return np.asarray(weights * (theta[0] + sign * np.exp(mixtures @ theta[1:]) - excess))

        def jacobian(theta: Floats, sign: float = sign) -> Floats:
            return weights[:, None] * _law_gradient(theta, sign, mixtures)

        fits.append((least_squares(residual, first, jac=jacobian, bounds=bounds, max_nfev=100), sign))
    fit, sign = min(fits, key=lambda found: float(found[0].cost))
    theta = fit.x
    variance = _variance(fit.fun, len(theta))
    inverse = np.linalg.pinv(fit.jac.T @ fit.jac, rcond=1e-10)

    def predict(points: Floats) -> tuple[Floats, Floats]:
        grown = 1 + np.maximum(theta[0] + sign * np.exp(points @ theta[1:]), -_DEEPEST)
        rows = _law_gradient(theta, sign, points) / grown[:, None]
        return np.log(grown), variance * rows @ inverse @ rows.T

    def formula(scale: Excess) -> str:
        exponents = " ".join(f"{t + np.log(scale.unit):+.3g}" for t in theta[1:])
        return f"{scale.best + scale.unit * theta[0]:.4g} {'+' if sign > 0 else '−'} exp({exponents} · w)"

    return Surface("exponential law", predict, float(np.sqrt(variance)), formula)


def _law_gradient(theta: Floats, sign: float, mixtures: Floats) -> Floats:
    """Derivatives of c ± exp(t · w) by c and t, `(points, 1 + k)`."""
    grown = sign * np.exp(mixtures @ theta[1:])
    return np.hstack([np.ones((len(mixtures), 1)), grown[:, None] * mixtures])


def _variance(residual: Floats, num_parameters: int) -> float:
    return float(residual @ residual) / max(1, len(residual) - num_parameters)


def fit_trees(mixtures: Floats, values: Floats) -> Surface:
    """Boosted trees on histograms, as LightGBM grows them (scikit-learn); only their errors are of use."""
    trees = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.05, min_samples_leaf=5, random_state=0)
    trees.fit(mixtures, values)
    noise = float(np.std(values - trees.predict(mixtures)))

    def predict(points: Floats) -> tuple[Floats, Floats]:
        return trees.predict(points), noise**2 * np.eye(len(points))

    return Surface("boosted trees", predict, noise)


#: Families by name; the ones that can be chosen, which have a covariance.
FAMILIES: Mapping[str, Fit] = {
    "gaussian process": fit_gaussian_process,
    "quadratic": fit_quadratic,
    "exponential law": fit_exponential_law,
    "linear": fit_linear,
}


#: Parameters of each family over k parts; a process has none that more trials would have to pay for.
_NUM_PARAMETERS: Mapping[str, Callable[[int], int]] = {
    "gaussian process": lambda k: 0,
    "quadratic": lambda k: k * (k + 1) // 2,
    "exponential law": lambda k: k + 1,
    "linear": lambda k: k,
}


def _affordable(k: int, num_mixtures: int) -> dict[str, Fit]:
    """Families that leave 2 degrees of freedom when a mixture is left out: fitted to the hilt they know no error."""
    return {name: fit for name, fit in FAMILIES.items() if _NUM_PARAMETERS[name](k) + 3 <= num_mixtures}


@dataclass(frozen=True)
class CrossValidated:
    """How well a family predicts mixtures that it has not seen.

    Attributes:
        family: its name.
        rmse: root mean squared error over left-out mixtures, on the scale of `Excess`.
        r2: 1 − mean squared error / that of the mean of the others; 0 is no better than the mean.
    """

    family: str
    rmse: float
    r2: float


def cross_validate(mixtures: Floats, values: Floats, families: Mapping[str, Fit] | None = None) -> list[CrossValidated]:
    """Leave-one-mixture-out errors, best first; all seeds of a mixture are left out together.

    Args:
        mixtures: `(trials, k)`.
        values: `(trials,)`, on the scale of `Excess`.
        families: to compare; unset means those that so many mixtures can tell from noise.

    Raises:
        InputError: with fewer than 3 different mixtures.
    """
    groups = mixture_groups(mixtures)
    number = len(set(groups.tolist()))
    if number < 3:
        raise InputError(f"Surfaces need at least 3 different mixtures; found {number}.")
    chosen = dict(families or _affordable(mixtures.shape[1], number))
    if families is None and len(values) >= TREES_FROM:
        chosen["boosted trees"] = fit_trees
    constant = _left_out(lambda x, y: _constant(y), mixtures, values, groups)
    baseline = float(np.mean((constant - values) ** 2)) or 1.0
    rows = []
    for name, fit in chosen.items():
        error = float(np.mean((_left_out(fit, mixtures, values, groups) - values) ** 2))
        rows.append(CrossValidated(name, float(np.sqrt(error)), 1 - error / baseline))
    return sorted(rows, key=lambda row: row.rmse)


def _constant(values: Floats) -> Surface:
    mean = float(values.mean())
    return Surface("mean", lambda points: (np.full(len(points), mean), np.zeros((len(points), len(points)))), 0.0)


def _left_out(fit: Fit, mixtures: Floats, values: Floats, groups: NDArray[np.int64]) -> Floats:
    out = np.empty(len(values))
    for group in np.unique(groups):
        left = groups == group
        out[left] = fit(mixtures[~left], values[~left]).mean(mixtures[left])
    return out


def mixture_groups(mixtures: Floats) -> NDArray[np.int64]:
    """A number for each row, the same for the same mixture."""
    seen: list[Floats] = []
    groups = []
    for mixture in mixtures:
        index = next((i for i, other in enumerate(seen) if np.abs(other - mixture).max() < 1e3 * SAME), len(seen))
        if index == len(seen):
            seen.append(mixture)
        groups.append(index)
    return np.array(groups, dtype=np.int64)


def best_surface(mixtures: Floats, values: Floats) -> tuple[Surface, list[CrossValidated]]:
    """The family with the least error on left-out mixtures, fitted to all trials; and all errors."""
    table = cross_validate(mixtures, values)
    name = next(row.family for row in table if row.family in FAMILIES)
    return FAMILIES[name](mixtures, values), table


def expected_improvement(candidates: Floats, mixtures: Floats, losses: Floats, pending: Floats) -> Floats:
    """How far each candidate is expected to fall below the best loss so far, `(candidates,)`, ≥ 0.

    Args:
        candidates: `(candidates, k)`.
        mixtures: of finished trials, `(trials, k)`.
        losses: theirs, lower is better.
        pending: mixtures in training, `(running, k)`, which count as if they had given what is expected of them.
    """
    process = GaussianProcess.fit(mixtures, losses).believing(pending)
    best = process.best_mean()
    mean = process.mean(candidates)
    deviation = np.maximum(process.deviation(candidates), 1e-12 * (1 + abs(best)))
    z = (best - mean) / deviation
    return np.asarray((best - mean) * norm.cdf(z) + deviation * norm.pdf(z))


def scalarize(losses: Floats, *, rng: np.random.Generator) -> Floats:
    """One loss per trial from several, with random weights λ: ParEGO (Knowles 2006).

    Each objective is put on [0, 1]; the augmented Chebyshev norm max λf + 0.05 Σ λf is returned. A single objective
    stays as it is.

    Args:
        losses: `(trials, objectives)`, lower is better.
        rng: draws the weights, uniformly on the simplex.
    """
    if losses.shape[1] == 1:
        return losses[:, 0]
    spread = np.ptp(losses, axis=0)
    weighted = rng.dirichlet(np.ones(losses.shape[1])) * (losses - losses.min(axis=0)) / np.where(spread > 0, spread, 1)
    return np.asarray(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))
