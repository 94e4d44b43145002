"""Comparison of runs: pairing, correction, refusals."""

import csv
import io
import math
import random
from dataclasses import replace

import pytest

from harness.errors import InputError, UnknownNameError
from harness.report import comparison_tables, formats
from harness.report.compare import compare
from harness.results import Metric
from harness.stats import holm, paired_difference
from harness.tasks.cra import TASK, CraOptions
from tests.report.pages import KEY, TASKS, row
from tests.runs import drawn, item, run


def test_differences_by_hand():
    """Golds first in 1 of 4 and in 3 of 4; per item 0, +1, +1, 0: mean 0.5; 4 lone clusters, |sum| ≥ 2 in 8 of 16."""
    ranks = {"a": (1, 2, 2, 2), "b": (1, 1, 1, 2)}
    two = [run(m, [item(i, "u2t", r, group=f"s{i}") for i, r in enumerate(ranks[m])]) for m in "ab"]
    found = row(compare(two, ("a", "b"), tasks=TASKS, metrics=[KEY]))
    difference = found.entries[1].difference
    assert (difference.value, difference.n, difference.paired) == (0.5, 4, True)
    assert difference.p_value == difference.p_corrected == 0.5  # one test in the table: 4 of the 16 flips give ±2 each
    assert found.entries[0].difference is None
    assert [e.best for e in found.entries] == [False, True]
    assert found.chance == pytest.approx(1 / 20)


def test_differences_are_those_of_the_paired_test(runs, comparison):
    values = [TASK.item_values(r.tasks["cra"].items, CraOptions()) for r in runs]
    groups = {i.id: i.group for i in runs[0].tasks["cra"].items}
    for key in (KEY, "cra.t2u.sum.r_at_1"):
        ids = sorted(values[0][key])
        for place in (1, 2):
            a, b = ([v[key][i] for i in ids] for v in (values[place], values[0]))
            alone = paired_difference(
                a, b, [groups[i] for i in ids], seed=0, num_resamples=500,
                support=runs[0].metrics[key].support, alpha=0.05 / comparison.num_tests,
            )  # fmt: skip
            mine = row(comparison, key).entries[place].difference
            assert mine.value == pytest.approx(alone.difference)
            assert mine.ci95 == pytest.approx(alone.ci95)
            assert mine.p_value == pytest.approx(alone.p_value)
            assert mine.detectable == pytest.approx(alone.minimum_detectable_effect)


def test_p_values_are_corrected_over_the_whole_table(comparison):
    found = {(r.key, i): e.difference for r in comparison.rows for i, e in enumerate(r.entries) if e.difference}
    assert comparison.num_tests == len(found) == 2 * len(comparison.rows) == 16
    corrected = holm({str(k): d.p_value for k, d in found.items()})
    assert {str(k): d.p_corrected for k, d in found.items()} == corrected
    assert row(comparison).entries[2].difference.significant


def test_the_baseline_is_the_one_asked_for(runs):
    found = compare(runs, ("bad", "middling", "good"), tasks=TASKS, baseline=2, num_resamples=100)
    assert row(found).entries[2].difference is None
    assert row(found).entries[0].difference.value < 0


def test_the_best_follows_the_direction_and_may_be_shared(runs):
    found = compare([*runs, runs[2]], ("a", "b", "c", "d"), tasks=TASKS, metrics=["cra.u2t.gold_nll"], num_resamples=9)
    assert [e.best for e in row(found, "cra.u2t.gold_nll").entries] == [False, False, True, True]


def test_medians_are_compared_by_their_own_intervals(runs):
    """Zou & Donner: d ∓ √((a − l_a)² + (u_b − b)²)."""
    found = compare(runs[:2], ("a", "b"), tasks=TASKS, metrics=["cra.u2t.pmi.median_rank"])
    b, a = (r.metrics["cra.u2t.pmi.median_rank"] for r in runs[:2])
    difference = found.rows[0].entries[1].difference
    assert (difference.paired, difference.p_value, found.num_tests) == (False, None, 0)
    low = a.value - b.value - math.hypot(a.value - a.ci95[0], b.ci95[1] - b.value)
    assert difference.ci95[0] == pytest.approx(low)


def test_without_the_task_nothing_is_paired(runs):
    found = compare(runs, ("a", "b", "c"), tasks={}, metrics=[KEY])
    assert not row(found).entries[1].difference.paired
    assert "~ unpaired" in comparison_tables.comparison_table(found).plain()


