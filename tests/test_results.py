import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ResultsError
from harness.results import (
    Item,
    Metric,
    RunResult,
    TaskResult,
    attachments_folder,
    headline,
    read_items,
    read_results,
    signature,
    summary,
    write_items,
    write_results,
)
from tests.characters import CHARACTERS

ITEMS = [Item("a", group="ann", output="naïve", scores={"rank": 1.5}), Item("b", failed="too long")]
METRICS = {
    "cra.u2t.sum.mrr": Metric(0.25, 1, True, (0.1, 0.4), 0.05),
    "cra.u2t.gold_nll": Metric(3.5, 1, False),
    "cra.u2t.tokens": Metric(7.0, 1, None),
}
TASK = TaskResult("cra", "cra|v1|seed:0", METRICS, 2, 1, 1, {"options": {"n": 2}}, ITEMS, {"tokens": 12})
RUN = RunResult(
    "tiny-3fa9",
    {"name": "tiny", "fingerprint": "9c1e"},
    {"name": "demo", "split": "test"},
    {"cra": TASK},
    {"run": {"seed": 0}, "versions": {"python": "3.11"}},
)


def with_items(items):
    return replace(RUN, tasks={"cra": replace(TASK, items=items)})


def test_a_run_comes_back_from_its_folder(tmp_path):
    write_results(RUN, tmp_path / "out")
    assert read_results(tmp_path / "out") == RUN


def test_a_folder_holds_items_protocol_and_summary(tmp_path):
    write_results(RUN, tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == {
        "items/cra.jsonl",
        "protocol.json",
        "results.json",
    }
    assert json.loads((tmp_path / "results.json").read_text("utf-8")) == summary(RUN)
    assert "naïve" in (tmp_path / "items" / "cra.jsonl").read_text("utf-8")


def test_files_of_items_replace_those_of_an_earlier_run(tmp_path):
    for name in ("old", "new"):
        written = replace(TASK, files={f"{attachments_folder('cra')}/{name}.flac": name.encode()})
        write_results(replace(RUN, tasks={"cra": written}), tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "items" / "cra").iterdir()} == {"new.flac": b"new"}
    assert read_results(tmp_path) == RUN  # they are not read back


def test_the_same_run_is_written_as_the_same_bytes(tmp_path):
    for name in "ab":
        write_results(RUN, tmp_path / name)
    for file in ("items/cra.jsonl", "protocol.json", "results.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_metrics_of_all_tasks_stand_together():
    other = replace(TASK, task="pelm", metrics={"pelm.u2u.ppl": Metric(9.0, 3, False)})
    assert list(replace(RUN, tasks={"pelm": other, "cra": TASK}).metrics) == ["pelm.u2u.ppl", *METRICS]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_metric_is_finite(value):
    with pytest.raises(ResultsError, match=rf"must be a finite number; found {value} over 4 items"):
        Metric(value, 4, True)


@pytest.mark.parametrize(
    ("ci95", "chance"), [((float("nan"), 1.0), None), ((0.0, float("inf")), 0.5), (None, float("nan"))]
)
def test_so_are_its_interval_and_chance(ci95, chance):
    with pytest.raises(ResultsError, match="Interval and chance must be finite"):
        Metric(0.5, 4, True, ci95, chance)


@pytest.mark.parametrize("bad", [float("nan"), [1.0, float("inf")]])
def test_an_item_without_a_number_is_refused_naming_the_file(tmp_path, bad):
    with pytest.raises(ResultsError, match=r"items/cra.jsonl would hold NaN or infinity.*failed item"):
        write_results(with_items([Item("a", scores={"score": bad})]), tmp_path)


def test_a_failing_write_leaves_the_former_run_as_it_was(tmp_path):
    write_results(RUN, tmp_path)
    with pytest.raises(ResultsError, match="NaN"):
        write_results(with_items([*ITEMS, Item("c", scores={"score": float("nan")})]), tmp_path)
    assert read_results(tmp_path) == RUN


def test_a_folder_without_a_summary_is_no_finished_run(tmp_path):
    write_results(RUN, tmp_path)
    (tmp_path / "results.json").unlink()
    with pytest.raises(ResultsError, match=r"holds no results.json, so it is not a finished run"):
        read_results(tmp_path)


TEXTS = st.text(CHARACTERS, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)


@settings(max_examples=30)
@given(st.lists(st.builds(Item, TEXTS, st.none() | TEXTS, JSON, JSON, JSON), max_size=4))
def test_items_come_back_from_their_file(tmp_path_factory, items):
    """Whatever is in them, line separators that JSON leaves as they are included; {} is read as None."""
    path = tmp_path_factory.mktemp("items") / "items.jsonl"
    write_items(path, items)
    assert [item.data() for item in read_items(path)] == [item.data() for item in items]


def test_an_item_is_written_without_what_is_empty():
    item = Item("a", prompt="", reference=["x"], scores={"rank": 0})
    assert item.data() == {"id": "a", "prompt": "", "reference": ["x"], "scores": {"rank": 0}}


def test_columns_open_scores_and_extra():
    item = Item("a", reference={"text": "x"}, scores={"ranks": {"sum": 2}}, extra={"seed": 0})
    assert item.columns() == {"id": "a", "reference.text": "x", "ranks.sum": 2, "seed": 0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "score": 1}', r"items.jsonl:3: unknown field 'score'; an item has id, group"),
        ('{"scores": {}}', r"items.jsonl:3: an item has an id, which is text; found None"),
        ('{"id": 7}', r"items.jsonl:3: an item has an id, which is text; found 7"),
        ('{"id": "b", "group": 7}', r"items.jsonl:3: 'group' is text, or a list of texts and nulls; found 7"),
        ('{"id": "b", "group": []}', r"items.jsonl:3: 'group' is text, or a list of texts and nulls; found \[\]"),
        ('{"id": "b", "group": ["x", 7]}', r"items.jsonl:3: 'group' is text, or a list .* found \['x', 7\]"),
        ('{"id": "b", "failed": true}', r"items.jsonl:3: 'failed' is text; found True"),
        ('{"id": "b", "scores": [1]}', r"items.jsonl:3: 'scores' is an object; found \[1\]"),
        ('["b"]', r"items.jsonl:3: an item is an object; found list"),
        ('{"id": ', r"items.jsonl:3: not valid JSON"),
        ('{"id": "b", "scores": {"seed": 1}, "extra": {"seed": 1}}', r"items.jsonl:3: .*two fields called 'seed'"),
    ],
)
def test_a_line_that_is_not_an_item_is_named(tmp_path, line, message):
    path = tmp_path / "items.jsonl"
    path.write_text(f'{{"id": "a"}}\n\n{line}\n', "utf-8")
    with pytest.raises(ResultsError, match=message):
        read_items(path)


