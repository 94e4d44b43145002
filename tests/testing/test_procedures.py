"""The contract of procedures finds nothing wrong with a sound one, and notices each kind of mistake."""

import pytest

from harness.corpora.manifest import Utterance, write_manifest
from harness.errors import TaskError
from harness.testing import ProcedureContract

LENGTHS = """
from pydantic.dataclasses import dataclass
from harness.config import STRICT
from harness.results import Item, Metric
from harness.task import ProcedurePlan, TaskInfo

@dataclass(frozen=True, config=STRICT)
class Options:
    n: int = 10

class Lengths:
    info = TaskInfo("lengths", 1, "letters of each utterance", "nowhere")
    Options = Options

    def plan(self, session, options):
        utterances = session.corpus.utterances[: session.limit or options.n]
        return ProcedurePlan(utterances, {"counted": "letters"}, {"by": "hand"})

    def run(self, session, plan, options):
        texts = {u.id: u.text for u in plan.examples}
        found = session.records({i: t for i, t in texts.items()}, lambda ids: {BODY}, what="count")
        return [Item(i, scores={"length": record["length"]}) for i, record in found.items()]

    def summarize(self, items, options, *, seed):
        return {"lengths.all.mean": Metric(sum(i.scores["length"] for i in items) / len(items), len(items), None)}

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
