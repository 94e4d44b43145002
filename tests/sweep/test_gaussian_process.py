import numpy as np
import pytest

from harness.sweep.gaussian_process import GaussianProcess, fit_gaussian_process
from harness.sweep.simplex import scheffe_design

DESIGN = scheffe_design(3)  # 10 points


def bowl(w):
    return 3 * ((w - [0.2, 0.3, 0.5]) ** 2).sum(axis=1)


def test_the_process_has_no_doubt_where_it_was_told_and_much_elsewhere():
    process = GaussianProcess.fit(DESIGN, bowl(DESIGN))
    between = np.array([[0.8, 0.15, 0.05]])
    assert process.deviation(DESIGN).max() < process.deviation(between)[0]
    assert np.allclose(process.mean(DESIGN), bowl(DESIGN), atol=0.05)
    mean, covariance = fit_gaussian_process(DESIGN, bowl(DESIGN)).predict(between)
    assert covariance[0, 0] == pytest.approx(process.deviation(between)[0] ** 2)
    assert mean[0] == pytest.approx(process.mean(between)[0])