def test_items_that_were_removed_are_missed(tmp_path):
    write_results(RUN, tmp_path)
    (tmp_path / "items" / "cra.jsonl").unlink()
    with pytest.raises(ResultsError, match=r"cra.jsonl is missing"):
        read_results(tmp_path)
    assert read_results(tmp_path, items=False).metrics == RUN.metrics


def test_a_frame_has_a_row_for_each_metric():
    """The three metrics of one task; only the first has an interval and a level of chance."""
    frame = RUN.to_frame()
    assert list(frame.columns) == [
        "value", "low", "high", "chance", "n", "higher_is_better", "task", "model",
    ]  # fmt: skip
    assert frame.loc["cra.u2t.sum.mrr"].tolist() == [0.25, 0.1, 0.4, 0.05, 1, True, "cra", "tiny"]
    assert frame.index.name == "metric"
    assert frame["value"].tolist() == [0.25, 3.5, 7.0]
    assert frame["low"].isna().tolist() == frame["chance"].isna().tolist() == [False, True, True]
    assert frame["higher_is_better"].tolist() == [True, False, None]
    assert frame["low"].dtype == frame["chance"].dtype == "float64"


def test_a_frame_of_several_tasks_keeps_their_order_and_one_without_metrics_its_columns():
    other = replace(TASK, task="pelm", metrics={"pelm.u2u.ppl": Metric(9.0, 3, False)})
    frame = replace(RUN, tasks={"pelm": other, "cra": TASK}).to_frame()
    assert frame["task"].tolist() == ["pelm", "cra", "cra", "cra"]
    assert list(replace(RUN, tasks={}).to_frame().columns) == list(frame.columns)


def test_a_signature_starts_with_task_and_version():
    parts = {"corpus": "demo@3fa9", "task": "cra", "directions": ["u2t", "t2u"], "version": 1, "n": 200, "none": None}
    assert signature(parts) == "cra|v1|corpus:demo@3fa9|directions:u2t+t2u|n:200|none:None"


def test_the_headline_has_what_was_measured_in_its_order():
    assert list(headline(METRICS, ["cra.u2t.gold_nll", "cra.t2t.sum.mrr", "cra.u2t.sum.mrr"])) == [
        "cra.u2t.gold_nll",
        "cra.u2t.sum.mrr",
    ]
    assert headline(METRICS, []) == METRICS


def test_a_group_may_name_two_factors(tmp_path):
    """As a list in the file; an item that has one factor alone has None in the other."""
    items = [Item("a", group=("m1", "rain")), Item("b", group=("m1", None)), Item("c", group="m1"), Item("d")]
    write_items(tmp_path / "items.jsonl", items)
    assert '"group": ["m1", null]' in (tmp_path / "items.jsonl").read_text("utf-8")
    assert read_items(tmp_path / "items.jsonl") == items
    assert [i.clusters for i in items] == [("m1", "rain"), ("m1", None), ("m1",), (None,)]


def test_results_of_older_versions_lack_what_came_later():
    old = {"value": 0.5, "n": 4, "higher_is_better": True, "ci95": [0.1, 0.9], "chance": None}
    assert Metric.of(old) == Metric(0.5, 4, True, (0.1, 0.9))
    new = {**old, "support": [0, 1], "given": ["weights"]}
    assert Metric.of(new) == Metric(0.5, 4, True, (0.1, 0.9), support=(0, 1), given=("weights",))


def _remove(*path):
    def damage(folder):
        file = folder / "results.json"
        data = json.loads(file.read_text("utf-8"))
        part = data
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]
        file.write_text(json.dumps(data), "utf-8")

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _remove("signature"),
        _remove("tasks", "cra", "notes"),
        _remove("tasks", "cra", "metrics", "cra.u2t.sum.mrr", "ci95"),
        lambda folder: (folder / "results.json").write_text("[]", "utf-8"),
        lambda folder: (folder / "results.json").write_text('{"run_id"', "utf-8"),
        lambda folder: (folder / "protocol.json").unlink(),
    ],
    ids=["signature", "notes", "interval", "list", "truncated", "protocol"],
)
def test_a_run_that_is_damaged_or_of_another_version_is_refused(tmp_path, damage):
    write_results(RUN, tmp_path)
    damage(tmp_path)
    with pytest.raises(ResultsError, match=r"cannot be read .*damaged, or another version .* Run the same"):
        read_results(tmp_path)
