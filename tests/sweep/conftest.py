from contextlib import closing

import pytest

from harness.sweep.run import LaunchOptions, run_sweep
from harness.tracking.config import load_tracking_config
from tests.toy_sweep import toy_folder, toy_spec


@pytest.fixture(scope="session")
def toy(harness_home, tmp_path_factory):
    """The folder of a dozen spoken sentences and of the card of a tiny proxy."""
    return toy_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def spec(toy):
    """Two objectives, two sizes, and confirmation by two seeds."""
    return toy_spec(
        toy,
        objectives=["cra.t2t.gold_nll", "cra.u2t.gold_nll"],
        surfaces=["cra.u2t.pmi.candidate_ce"],
        sizes={"small": {}, "large": {"hidden_size": 32}},
        confirm=2,
        trials=5,
        tokens=256 * 20,
    )


@pytest.fixture(scope="session")
def swept(toy, spec):
    """The sweep of `spec`, run; tests leave it as it is."""
    lines: list[str] = []
    sweep = run_sweep(spec, toy / "sweep", load_tracking_config(), LaunchOptions(track=False), say=lines.append)
    assert any(line.startswith("trial 0 (design, seed 0): speech 33.3") for line in lines)
    with closing(sweep):
        yield sweep
