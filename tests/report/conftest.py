import pytest

from harness.report.compare import compare
from tests.report.pages import TASKS
from tests.runs import drawn


@pytest.fixture(scope="package")
def runs():
    """A good, a middling and a bad model on the same items."""
    return [drawn(name, skill=skill) for name, skill in (("bad", 0.1), ("middling", 0.5), ("good", 0.9))]


@pytest.fixture(scope="package")
def comparison(runs):
    """Of these three; the first is the baseline."""
    return compare(runs, ("bad", "middling", "good"), tasks=TASKS, num_resamples=500)
