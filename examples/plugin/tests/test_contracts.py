"""The contracts that sutlm-harness ships, held by this package's task and model."""

from pathlib import Path

from harness.testing import ModelContract, TaskContract


class TestHalfOrder(TaskContract):
    """The task keeps what every task keeps, and is perfect for a model that knows the truth."""

    name = "half_order"

    def truth(self, examples):
        """The second half follows the first."""
        for example in examples:
            for a, b in example.halves.values():
                yield (a,), b

    def perfect(self):
        """Every order is found."""
        return {"half_order.text.accuracy": 1.0, "half_order.speech.accuracy": 1.0}


class TestByteBigram(ModelContract):
    """The model keeps what every model keeps."""

    card = Path(__file__).parents[1] / "card.yaml"
