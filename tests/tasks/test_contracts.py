"""Every shipped task keeps the contract that plug-ins are held to."""

from dataclasses import replace

import pytest

from harness.corpora.corpus import open_corpus
from harness.corpora.manifest import Utterance, write_manifest
from harness.errors import TaskError
from harness.task import task_registry
from harness.testing import ProcedureContract, TaskContract


class TestCra(TaskContract):
    name = "cra"

    def truth(self, examples):
        for example in examples:
            for prompt in example.prompt.values():
                for continuation in example.continuation.values():
                    yield (prompt,), continuation

    def perfect(self):
        return {
            f"cra.{direction}.{score}.{metric}": 1.0
            for direction in self.sample().options().directions
            for score in ("sum", "token", "second", "pmi")
            for metric in ("r_at_1", "mrr", "median_rank")
        }


@pytest.fixture(scope="module")
def few(harness_home, tmp_path_factory):
    """Utterances of the demo's test split, some to train on, some to validate on, some to test on."""
    corpus = open_corpus("demo", "test")
    folder = tmp_path_factory.mktemp("few")
    (folder / "audio").symlink_to(corpus.root / "audio")
    splits = ["train"] * 8 + ["dev"] * 3 + ["test"] * 5
    rows = [replace(u, split=split) for u, split in zip(corpus.utterances, splits, strict=False)]
    write_manifest(folder / "few.jsonl", rows)
    return folder / "few.jsonl"


class Transfer(ProcedureContract):
    """The shipped model as its own transcriber, two steps of training."""

    settings = ("seeds=1", "epochs=1", "batch_size=4", "train_on=[speech,text]", "transcriber=sutlm-tiny")

    @pytest.fixture(autouse=True)
    def on_few(self, few):
        type(self).corpus = str(few)


class TestSlueSa(Transfer):
    name = "slue_sa"


class TestSlueNer(Transfer):
    name = "slue_ner"


class TestPelm(ProcedureContract):
    """The shipped model as its own transcriber, whatever units it reads."""

    name = "pelm"
    settings = ("seeds=2", "scan=[1.5]", "max_new_tokens=16", "transcriber=sutlm-tiny")


def test_every_shipped_task_has_a_contract():
    held = {contract.name for contract in _subclasses(TaskContract) | _subclasses(ProcedureContract)}
    shipped = {name for name, place in task_registry().sources().items() if place.startswith("harness.tasks.")}
    assert shipped <= held


def _subclasses(contract):
    return {contract} - {TaskContract, ProcedureContract, Transfer} | {
        s for c in contract.__subclasses__() for s in _subclasses(c)
    }


# --- a procedure ------------------------------------------------------------------------------------------------------

LENGTHS = """
from pydantic.dataclasses import dataclass
from harness.config import STRICT
from harness.results import Metric
from harness.task import Plan, TaskInfo

@dataclass(frozen=True, config=STRICT)
class Options:
    n: int = 10

class Lengths:
    info = TaskInfo("lengths", 1, "letters of each utterance", "nowhere")
    Options = Options

    def plan(self, session, options):
        return Plan(session.corpus.utterances[: session.limit or options.n], {"counted": "letters"}, {"by": "hand"})

    def run(self, session, plan, options):
        texts = {u.id: u.text for u in plan.examples}
        found = session.records({i: t for i, t in texts.items()}, lambda ids: {BODY}, what="count")
        return [{"id": i, "length": record["length"]} for i, record in found.items()]

    def summarize(self, items, options, *, seed):
        return {"lengths.all.mean": Metric(sum(i["length"] for i in items) / len(items), len(items), None)}

TASK = Lengths()
"""


@pytest.fixture
def lengths(tmp_path):
    """The contract of a procedure whose records are computed by an expression over `ids` and `texts`."""

    def contract(body):
        utterances = [Utterance(f"u{i}", "a.wav", 16_000, 1.0, "x" * (i + 1), "s", "test") for i in range(8)]
        write_manifest(tmp_path / "eight.jsonl", utterances)
        (tmp_path / "lengths.py").write_text(LENGTHS.replace("{BODY}", body))
        settings = {"name": f"{tmp_path / 'lengths.py'}:TASK", "corpus": str(tmp_path / "eight.jsonl")}
        return type("Contract", (ProcedureContract,), settings)()

    return contract


PROMISES = [n for n in dir(ProcedureContract) if n.startswith("test_")]


