"""Contracts that every task and model keeps, and models whose answers are known, for tests of plug-ins too."""

from harness.testing.contracts import (
    ModelContract,
    OracleModel,
    ProcedureContract,
    Sample,
    TaskContract,
    UniformModel,
    fake_units,
    measure,
)

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
