"""Comparison of runs: pairing, correction, refusals, formats, why, leaderboards."""

import csv
import io
import json
import math
import random
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from harness.errors import InputError, UnknownNameError
from harness.report import comparison_tables, formats
from harness.report.compare import compare
from harness.report.labels import find_baseline, labels_of, registered_tasks
from harness.report.leaderboard import board_blocks, board_table, leaderboard
from harness.report.why import why, why_tables
from harness.results import Metric
from harness.stats import holm, paired_difference
from harness.tasks.cra import TASK, CraOptions
from tests.runs import drawn, item, run, written

TASKS = {"cra": TASK}
KEY = "cra.u2t.pmi.r_at_1"


@pytest.fixture(scope="module")
def runs():
    """A good, a middling and a bad model on the same items."""
    return [drawn(name, skill=skill) for name, skill in (("bad", 0.1), ("middling", 0.5), ("good", 0.9))]


@pytest.fixture(scope="module")
def comparison(runs):
    return compare(runs, ("bad", "middling", "good"), tasks=TASKS, num_resamples=500)


@pytest.fixture(scope="module")
def folders(runs, tmp_path_factory):
    base = tmp_path_factory.mktemp("runs")
    return [str(written(r, base / r.model["name"])) for r in runs]


def row(comparison, key=KEY):
    return next(r for r in comparison.rows if r.key == key)


# ----------------------------------------------------------------------------------------------------- differences


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
            alone = paired_difference(a, b, [groups[i] for i in ids], seed=0, num_resamples=500)
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


def test_another_version_of_the_task_is_not_asked_for_values(runs):
    old = [
        replace(r, tasks={"cra": replace(r.tasks["cra"], protocol={**r.tasks["cra"].protocol, "version": 0})})
        for r in runs
    ]
    assert not row(compare(old, ("a", "b", "c"), tasks=TASKS)).entries[1].difference.paired


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


def test_items_that_were_changed_are_noticed(runs):
    items = [*runs[0].tasks["cra"].items[:-1]]
    altered = replace(runs[0], tasks={"cra": replace(runs[0].tasks["cra"], items=items)})
    with pytest.raises(InputError, match=r"items of run bad-\w+ average to .* but results\.json says"):
        compare([altered, runs[1]], ("a", "b"), tasks=TASKS)


# ------------------------------------------------------------------------------------------------- what is refused


def test_other_protocols_are_refused_with_their_fields():
    options = CraOptions(directions=("u2t", "t2u"), negatives="same_speaker")
    two = [drawn("a", skill=0.5), drawn("b", skill=0.5, seed=1, options=options)]
    with pytest.raises(
        InputError,
        match=r"same question as a:\n  b: cra\.options\.negatives is same_speaker, not random; cra\.seed is 1, not 0",
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


# --------------------------------------------------------------------------------------------------------- formats


def test_the_table_has_two_lines_a_metric(comparison):
    lines = comparison_tables.comparison_table(comparison).plain().splitlines()
    assert lines[0] == "3 runs, 8 metrics; differences to bad"
    place = next(i for i, line in enumerate(lines) if line.startswith(KEY))
    assert re.search(r"high +0\.050 +0\.\d{3} \[", lines[place])
    assert lines[place].rstrip().endswith("]^")
    assert lines[place + 1].count("Δ +") == 2
    assert "p < 0.001*" in lines[place + 1] or "p = 0.0" in lines[place + 1]
    assert any("Holm's method over the table's 16 tests" in line for line in lines)


def test_a_narrow_terminal_gets_several_tables(comparison):
    blocks = comparison_tables.comparison_blocks(comparison, 80)
    assert [b.columns[3] for b in blocks] == ["bad (baseline)", "middling", "good"]
    assert blocks[-1].notes
    assert not blocks[0].notes
    assert comparison_tables.comparison_blocks(comparison, 10_000) == [comparison_tables.comparison_table(comparison)]


def test_markdown_has_the_best_in_bold(comparison):
    lines = formats.comparison_markdown(comparison).splitlines()
    assert lines[2] == "| metric | better | chance | bad (baseline) | middling | good |"
    line = next(line for line in lines if KEY in line)
    assert re.search(r"\| \*\*0\.\d+\*\* \[[^|]*<br>Δ \+0\.\d+ [^|]*\\\* \|$", line)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_latex_escapes_and_balances(comparison):
    text = formats.comparison_latex(comparison)
    assert r"\texttt{cra.u2t.pmi.r\_at\_1} & $\uparrow$ & 0.050" in text
    assert r"\textbf{" in text
    assert text.count("{") == text.count("}")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert {line.count("&") for line in body} == {5}
    assert formats.tex("a_b & 50 % ~ <x>") == r"a\_b \& 50 \% $\sim$ $<$x$>$"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles(comparison, tmp_path):
    table = formats.comparison_latex(comparison)
    page = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{table}\end{{document}}"
    (tmp_path / "t.tex").write_text(page, "utf-8")
    subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )


