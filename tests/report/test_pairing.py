"""Runs paired over training seeds: what seeds can tell, what one seed cannot."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from harness.config import digest, plain
from harness.corpora.manifest import SENTIMENTS
from harness.report import comparison_tables, formats
from harness.report.compare import compare
from harness.report.tables import results_table
from harness.results import Item, RunResult, TaskResult
from harness.stats import seeded_difference
from harness.task import task_registry
from tests.report.pages import TASKS
from tests.runs import item, run

SA = task_registry().load("slue_sa")
CELL = "train_text.test_text"
ACCURACY, F1 = (f"slue_sa.{CELL}.{m}" for m in ("accuracy", "macro_f1"))
GOLD = [SENTIMENTS[k % 3] for k in range(90)]


def tuned(model, skills, *, groups=18, draw=0):
    """A run of SLUE-SA: with each seed a share of 90 labels right, from 18 speakers; and the majority baseline."""
    dice, items = random.Random(f"{model} {draw}"), []
    for cell, seeds in ((CELL, skills), ("majority.test", [None])):
        for seed, skill in enumerate(seeds):
            for k, gold in enumerate(GOLD):
                right = skill is not None and dice.random() < skill
                output = gold if right else "Neutral" if skill is None else SENTIMENTS[(k + dice.randint(1, 2)) % 3]
                extra = {"cell": cell, "seed": seed, "utterance": f"u{k:02}"}
                score = {"score": 100.0 * (output == gold)}
                items.append(Item(f"{cell}/{seed}/u{k:02}", f"s{k % groups}", None, gold, output, score, None, extra))
    options = SA.Options(seeds=len(skills))
    protocol = {
        "task": "slue_sa", "version": SA.info.version, "options": plain(options), "corpus": "demo",
        "corpus_digest": "0092", "split": "test", "n": 90, "examples": "utterances", "seed": 0,
    }  # fmt: skip
    metrics = SA.summarize(items, options, seed=0)
    task = TaskResult("slue_sa", f"slue_sa|model:{model}", metrics, len(items), len(items), 0, protocol, items)
    about = {"name": model, "fingerprint": digest(model)}
    return RunResult(f"{model}-1", about, {"name": "demo", "split": "test"}, {"slue_sa": task}, {})


def difference(a, b, key, **more):
    found = compare([a, b], ("a", "b"), tasks={"slue_sa": SA}, metrics=[key], **more)
    return found, found.rows[0].entries[1].difference


def columns(result, key):
    """Values of items (n, S) by hand."""
    values = {
        **SA.item_values(result.tasks["slue_sa"].items, None),
        **SA.linearized(result.tasks["slue_sa"].items, None),
    }
    seeds = sorted({i.split("/")[1] for i in values[key]})
    return np.array([[values[key][f"{CELL}/{s}/u{k:02}"] for s in seeds] for k in range(90)])


@pytest.mark.parametrize("key", [ACCURACY, F1])
def test_seeds_are_a_factor_and_not_items(key):
    """Means, and F1 linearized, by `seeded_difference` of what the items hold."""
    a, b = tuned("a", [0.6, 0.7, 0.8]), tuned("b", [0.7, 0.8, 0.9])
    found, mine = difference(a, b, key)
    groups = [f"s{k % 18}" for k in range(90)]
    alone = seeded_difference(columns(b, key), columns(a, key), groups, seed=0, support=(0, 100))
    assert mine.value == pytest.approx(b.metrics[key].value - a.metrics[key].value)
    assert (mine.paired, mine.n, mine.test, mine.given) == (True, 90, "t", ())
    assert (mine.p_value, mine.ci95) == (pytest.approx(alone.p_value), pytest.approx(alone.ci95))
    assert mine.detectable == pytest.approx(alone.minimum_detectable_effect)
    assert "p of the t test over seeds or crossed groups" in str(found)
    assert "each checkpoint is one pretraining" in str(found)


def test_seeds_that_differ_as_much_as_recipes_give_no_verdict_and_those_that_agree_do():
    spread = difference(tuned("a", [0.5, 0.65, 0.8]), tuned("b", [0.65, 0.8, 0.95]), ACCURACY)[1]
    steady = difference(tuned("a", [0.65] * 3), tuned("b", [0.9] * 3), ACCURACY)[1]
    assert not spread.significant
    assert steady.significant


def test_recipes_of_one_seed_get_a_test_of_their_weights_and_no_verdict():
    found, mine = difference(tuned("a", [0.3]), tuned("b", [0.95]), ACCURACY)
    assert (mine.test, mine.given) == ("sign-flip", ("weights",))
    assert mine.p_corrected < 0.001
    assert not mine.significant
    text = str(found)
    assert "‡ these weights only: trained with one seed, no verdict on recipes" in text
    assert "]‡ p < 0.001\n" in text.replace(" \n", "\n")
    assert "*" not in text.split("\n")[3]
    record = comparison_tables.comparison_records(found)[1]
    assert (record["test"], record["given"]) == ("sign-flip", "weights")
    assert json.loads(json.dumps(comparison_tables.comparison_data(found)))["metrics"][0]["runs"]["b"]["difference"][
        "given"
    ] == ["weights"]
    assert "]‡" in formats.comparison_markdown(found)
    assert r"]\ddag{}" in formats.comparison_latex(found)


def test_tables_of_one_run_say_what_an_interval_takes_as_it_is():
    few = tuned("a", [0.6, 0.7], groups=4)
    table = results_table("slue_sa", [few], SA.info).plain()
    assert "]§" in table
    assert "§ these voices: fewer than 6" in table
    one = results_table("slue_sa", [tuned("a", [0.6])], SA.info).plain()
    assert "]‡" in one.splitlines()[2]
    assert "]‡" not in next(line for line in one.splitlines() if "majority" in line)
    assert "‡ these weights only" in one
    assert "‡" not in results_table("slue_sa", [tuned("a", [0.6, 0.7])], SA.info).plain()


def test_baselines_have_no_seeds():
    key = "slue_sa.majority.test.accuracy"
    mine = difference(tuned("a", [0.6, 0.7]), tuned("b", [0.6, 0.7]), key)[1]
    assert (mine.value, mine.test, mine.given) == (0.0, "sign-flip", ())
    assert mine.ci95[0] < 0 < mine.ci95[1]


def test_utterances_that_a_seed_lacks_are_left_out():
    a, b = tuned("a", [0.6, 0.7]), tuned("b", [0.6, 0.7])
    task = b.tasks["slue_sa"]
    failed = f"{CELL}/1/u07"
    items = [replace(i, output=None, scores={}, failed="too long") if i.id == failed else i for i in task.items]
    metrics = SA.summarize([i for i in items if not i.failed], SA.Options(seeds=2), seed=0)
    limping = replace(b, tasks={"slue_sa": replace(task, items=items, metrics=metrics)})
    assert [difference(a, limping, key)[1].n for key in (F1, ACCURACY)] == [89, 89]


def test_groups_of_two_factors_get_the_two_way_test():
    """Items of CRA by 6 voices × 6 associations."""
    two = [
        run(m, [item(i, "u2t", r, group=(f"v{i % 6}", f"a{i // 6}")) for i, r in enumerate(ranks)])
        for m, ranks in (("a", [1 + k % 3 for k in range(36)]), ("b", [1 + k % 2 for k in range(36)]))
    ]
    mine = compare(two, ("a", "b"), tasks=TASKS, metrics=["cra.u2t.pmi.mrr"]).rows[0].entries[1].difference
    assert (mine.test, mine.n, mine.significant) == ("t", 36, mine.p_value < 0.05)


def test_what_can_never_be_rejected_is_not_said_to_be_detectable():
    """Six speakers: p is never below 1/32, which 8 tests in a table multiply."""
    dice = random.Random(0)
    two = [
        run(m, [item(i, d, dice.randint(1, most), group=f"s{i % 6}") for d in ("u2t", "t2u") for i in range(30)])
        for m, most in (("a", 3), ("b", 9))
    ]
    one = compare(two, ("a", "b"), tasks=TASKS, metrics=["cra.u2t.gold_nll"]).rows[0].entries[1].difference
    many = compare(two, ("a", "b"), tasks=TASKS)
    assert one.detectable is not None
    assert [e.difference.detectable for r in many.rows for e in r.entries[1:] if e.difference.paired] == [None] * 8
