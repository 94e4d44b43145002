"""What items add to metrics."""

from dataclasses import replace

import pytest

from harness.errors import InputError
from harness.report.compare import compare
from tests.report.pages import TASKS, row


def test_items_that_were_changed_are_noticed(runs):
    items = [*runs[0].tasks["cra"].items[:-1]]
    altered = replace(runs[0], tasks={"cra": replace(runs[0].tasks["cra"], items=items)})
    with pytest.raises(InputError, match=r"items of run bad-\w+ average to .* but results\.json says"):
        compare([altered, runs[1]], ("a", "b"), tasks=TASKS)


def test_another_version_of_the_task_is_not_asked_for_values(runs):
    old = [
        replace(r, tasks={"cra": replace(r.tasks["cra"], protocol={**r.tasks["cra"].protocol, "version": 0})})
        for r in runs
    ]
    assert not row(compare(old, ("a", "b", "c"), tasks=TASKS)).entries[1].difference.paired
