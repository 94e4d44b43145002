import json
from pathlib import Path

import pytest

from harness import __version__
from harness.corpora.manifest import Utterance, write_manifest
from harness.errors import ConfigError, CorpusError, InputError, TaskError, UnknownNameError
from harness.evaluation.evaluate import RunConfig, evaluate, git_revision, load_tasks, versions
from harness.results import Item, read_results, write_results
from harness.testing import UniformModel

#: A task that scores how many characters an utterance has, and fails on as many as it is told.
COUNT = """
from pydantic.dataclasses import dataclass
from harness.config import STRICT
from harness.results import Item, Metric
from harness.segments import Text
from harness.task import Request, TaskInfo, Unscorable

@dataclass(frozen=True, config=STRICT)
class Options:
    fail: int = 0
    n: int = 1000

class Count:
    info = TaskInfo("count", 3, "characters", "nowhere")
    Options = Options

    def examples(self, corpus, options, *, limit, seed):
        return corpus.utterances[: limit or options.n]

    def requests(self, examples, options, *, modalities):
        pool = tuple(Text(e.text) for e in examples)
        return [Request(e.id, (), "text", "text", pool, (i,)) for i, e in enumerate(examples)]

    def score(self, examples, options, answers):
        items = []
        for i, e in enumerate(examples):
            answer = answers[e.id]
            reason = answer.reason if isinstance(answer, Unscorable) else "told to fail" if i < options.fail else None
            items.append(Item(e.id, failed=reason) if reason else Item(e.id, scores={"count": len(e.text)}))
        return items

    def summarize(self, items, options, *, seed):
        return {"count.all.mean": Metric(sum(i.scores["count"] for i in items) / len(items), len(items), None)}

TASK = Count()
"""


@pytest.fixture
def count(tmp_path):
    """The task's name."""
    (tmp_path / "count.py").write_text(COUNT)
    return f"{tmp_path / 'count.py'}:TASK"


@pytest.fixture
def manifest(tmp_path):
    """Forty utterances of 1, 2, … characters, whose audio nobody asks for."""
    path = tmp_path / "forty.jsonl"
    write_manifest(path, [Utterance(f"u{i:02}", "a.wav", 16_000, 1.0, "x" * (i + 1), "s", "test") for i in range(40)])
    return str(path)


@pytest.fixture
def run(count, manifest):
    """Counts on the manifest by a model of text."""

    def evaluated(*, fail=0, model=None, **config):
        settings = {"count": {"fail": fail}}
        model = model or UniformModel({"text"})
        return evaluate(model, RunConfig(**{"tasks": (count,), "corpus": manifest, "settings": settings, **config}))

    return evaluated


@pytest.fixture(scope="module")
def cra_run(harness_home):
    """CRA of the uniform model on a dozen prompts of demo."""
    config = RunConfig(("cra",), limit=12, settings={"cra": {"directions": ["u2t", "t2u"]}})
    return config, evaluate(UniformModel(), config)


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_a_result_says_what_was_done(run, manifest):
    result = run(limit=4, seed=7)
    task = result.tasks["count"]
    assert result.metrics["count.all.mean"].value == (1 + 2 + 3 + 4) / 4
    assert (task.n_expected, task.n_scored, task.n_failed) == (4, 4, 0)
    assert [i.scores["count"] for i in task.items] == [1, 2, 3, 4]
    assert task.protocol["options"] == {"fail": 0, "n": 1000}
    assert (task.protocol["version"], task.protocol["n"], task.protocol["seed"]) == (3, 4, 7)
    assert result.corpus["name"] == "forty"
    assert result.corpus["utterances"] == 40
    assert result.model["name"] == "uniform"
    assert result.protocol["corpus"]["root"] == str(Path(manifest).parent)
    assert result.protocol["versions"]["harness"] == __version__


def test_the_signature_is_the_protocol_in_one_line(run):
    result = run(limit=4, seed=7, fail=0)
    digest, fingerprint = result.corpus["digest"][:4], result.model["fingerprint"][:4]
    assert result.tasks["count"].signature == (
        f"count|v3|corpus:forty@{digest}|split:test|n:4|fail:0|model:uniform@{fingerprint}|seed:7|harness:{__version__}"
    )


