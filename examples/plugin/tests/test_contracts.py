"""The contracts that sutlm-harness ships, held by this package's task and model."""

from pathlib import Path

from harness.testing import ModelContract, TaskContract


class TestHalfOrder(TaskContract):
    name = "half_order"

    def truth(self, examples):
        for example in examples:
            for a, b in example.halves.values():
                yield (a,), b

    def perfect(self):
        return {"half_order.text.accuracy": 1.0, "half_order.speech.accuracy": 1.0}


class TestByteBigram(ModelContract):
    card = Path(__file__).parents[1] / "card.yaml"
