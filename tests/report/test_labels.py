"""What runs are called."""

from dataclasses import replace

import pytest

from harness.errors import InputError, UnknownNameError
from harness.report.labels import find_baseline, labels_of, registered_tasks


def test_labels_tell_runs_apart(runs):
    assert labels_of(runs, ["x/1", "x/2", "x/3"]) == ("bad", "middling", "good")
    assert labels_of([runs[0], runs[0], runs[1]], ["x/1", "x/2", "x/3"]) == ("bad (1)", "bad (2)", "middling")
    assert labels_of([runs[0], runs[0]], ["x/1", "y/1"]) == ("bad (1) #1", "bad (1) #2")


def test_the_baseline_goes_by_folder_model_or_id(runs):
    names = ["x/1", "x/2", "x/3"]
    for wanted in ("x/2", "x/2/", "middling", runs[1].run_id, "2"):
        assert find_baseline(wanted, runs, names) == 1
    assert find_baseline(None, runs, names) == 0
    with pytest.raises(UnknownNameError, match=r"'midling'.*nearest is 'middling'"):
        find_baseline("midling", runs, names)
    with pytest.raises(InputError, match="'bad' is the name of 2 of these runs"):
        find_baseline("bad", [runs[0], runs[0]], names[:2])


def test_registered_tasks_are_those_of_the_runs(runs):
    assert list(registered_tasks(runs)) == ["cra"]
    stranger = replace(runs[0], tasks={"no_such_task": runs[0].tasks["cra"]})
    assert registered_tasks([stranger]) == {}