def test_csv_has_a_line_for_each_metric_of_each_run(comparison):
    rows = list(csv.DictReader(io.StringIO(formats.comparison_csv(comparison))))
    assert len(rows) == 8 * 3
    good = next(r for r in rows if r["metric"] == KEY and r["run"] == "good")
    difference = row(comparison).entries[2].difference
    assert float(good["difference"]) == difference.value
    assert (good["paired"], good["best"], good["common_items"]) == ("True", "True", "30")
    bad = next(r for r in rows if r["metric"] == KEY and r["run"] == "bad")
    assert (bad["baseline"], bad["difference"]) == ("True", "")


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


def test_json_holds_it_all(comparison):
    data = json.loads(json.dumps(comparison_tables.comparison_data(comparison), allow_nan=False))
    assert data["correction"] == {"method": "Holm", "tests": 16}
    assert data["baseline"] == "bad"
    entry = next(m for m in data["metrics"] if m["key"] == KEY)["runs"]["good"]
    assert entry["best"] is True
    assert entry["difference"]["paired"] is True


# ------------------------------------------------------------------------------------------------------------- why


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


# ----------------------------------------------------------------------------------------------------- leaderboard


def test_the_leaderboard_keeps_the_latest_of_each_model_and_protocol(runs):
    early, late = drawn("good", skill=0.2), runs[2]
    other = drawn("good", skill=0.3, seed=7)
    boards = leaderboard([(late, 20.0), (early, 10.0), (runs[0], 5.0), (other, 30.0)], tasks=TASKS, by=KEY)
    assert sorted(len(b.standings) for b in boards) == [1, 2]
    board = next(b for b in boards if len(b.standings) == 2)
    assert [(s.model, s.when) for s in board.standings] == [("good", 20.0), ("bad", 5.0)]
    assert "model:" not in board.signature
    assert "|seed:0" in board.signature
    plain = board_table(board).plain()
    assert plain.index("good") < plain.index("bad")
    assert formats.board_markdown(board).count("\n| ") == 4


def test_on_a_narrow_terminal_a_leaderboard_names_the_models_in_each_of_its_tables(runs):
    [board] = leaderboard([(r, float(i)) for i, r in enumerate(runs)], tasks=TASKS, by=KEY)
    table, blocks = board_table(board), board_blocks(board, 80)
    assert len(blocks) > 1
    assert all(b.columns[:2] == ("#", "model") for b in blocks)
    assert tuple(c for b in blocks for c in b.columns[2:]) == table.columns[2:]
    assert [[row[:2] for row in b.rows] for b in blocks] == [[row[:2] for row in table.rows]] * len(blocks)
    assert [b.columns[i] for b in blocks for i in sorted(b.left) if i > 1] == ["run"]
    assert board_blocks(board, 10_000) == [table]


def test_a_lower_metric_ranks_the_other_way(runs):
    [board] = leaderboard([(r, float(i)) for i, r in enumerate(runs)], tasks=TASKS, by="cra.u2t.gold_nll")
    assert [s.model for s in board.standings] == ["good", "middling", "bad"]
    with pytest.raises(UnknownNameError, match="no metric called 'nosuch'"):
        leaderboard([(runs[0], 0.0)], tasks=TASKS, by="nosuch")


# --------------------------------------------------------------------------------------------------- registered tasks


def test_registered_tasks_are_those_of_the_runs(runs):
    assert list(registered_tasks(runs)) == ["cra"]
    stranger = replace(runs[0], tasks={"no_such_task": runs[0].tasks["cra"]})
    assert registered_tasks([stranger]) == {}


def test_a_metric_without_an_interval_has_a_difference_without(runs):
    bare = [
        replace(r, tasks={"cra": replace(r.tasks["cra"], metrics={"cra.x.y": Metric(v, 3, None)})})
        for r, v in zip(runs, (1.0, 2.0, 4.0), strict=True)
    ]
    found = compare(bare, ("a", "b", "c"), tasks={})
    assert [e.difference.ci95 for e in found.rows[0].entries[1:]] == [None, None]
    assert not any(e.best for e in found.rows[0].entries)
