"""A Gaussian process over the shares of a mixture."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from harness.sweep.simplex import Floats
from harness.sweep.surface import Surface


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
        # scikit-learn predicts values with their noise; this is the surface without it.
        gram = latent(mixtures) + (noise + 1e-10) * np.eye(len(mixtures))
        self._factor = cho_factor(gram, lower=True)
        self._weights = cho_solve(self._factor, (values - self._center) / self._scale)

    @classmethod
    def fit(cls, mixtures: Floats, values: Floats) -> GaussianProcess:
        """Kernel and noise by maximum likelihood (scikit-learn), values standardized."""
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(0.5, (0.05, 5.0), nu=2.5) + WhiteKernel(1e-2, (1e-5, 1.0))
        scale = float(values.std()) or 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound is a valid fit
            fitted = GaussianProcessRegressor(kernel, random_state=0)
            fitted.fit(mixtures, (values - values.mean()) / scale)
        return cls(fitted.kernel_.k1, float(fitted.kernel_.k2.noise_level), mixtures, values)

    def with_pending(self, pending: Floats) -> GaussianProcess:
        """The process conditioned on each pending mixture's mean ("kriging believer", Ginsbourger 2010)."""
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
        """The lowest mean at a mixture it is conditioned on; the lowest value would be biased by noise."""
        return float(self.mean(self._mixtures).min())

    def surface(self) -> Surface:
        """As a surface."""
        length = getattr(getattr(self._latent, "k2", None), "length_scale", float("nan"))
        noise = self._scale * float(np.sqrt(self._noise))
        return Surface("gaussian process", self.predict, noise, lambda _: f"Matérn 5/2, length {length:.2g}")


def fit_gaussian_process(mixtures: Floats, values: Floats) -> Surface:
    """A `GaussianProcess` as a surface."""
    return GaussianProcess.fit(mixtures, values).surface()