def test_a_run_again_is_the_same_to_the_byte(cra_run, tmp_path):
    config, first = cra_run
    for name, result in (("first", first), ("again", evaluate(UniformModel(), config))):
        write_results(result, tmp_path / name)
    for file in ("results.json", "protocol.json", "items/cra.jsonl"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    assert read_results(tmp_path / "again").metrics == first.metrics


def test_a_uniform_model_is_at_chance(cra_run):
    metrics = cra_run[1].metrics
    assert {k.split(".")[1] for k in metrics} == {"u2t", "t2u"}
    for key, metric in metrics.items():
        if metric.chance is not None:
            low, high = metric.ci95 or (metric.value, metric.value)  # a median of equal ranks has no interval
            assert low - 1e-9 <= metric.chance <= high + 1e-9, key
    assert metrics["cra.u2t.pmi.r_at_1"].value == pytest.approx(1 / 12)


def test_batches_change_no_number(cra_run):
    config, first = cra_run
    again = evaluate(UniformModel(), RunConfig(**{**vars(config), "batch_tokens": 700}))
    assert again.metrics == first.metrics
    assert again.run_id == first.run_id


def test_the_run_id_is_that_of_model_and_protocol(run):
    first = run(limit=4)
    assert first.run_id == run(limit=4).run_id
    assert first.run_id.startswith("uniform-")
    assert len({first.run_id, run(limit=5).run_id, run(limit=4, seed=1).run_id}) == 3


def test_tasks_come_in_the_order_asked_for(run, count, tmp_path):
    (tmp_path / "other.py").write_text(COUNT.replace('"count"', '"acount"').replace("count.all", "acount.all"))
    names = (count, f"{tmp_path / 'other.py'}:TASK")
    assert list(run(tasks=names).tasks) == ["count", "acount"]
    assert list(run(tasks=names[::-1]).tasks) == ["acount", "count"]


def test_progress_ends_at_all_of_it(count, manifest):
    seen = []
    evaluate(
        UniformModel({"text"}),
        RunConfig((count,), manifest),
        progress=lambda what, done, of: seen.append((what, done, of)),
    )
    assert seen[-1] == ("count", 40, 40)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_everything_goes_to_json(run):
    assert json.loads(json.dumps(run(limit=2).protocol))["run"]["limit"] == 2


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_few_items_may_fail_and_are_counted(run):
    task = run(fail=2).tasks["count"]
    assert (task.n_expected, task.n_scored, task.n_failed) == (40, 38, 2)
    assert task.metrics["count.all.mean"].n == 38
    assert task.items[1] == Item("u01", failed="told to fail")


def test_a_task_that_fails_on_more_than_a_twentieth_fails(run):
    with pytest.raises(
        TaskError, match=r"'count' scored 37 of 40 items; at most 5% may fail. First reason: told to fail"
    ) as caught:
        run(fail=3)
    assert caught.value.exit_code == 1


def test_nothing_scored_is_a_failure_and_not_zero(run):
    with pytest.raises(TaskError, match=r"scored 0 of 40 items"):
        run(fail=40)


def test_what_the_model_cannot_read_fails(run):
    with pytest.raises(TaskError, match=r"scored 9 of 40 items.*reads at most 10"):
        run(model=UniformModel({"text"}, max_length=10))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crab": {"n": 3}}, r"--set crab.*no task of this run has that name. The nearest is 'count'"),
        ({"count": {"fial": 3}}, r"--set count: unknown key 'fial'. Did you mean 'fail'"),
        ({"count": {"fail": "many"}}, r"--set count: 'fail'.*found 'many'"),
        ({"count": 3}, r"--set count: expected keys with values, found 3"),
    ],
)
def test_settings_that_fit_no_task_are_refused(run, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(settings=settings)


def test_tasks_are_checked_before_anything_is_computed(count):
    with pytest.raises(UnknownNameError, match=r"no task called 'craa'.*'cra'"):
        load_tasks([count, "craa"], {})
    with pytest.raises(InputError, match="'count' is named twice"):
        load_tasks([count, count], {})


def test_without_a_split_the_corpus_says_which(run):
    result = run()
    assert result.corpus["split"] == "test"
    assert result.protocol["run"]["split"] is None
    assert result.tasks["count"].protocol == run(split="test").tasks["count"].protocol


def test_a_split_that_is_absent_is_said_to_be(run):
    with pytest.raises(CorpusError, match="no utterance of split 'dev'; it holds: test"):
        run(split="dev")


def test_directions_that_a_model_does_not_know_are_refused(harness_home):
    config = RunConfig(("cra",), limit=2, settings={"cra": {"directions": ["u2t"]}})
    with pytest.raises(InputError, match="A model of text has none of the directions u2t"):
        evaluate(UniformModel({"text"}), config)


# --- the record -------------------------------------------------------------------------------------------------------


def test_versions_name_what_can_move_a_number():
    found = versions()
    assert {"python", "harness", "torch", "numpy"} <= set(found)
    assert "absent" not in (found["torch"], found["numpy"])


def test_the_revision_is_that_of_the_harness_wherever_it_runs(tmp_path, monkeypatch):
    here = git_revision()
    monkeypatch.chdir(tmp_path)
    assert git_revision() == here
