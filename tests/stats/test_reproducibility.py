"""The same numbers in any order of items and in another process."""

import os
import subprocess
import sys

import numpy as np
import pytest

from harness.stats import bootstrap_ci

NUMBERS = """
import numpy as np
from harness.stats import bootstrap_ci, minimum_detectable_effect, seeded_difference
from harness.stats import paired_difference, paired_differences
draw = np.random.default_rng(7)
values, order = draw.random(300), np.arange(300)
if SHUFFLE:
    order = draw.permutation(300)
speakers = np.array([f"s{i % 15}" for i in range(300)])[order].tolist()
stories = np.array([f"t{i // 15}" for i in range(300)])[order].tolist()
values, other = values[order], np.roll(values, 1)[order]
small = dict(seed=1, num_resamples=500)
print([
    bootstrap_ci(values, **small),
    bootstrap_ci(values, speakers, **small),
    bootstrap_ci(values, speakers, crossed=stories, **small),
    bootstrap_ci(values, speakers, statistic="median", **small),
    paired_difference(values, other, **small),
    paired_difference(values, other, speakers, crossed=stories, **small),
    paired_differences(np.column_stack([values - other, values]), speakers, **small),
    minimum_detectable_effect(values - other, speakers, crossed=stories),
    seeded_difference(np.column_stack([values, values**2]), np.column_stack([other, other**2]), speakers, seed=0),
])
"""


def numbers(*, shuffle, capsys):
    exec(compile(f"SHUFFLE = {shuffle}\n{NUMBERS}", "numbers", "exec"), {})
    return capsys.readouterr().out


def test_order_of_items_changes_nothing(capsys):
    assert numbers(shuffle=True, capsys=capsys) == numbers(shuffle=False, capsys=capsys)


def test_another_process_gives_the_same_numbers(capsys):
    done = subprocess.run(
        [sys.executable, "-c", f"SHUFFLE = False\n{NUMBERS}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "123"},
    )
    assert done.stdout == numbers(shuffle=False, capsys=capsys)


def test_another_seed_gives_other_bounds_around_the_same_value():
    values = np.random.default_rng(0).random(50)
    one, two = bootstrap_ci(values, seed=1), bootstrap_ci(values, seed=2)
    assert one.value == two.value
    assert one.bounds != two.bounds
    assert one.bounds == pytest.approx(two.bounds, abs=0.01)
