"""Why two runs differ."""

import math

import pytest

from harness.report.why import why, why_tables
from tests.report.pages import TASKS
from tests.runs import item, run


def test_why_names_what_differs_and_the_items_that_changed(runs):
    found = why(runs[0], runs[2], ("bad", "good"), tasks=TASKS, top=3)
    assert {(c.group, c.field) for c in found.changes} == {
        ("model", "model.card.name"),
        ("tokenizer", "model.card.tokenizers.text.vocab_size"),
    }
    assert len(found.items) == 3
    assert [i.change for i in found.items] == sorted((i.change for i in found.items), reverse=True)
    first = found.items[0]
    a, b = next(iter(first.values.values()))
    assert a != b
    assert first.texts["prompt"][0].startswith("prompt number")
    text = "\n".join(t.plain() for t in why_tables(found))
    assert "model.card.name" in text
    assert first.id in text


def test_changes_by_hand():
    """Ranks 1, 1, 4 against 1, 2, 4: only the middle item changes, by √3 root mean squares in every metric."""
    two = [
        run(m, [item(i, "u2t", r, group="s") for i, r in enumerate(ranks)])
        for m, ranks in (("a", (1, 1, 4)), ("b", (1, 2, 4)))
    ]
    found = why(*two, ("a", "b"), tasks=TASKS)
    assert [i.id for i in found.items] == ["u2t/utt-0001"]
    changed = [key for key, (x, y) in found.items[0].values.items() if x != y]
    assert found.items[0].change == pytest.approx(math.sqrt(3) * len(changed) / len(found.items[0].values))


def test_tasks_that_are_not_here_are_compared_by_the_numbers_of_their_items(runs):
    found = why(runs[0], runs[2], ("a", "b"), tasks={}, top=1)
    assert "ranks.pmi.rank" in found.items[0].values


def test_equal_runs_differ_in_nothing(runs):
    found = why(runs[0], runs[0], ("a", "b"), tasks=TASKS)
    assert (found.changes, found.items) == ((), ())
