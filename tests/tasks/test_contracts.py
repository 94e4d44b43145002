"""Every shipped task keeps the contract that plug-ins are held to."""

import shutil
from dataclasses import replace

import pytest

from harness.corpora.corpus import open_corpus
from harness.corpora.manifest import write_manifest
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
            for score in ("sum", "token_norm", "extent_norm", "pmi")
            for metric in ("r_at_1", "mrr", "median_rank")
        }


@pytest.fixture(scope="module")
def few(harness_home, tmp_path_factory):
    """Utterances of the demo's test split, some to train on, some to validate on, some to test on."""
    corpus = open_corpus("demo", "test")
    folder = tmp_path_factory.mktemp("few")
    splits = ["train"] * 8 + ["dev"] * 3 + ["test"] * 5
    rows = [replace(u, split=split) for u, split in zip(corpus.utterances, splits, strict=False)]
    for row in rows:
        (folder / row.audio).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(corpus.audio_path(row), folder / row.audio)
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