@pytest.mark.parametrize("promise", PROMISES)
def test_the_contract_finds_nothing_wrong_with_a_sound_procedure(lengths, promise, tmp_path):
    contract = lengths("((i, {'length': len(texts[i])}) for i in ids)")
    getattr(contract, promise)(*[tmp_path] * ("stopped" in promise))
    result = contract.result()
    assert result.protocol["counted"] == "letters"
    assert "|by:hand|" in result.signature
    assert result.metrics["lengths.all.mean"].value == 3.5


def test_a_record_that_hangs_on_its_company_is_noticed(lengths, tmp_path):
    contract = lengths("((i, {'length': len(ids)}) for i in ids)")
    with pytest.raises(AssertionError):
        contract.test_a_stopped_run_goes_on_and_ends_with_the_same_record(tmp_path)


def test_a_procedure_that_leaves_items_out_fails(lengths):
    with pytest.raises(TaskError, match="left out 1 of 6 items, first 'u5'"):
        lengths("((i, {'length': 1}) for i in ids[:-1])").result()


# --- the contract notices what is wrong -------------------------------------------------------------------------------

BROKEN = """
from dataclasses import dataclass, replace
from harness.task import task_registry

Cra = type(task_registry().load("cra"))

class Broken(Cra):
    {body}

TASK = Broken()
"""

EXAMPLES = """def examples(self, corpus, options, *, limit, seed):
        return super().examples({corpus}, options, limit={limit}, seed=seed)"""
REQUESTS = """def requests(self, examples, options, *, modalities):
        return super().requests(examples, options, modalities={modalities}){then}"""
SCORE = """def score(self, examples, options, answers):
        return [{item} for i in super().score(examples, options, answers){only}]"""
SUMMARIZE = """def summarize(self, items, options, *, seed):
        return {{{pair} for k, m in super().summarize(items, options, seed=seed).items()}}"""


@pytest.fixture
def contract_for(tmp_path):
    """The contract of CRA with something about it overridden, on six sentences."""
    sentences = [
        "one two three four",
        "a much longer sentence than that",
        "five six seven eight nine",
        "yes sir no sir",
    ]
    utterances = [
        Utterance(f"u{i}", "a.wav", 16_000, 1.0, text, "s", "test")
        for i, text in enumerate([*sentences, "the end of all things", "who goes there my friend"])
    ]
    write_manifest(tmp_path / "six.jsonl", utterances)

    def contract(body):
        (tmp_path / "broken.py").write_text(BROKEN.format(body=body))
        settings = {
            "name": f"{tmp_path / 'broken.py'}:TASK",
            "settings": ("directions=[t2t]",),
            "corpus": str(tmp_path / "six.jsonl"),
        }
        return type("Contract", (TaskContract,), settings)()

    return contract


@pytest.mark.parametrize("promise", [n for n in dir(TaskContract) if n.startswith("test_") and "process" not in n])
def test_the_contract_finds_nothing_wrong_with_a_sound_task(contract_for, promise):
    getattr(contract_for("pass"), promise)()


@pytest.mark.parametrize(
    ("body", "promise"),
    [
        ("info = replace(Cra.info, source='')", "info_is_complete"),
        ("info = replace(Cra.info, headline=('pelm.u2u.ppl',))", "info_is_complete"),
        ("Options = dataclass(type('Options', (), {}))", "options_are_a_frozen_strict_record_with_defaults"),
        (EXAMPLES.format(corpus="corpus", limit="None"), "examples_follow_from_the_seed"),
        (
            EXAMPLES.format(corpus="replace(corpus, utterances=corpus.utterances[:4])", limit="limit"),
            "the_order_of_utterances_changes_no_number",
        ),
        (REQUESTS.format(modalities="modalities", then=" * 2"), "requests_are_well_formed"),
        (
            REQUESTS.format(modalities="frozenset({'speech', 'text'})", then=""),
            "a_model_of_one_modality_is_asked_for_that_alone",
        ),
        (SCORE.format(item="i", only=" if 'failed' not in i"), "what_cannot_be_scored_fails_and_says_why"),
        (SCORE.format(item="{**i, 'extra': float('nan')}", only=""), "items_are_records_with_ids_of_their_own"),
        (SCORE.format(item="{**i, 'id': 'same'}", only=""), "items_are_records_with_ids_of_their_own"),
        (SUMMARIZE.format(pair="k.replace('.', '@'): m"), "metric_keys_name_task_condition_and_metric"),
        (SUMMARIZE.format(pair="k: replace(m, chance=0.9)"), "a_uniform_model_is_at_chance"),
        (SUMMARIZE.format(pair="k: replace(m, chance=None)"), "a_uniform_model_is_at_chance"),
    ],
)
def test_the_contract_notices(contract_for, body, promise):
    with pytest.raises((AssertionError, ValueError)):
        getattr(contract_for(body), f"test_{promise}")()
