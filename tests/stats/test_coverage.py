"""Coverage and error rates in a few hundred simulated worlds: benchmarks/statistics.py in small."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def simulations():
    spec = importlib.util.spec_from_file_location("simulations", BENCHMARKS / "simulations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("points", [0, 4.5, 7])
def test_recipes_of_one_kind_are_seldom_told_apart(simulations, points):
    """p < 0.05 in 5 % of 120 worlds (± 4); with seed × item for items in over 20 % where seeds differ."""
    found = simulations.false_positives(120, 3, points)
    assert found["crossed"] <= 0.09
    assert (found["items"] > 0.18) == (points > 0)


def test_nor_by_macro_f1(simulations):
    assert simulations.false_positives(100, 3, 7, f1=True)["crossed"] <= 0.09


@pytest.mark.parametrize("points", [0, 7])
def test_intervals_over_seeds_hold_the_score_of_new_ones(simulations, points):
    """In 95 % of 120 worlds (± 4); over items alone in under 85 % where seeds differ by 7 points."""
    found = simulations.seed_coverage(120, 3, points)
    assert found["crossed"] >= 0.91
    assert (found["items"] < 0.85) == (points > 0)


@pytest.mark.parametrize(("p", "n", "clusters"), [(0.9, 100, 6), (0.99, 100, 24), (0.999, 400, 12)])
def test_shares_near_one_are_held(simulations, p, n, clusters):
    """Where a mistake is rare, the bootstrap alone holds the share in far fewer of 200 worlds."""
    found = simulations.share_coverage(200, p, n, clusters, 0.05)
    assert found["counted"] >= 0.95
    assert found["bootstrap"] < (0.95 if p == 0.9 else 0.75)


def test_two_factors_are_both_held(simulations):
    """In 95 % of 200 worlds (± 3); over voices alone in some 90 %, or 75 % where associations matter more."""
    found = simulations.crossed_coverage(200, of_voices=0.05, of_associations=0.3)
    assert 0.92 <= found["two-way"] <= 0.985
    assert found["by voice"] < 0.82


def test_a_difference_between_recipes_is_found_as_often_as_said(simulations):
    """80 % (± 7) of 100 worlds."""
    effect, power = simulations.seed_power(100, 5, 4.5)
    assert 8 < effect < 13
    assert power == pytest.approx(0.8, abs=0.1)


def test_scripts_of_the_folder_find_the_standard_library():
    """They lie beside a file that is called as one of its modules."""
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import statistics; print(statistics.fmean([1, 2]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("1.5", "")
