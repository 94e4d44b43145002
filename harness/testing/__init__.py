"""Contracts that every task and model keeps, and models whose answers are known, for tests of plug-ins too.

    from harness.testing import ModelContract, ProcedureContract, TaskContract

    class TestMyTask(TaskContract):
        name = "my_task"

    class TestMyProcedure(ProcedureContract):
        name = "my_procedure"

    class TestMyModel(ModelContract):
        card = "card.yaml"

pytest collects the inherited tests under the subclass's name. The harness holds its own tasks and adapters to the same
contracts.
"""

from harness.testing.adapters import ModelContract
from harness.testing.models import OracleModel, UniformModel, fake_units
from harness.testing.procedures import ProcedureContract
from harness.testing.tasks import Sample, TaskContract, measure

__all__ = [
    "ModelContract",
    "OracleModel",
    "ProcedureContract",
    "Sample",
    "TaskContract",
    "UniformModel",
    "fake_units",
    "measure",
]
