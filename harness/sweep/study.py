"""A sweep opened for work: its plan, its folder, its study in the database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from harness.errors import SweepError
from harness.sweep.plan import SweepPlan, read_plan
from harness.sweep.sampler import MixtureSampler
from harness.sweep.storage import open_storage, quiet, storage_url
from harness.tracking.config import TrackingConfig


@dataclass(frozen=True)
class Sweep:
    """An opened sweep.

    Attributes:
        plan: what is trained and evaluated.
        folder: of the sweep.
        study: of Optuna.
        tracking: settings of `mlflow.yaml`.
        storage: the database; `close` closes the connections.
    """

    plan: SweepPlan
    folder: Path
    study: Study
    tracking: TrackingConfig
    storage: RDBStorage

    def close(self) -> None:
        """Closes the connections to the database."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    @property
    def trials(self) -> list[FrozenTrial]:
        """All attempts, in order."""
        return list(self.study.get_trials(deepcopy=False))

    def count(self, *states: TrialState) -> int:
        """Number of attempts in these states."""
        return sum(t.state in states for t in self.trials)

    def attempt(self, number: int) -> FrozenTrial:
        """One attempt as the database has it now: Optuna's cache only sees what this process writes."""
        study = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial(self.storage.get_trial_id_from_study_id_trial_number(study, number))


def open_sweep(folder: Path, tracking: TrackingConfig) -> Sweep:
    """The sweep of a folder.

    Raises:
        SweepError: if the folder holds no sweep, or its database no study yet.
    """
    plan = read_plan(folder)
    url = storage_url(plan, folder, tracking.sweep)
    if (
        url.startswith("sqlite")
        and not (folder / "study.db").exists()
        and not (plan.spec.storage or tracking.sweep.storage)
    ):
        raise SweepError(f"{folder} has no study yet; 'harness sweep run' makes it.")
    storage = open_storage(url, tracking.sweep)
    return Sweep(plan, folder, load_study(plan, storage), tracking, storage)


def load_study(plan: SweepPlan, storage: RDBStorage) -> Study:
    """Optuna's study with the sampler and the pruner that the plan asks for."""
    spec = plan.spec
    sampler = MixtureSampler(
        spec.names, spec.candidates(plan.repetition), kind=spec.sampler.kind, seed=spec.sampler.seed
    )
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if spec.asha:
        pruner = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=spec.asha.min_validations, reduction_factor=spec.asha.reduction
        )
    with quiet():
        return optuna.load_study(study_name=plan.study, storage=storage, sampler=sampler, pruner=pruner)
