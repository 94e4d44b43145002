"""The database of a study: workers only take trials that wait, and none is lost."""

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

from harness.errors import HarnessError
from harness.sweep.plan import Plan
from harness.tracking.config import SweepConfig

#: A trial that is one of these counts; any other has to be run, again if need be.
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class NothingWaitsError(Exception):
    """Another worker took the last waiting trial first."""


class _SlotStorage(RDBStorage):
    """A database in which workers only take trials that wait, and none is lost between taking and training."""

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if template_trial is None:
            raise NothingWaitsError
        return super()._create_new_trial(study_id, template_trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's, with a sign of life before a trial is taken.

        Optuna's own begins after the sampler has thought; a worker that dies before leaves a trial without any, which
        no one would ever find silent.
        """
        if state == TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        return super().set_trial_state_values(trial_id, state, values)


def open_storage(url: str, config: SweepConfig, *, create: bool = False) -> RDBStorage:
    """The database of a study, with heartbeat and retries.

    Args:
        url: of SQLite on one machine, of PostgreSQL on several.
        config: heartbeat, grace and retries.
        create: makes the schema; only one process may, before any other opens it.

    Raises:
        HarnessError: if the database cannot be opened.
    """
    sqlite = url.startswith("sqlite")
    options: dict[str, Any] = (
        {"connect_args": {"timeout": 120}} if sqlite else {"pool_pre_ping": True, "pool_recycle": 1800}
    )
    with quiet():
        try:
            storage = _SlotStorage(
                _with_driver(url),
                engine_kwargs=options,
                heartbeat_interval=max(1, round(config.heartbeat_s)),
                grace_period=max(2, round(config.grace_s)),
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=config.max_retry),
                skip_table_creation=not create,
            )
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            raise HarnessError(f"The sweep's database {_without_secrets(url)} cannot be opened: {error}") from error
    if sqlite:
        _serialize(storage)
    return storage


def _with_driver(url: str) -> str:
    """PostgreSQL through psycopg 3, which the extra `cluster` installs, unless the URL names a driver."""
    for short in ("postgresql://", "postgres://"):
        if url.startswith(short):
            return "postgresql+psycopg://" + url.removeprefix(short)
    return url


def _without_secrets(url: str) -> str:
    return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)


def _serialize(storage: RDBStorage) -> None:
    """SQLite knows no row locks: transactions that begin by reading could hand one trial to two workers."""

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver guesses
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=120000"):
            connection.execute(f"PRAGMA {pragma}")

    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.engine.dispose()  # connections made before know nothing of this


@contextmanager
def quiet() -> Iterator[None]:
    """Hushes Optuna's progress lines and its notes on experimental features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


def storage_url(plan: Plan, folder: Path, config: SweepConfig) -> str:
    """The sweep's own database, else the configured one, else SQLite in its folder."""
    return plan.spec.storage or config.storage or f"sqlite:///{(folder / 'study.db').absolute()}"
