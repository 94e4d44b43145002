"""Every shipped task keeps the contract that plug-ins are held to."""

from harness.task import task_registry
from harness.testing import TaskContract


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


def test_every_shipped_task_has_a_contract():
    held = {contract.name for contract in _subclasses(TaskContract)}
    shipped = {name for name, place in task_registry().sources().items() if place.startswith("harness.tasks.")}
    assert shipped <= held


def _subclasses(contract):
    return {contract} - {TaskContract} | {s for c in contract.__subclasses__() for s in _subclasses(c)}