def test_failed_items_leave_the_pair(runs):
    items = list(runs[1].tasks["cra"].items)
    items[3] = replace(items[3], output=None, scores={}, failed="too long")
    found = compare([runs[0], run("limping", items)], ("a", "b"), tasks=TASKS, num_resamples=100)
    assert row(found).entries[1].difference.n == 29
    assert row(found, "cra.t2u.pmi.r_at_1").entries[1].difference.n == 30


def test_the_order_of_items_changes_nothing(runs, comparison):
    shuffled = []
    for r in runs:
        items = list(r.tasks["cra"].items)
        random.Random(3).shuffle(items)
        shuffled.append(replace(r, tasks={"cra": replace(r.tasks["cra"], items=items)}))
    assert compare(shuffled, ("bad", "middling", "good"), tasks=TASKS, num_resamples=500).rows == comparison.rows


def test_other_protocols_are_refused_with_their_fields():
    options = CraOptions(directions=("u2t", "t2u"), negatives="same_speaker")
    two = [drawn("a", skill=0.5), drawn("b", skill=0.5, seed=1, options=options)]
    with pytest.raises(
        InputError,
        match=r"have the protocol of a:\n"
        r"  b: cra\.options\.negatives is same_speaker, not random; cra\.seed is 1, not 0",
    ):
        compare(two, ("a", "b"), tasks=TASKS)


def test_force_marks_them_and_pairs_only_the_same_items():
    other_items = drawn("b", skill=0.9, examples="others")
    other_options = drawn("c", skill=0.9, options=CraOptions(directions=("u2t", "t2u"), negatives="same_speaker"))
    three = [drawn("a", skill=0.5), other_items, other_options]
    found = compare(three, ("a", "b", "c"), tasks=TASKS, force=True, num_resamples=100)
    assert [e.difference.paired for e in row(found).entries[1:]] == [False, True]
    assert not any(e.best for e in row(found).entries)  # only one run answers the baseline's question
    text = comparison_tables.comparison_table(found).plain()
    assert "b †" in text
    assert "† b has another protocol: cra.examples is others, not utterances" in text


def test_one_run_is_no_comparison(runs):
    with pytest.raises(InputError, match="at least two runs; found 1"):
        compare(runs[:1], ("a",), tasks=TASKS)


def test_an_unknown_metric_names_the_nearest(runs):
    with pytest.raises(
        UnknownNameError, match=r"no metric called 'cra\.u2t\.pmi\.mr'.*nearest is 'cra\.u2t\.pmi\.mrr'.*\d more"
    ) as caught:
        compare(runs, ("a", "b", "c"), tasks=TASKS, metrics=["cra.u2t.pmi.mr"])
    assert len(str(caught.value)) < 300  # of many metrics it tells the nearest


def test_patterns_choose_metrics(runs):
    found = compare(runs, ("a", "b", "c"), tasks=TASKS, metrics=["cra.*.pmi.mrr", KEY], num_resamples=50)
    assert [r.key for r in found.rows] == ["cra.u2t.pmi.mrr", "cra.t2u.pmi.mrr", KEY]


def test_a_metric_that_one_run_lacks_is_left_open(runs):
    only = run("one-way", [i for i in runs[0].tasks["cra"].items if i.extra["direction"] == "u2t"])
    found = compare([runs[0], only], ("a", "b"), tasks=TASKS, num_resamples=50, force=True)
    assert row(found, "cra.t2u.pmi.r_at_1").entries[1] is None
    assert (
        " - " in comparison_tables.comparison_table(found).plain()
        or "  -" in comparison_tables.comparison_table(found).plain()
    )


def test_a_frame_has_the_rows_of_the_csv(comparison):
    frame = comparison.to_frame()
    rows = list(csv.DictReader(io.StringIO(formats.comparison_csv(comparison))))
    assert list(frame.columns) == list(rows[0])
    assert frame["metric"].tolist() == [r["metric"] for r in rows]
    assert frame["value"].tolist() == [float(r["value"]) for r in rows]
    assert str(comparison) == comparison_tables.comparison_table(comparison).plain()


def test_labels_and_tasks_have_defaults(runs):
    found = compare(runs[:2], num_resamples=100)
    assert found.labels == ("bad", "middling")
    assert found == compare(runs[:2], ("bad", "middling"), tasks=TASKS, num_resamples=100)


def test_a_metric_without_an_interval_has_a_difference_without(runs):
    bare = [
        replace(r, tasks={"cra": replace(r.tasks["cra"], metrics={"cra.x.y": Metric(v, 3, None)})})
        for r, v in zip(runs, (1.0, 2.0, 4.0), strict=True)
    ]
    found = compare(bare, ("a", "b", "c"), tasks={})
    assert [e.difference.ci95 for e in found.rows[0].entries[1:]] == [None, None]
    assert not any(e.best for e in found.rows[0].entries)
