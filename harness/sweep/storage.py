"""The database of a sweep's study."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from harness.errors import DatabaseError, without_secrets
from harness.sweep.plan import SweepPlan
from harness.tracking.config import SweepConfig

#: States of a trial that is finished and need not be run again.
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class NoWaitingTrialError(Exception):
    """No trial waits: another worker took the last one first."""


class _QueueStorage(RDBStorage):
    """A database in which workers only take trials that wait, and every trial that is taken has a heartbeat."""

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if template_trial is None:
            raise NoWaitingTrialError
        return super()._create_new_trial(study_id, template_trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's, with a heartbeat before a trial is taken.

        Optuna's own heartbeats begin after sampling. A worker that dies before would leave a running trial without
        any, which never counts as stale.
        """
        if state == TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        return super().set_trial_state_values(trial_id, state, values)


def open_storage(url: str, config: SweepConfig, *, create: bool = False) -> RDBStorage:
    """Opens the database of a study, with heartbeats and retries.

    Args:
        url: of SQLite on one machine, of PostgreSQL on several.
        config: heartbeat, grace and retries.
        create: makes the schema; one process does, before any other opens the database.

    Raises:
        DatabaseError: if the database cannot be opened.
    """
    sqlite = url.startswith("sqlite")
    options: dict[str, Any] = (
        {"connect_args": {"timeout": 120}} if sqlite else {"pool_pre_ping": True, "pool_recycle": 1800}
    )
    with quiet():
        try:
            storage = _QueueStorage(
                _with_driver(url),
                engine_kwargs=options,
                heartbeat_interval=max(1, round(config.heartbeat_s)),
                grace_period=max(2, round(config.grace_s)),
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=config.max_retry),
                skip_table_creation=not create,
            )
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            raise DatabaseError(f"The sweep's database {without_secrets(url)} cannot be opened: {error}") from error
    if sqlite:
        _serialize(storage)
    return storage


def _with_driver(url: str) -> str:
    """PostgreSQL through psycopg 3, which the extra `cluster` installs, unless the URL names a driver."""
    for short in ("postgresql://", "postgres://"):
        if url.startswith(short):
            return "postgresql+psycopg://" + url.removeprefix(short)
    return url


def _serialize(storage: RDBStorage) -> None:
    """Takes the write lock when a transaction begins.

    SQLite has no row locks: transactions that begin by reading could give one trial to two workers.
    """

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver begins them
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=120000"):
            connection.execute(f"PRAGMA {pragma}")

    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.engine.dispose()  # connections made before do not have these listeners


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Optuna's log below errors and its warnings about experimental features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


def storage_url(plan: SweepPlan, folder: Path, config: SweepConfig) -> str:
    """The sweep's own database, else the configured one, else SQLite in its folder."""
    return plan.spec.storage or config.storage or f"sqlite:///{(folder / 'study.db').absolute()}"
