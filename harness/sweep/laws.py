"""Parametric surfaces: Scheffé's polynomials and the exponential data mixing law."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import least_squares

from harness.sweep.simplex import Floats
from harness.sweep.surface import DEEPEST, LossScale, Surface


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

    The law is one of losses: values on the scale of `LossScale` are mapped back, and errors are weighted as on that
    scale. Fitted by least squares from two starts for each sign, exponents bounded by ±6: with few trials,
    unbounded ones would go to infinity. The covariance is that of the linearized law.
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
        grown = 1 + np.maximum(theta[0] + sign * np.exp(points @ theta[1:]), -DEEPEST)
        rows = _law_gradient(theta, sign, points) / grown[:, None]
        return np.log(grown), variance * rows @ inverse @ rows.T

    def formula(scale: LossScale) -> str:
        exponents = " ".join(f"{t + np.log(scale.unit):+.3g}" for t in theta[1:])
        return f"{scale.best + scale.unit * theta[0]:.4g} {'+' if sign > 0 else '−'} exp({exponents} · w)"

    return Surface("exponential law", predict, float(np.sqrt(variance)), formula)


def _law_gradient(theta: Floats, sign: float, mixtures: Floats) -> Floats:
    """Derivatives of c ± exp(t · w) by c and t, `(points, 1 + k)`."""
    grown = sign * np.exp(mixtures @ theta[1:])
    return np.hstack([np.ones((len(mixtures), 1)), grown[:, None] * mixtures])


def _variance(residual: Floats, num_parameters: int) -> float:
    return float(residual @ residual) / max(1, len(residual) - num_parameters)
