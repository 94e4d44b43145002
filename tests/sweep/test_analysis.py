import dataclasses

import numpy as np
import pytest

from harness.sweep.analysis import Optimum, corrected, pareto_front
from harness.sweep.comparison import SeedComparison
from harness.sweep.cross_validation import CrossValidated
from harness.sweep.laws import fit_linear
from harness.sweep.surface import LossScale


def test_the_front_of_three_points():
    assert pareto_front(np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 2.0]])) == [0, 1]


@pytest.mark.parametrize(
    ("r2", "rmse", "gain", "words"),
    [
        (0.9, 0.1, (0.5, 0.4, 0.6), "better than uniform on the surface; not confirmed by further seeds"),
        (0.9, 0.1, (0.5, -0.1, 1.1), "cannot be told from uniform"),
        (0.9, 0.6, (0.5, 0.4, 0.6), "cannot be told from uniform: the gain is within the error on left-out mixtures"),
        (0.0, 0.1, (0.5, 0.4, 0.6), "cannot be told from uniform: no surface predicts mixtures it has not seen"),
    ],
)
def test_what_is_said_without_further_seeds(r2, rmse, gain, words):
    surface = fit_linear(np.eye(2), np.array([1.0, 2.0]))
    optimum = Optimum(
        key="x", higher=False, scale=LossScale(1.0, 1.0), surface=surface,
        errors=[CrossValidated("linear", rmse, r2)], optima_by_family={}, mixture=(1.0, 0.0), value=1.0,
        value_ci95=(0.9, 1.1), shares_ci95=((0.0, 1.0), (0.0, 1.0)),
        indifferent=np.array([True]), uniform=1.5, gain=gain[0], gain_ci95=gain[1:], lead=gain[0],
        comparison=SeedComparison(None, None, None, (0, 1)),
    )  # fmt: skip
    assert optimum.verdict == words
    better = dataclasses.replace(optimum, comparison=SeedComparison(-1.0, (-1.5, -0.5), 0.01, (3, 3)))
    assert better.verdict == "better than uniform (p = 0.01, 3+ seeds each)"
    assert dataclasses.replace(better, higher=True).verdict == "worse than uniform (p = 0.01, 3+ seeds each)"
    other = dataclasses.replace(better, comparison=dataclasses.replace(better.comparison, p=0.04))
    told = corrected({"a": better, "b": other, "c": optimum})  # Holm: 2 · 0.01, and 0.04; one was not tested
    assert [told[key].comparison.corrected for key in told] == [0.02, 0.04]
    unsure = corrected({"a": other, "b": other})["b"]
    assert unsure.verdict == "cannot be told from uniform (p = 0.08, 3+ seeds each)"
