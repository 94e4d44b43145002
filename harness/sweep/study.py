"""Sweeps over mixing ratios: studies, samplers and workers that survive faults. The only file that imports optuna.

Every trial is a slot that the coordinator enqueues; workers only take what waits, so that there are exactly as many
trials as asked for. A trial whose worker falls silent is failed and enqueued again, and goes on from its checkpoint.
"""

from __future__ import annotations

import copy
import os
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import optuna
import sqlalchemy
from filelock import FileLock
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from harness.config import build, plain
from harness.errors import ConfigError, HarnessError, InputError
from harness.sweep.analysis import Analysis, Answer, analyze
from harness.sweep.job import Job, run_job
from harness.sweep.launch import run_local, submit, wait_for
from harness.sweep.plan import Plan, Progress, prepare, read_plan
from harness.sweep.report import Written, write_report
from harness.sweep.simplex import SAME, Floats, describe, from_sticks, nearest, to_sticks
from harness.sweep.spec import SweepSpec
from harness.sweep.surface import Excess, expected_improvement, scalarize
from harness.sweep.trial import Ask, Outcome, read_outcome, run_trial, trial_folder
from harness.tracking.config import SweepConfig, TrackingConfig
from harness.tracking.storage import TrackingError, TrackingWarning, ensure_schema
from harness.tracking.training import training_logger
from harness.tracking.trials import end_runs, log_summary
from harness.training.loop import DivergedError, Step
from harness.training.recipe import TrainingConfig
from harness.training.train import TrainingData, training_data

#: A trial that is one of these counts; any other has to be run, again if need be.
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
#: Finished trials before a process is fitted.
_ENOUGH = 3
_DATABASE_TRIES = 60
#: Signals within so many seconds are one request: Ctrl-C reaches workers directly and through the coordinator.
_SAME_REQUEST_S = 5.0


class LeaseLostError(Exception):
    """This process was silent for so long that its trial was given to another."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGINT was received; Optuna lets it through as an interruption."""


class NothingWaitsError(Exception):
    """Another worker took the last waiting trial first."""


# --- samplers ---------------------------------------------------------------------------------------------------------


class MixtureSampler(optuna.samplers.BaseSampler):
    """Chooses mixtures on a lattice; a trial's parameters are the shares of all parts.

    A suggestion is a function of (seed, trial number, trials so far): workers share no random state, and a study that
    is taken up again repeats no stream. Diverged trials count as the worst that was seen.

    Args:
        parts: names of the shares.
        candidates: the allowed mixtures, `(points, k)`.
        kind: `gp`: expected improvement of a Gaussian process on the scale of `Excess`, objectives scalarized as in
            ParEGO; `tpe`: Optuna's tree-structured Parzen estimator over stick-breaking coordinates, moved to the
            nearest candidate; `random`.
        seed: of every draw.
    """

    def __init__(self, parts: Sequence[str], candidates: Floats, *, kind: str = "gp", seed: int = 0) -> None:
        self.parts, self.candidates, self.kind, self.seed = tuple(parts), candidates, kind, seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The shares, all of them."""
        return {part: FloatDistribution(0.0, 1.0) for part in self.parts}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The shares of the next mixture; nothing for a trial whose shares are given."""
        given = {**trial.params, **trial.system_attrs.get("fixed_params", {})}
        if all(part in given for part in self.parts):
            return {}
        rng = np.random.default_rng([self.seed, trial.number])
        mixture = self.candidates[self._choose(study, trial, rng)]
        return {part: float(share) for part, share in zip(self.parts, mixture, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refused: shares are chosen together.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"'{param_name}' is no part of the mixture {', '.join(self.parts)}.")

    def _choose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> int:
        mixtures, losses, pending = self._history(study, trial)
        if self.kind == "random" or len(losses) < _ENOUGH:
            return int(rng.integers(len(self.candidates)))
        if self.kind == "tpe":
            return self._parzen(mixtures, losses, rng)
        scaled = np.column_stack([Excess.of(of_one).scaled(of_one) for of_one in losses.T])
        gain = expected_improvement(self.candidates, mixtures, scalarize(scaled, rng=rng), pending)
        for mixture in pending:
            gain[np.abs(self.candidates - mixture).max(axis=1) < SAME] = -1.0  # nobody trains it twice at once
        best = np.flatnonzero(gain >= gain.max() * (1 - 1e-9)) if gain.max() > 0 else np.flatnonzero(gain >= 0)
        return int(rng.choice(best))

    def _parzen(self, mixtures: Floats, losses: Floats, rng: np.random.Generator) -> int:
        sampler = optuna.samplers.TPESampler(seed=int(rng.integers(2**31)))
        inner = optuna.create_study(directions=["minimize"] * losses.shape[1], sampler=sampler)
        space: dict[str, BaseDistribution] = {
            f"stick_{i}": FloatDistribution(0.0, 1.0) for i in range(len(self.parts) - 1)
        }
        for sticks, values in zip(to_sticks(mixtures), losses, strict=True):
            params = {name: float(value) for name, value in zip(space, sticks, strict=True)}
            inner.add_trial(
                optuna.trial.create_trial(params=params, distributions=space, values=[float(v) for v in values])
            )
        asked = inner.ask(space)
        sticks = np.array([[asked.params[name] for name in space]])
        return nearest(from_sticks(sticks)[0], self.candidates)

    def _history(self, study: Study, trial: FrozenTrial) -> tuple[Floats, Floats, Floats]:
        trials = [
            t
            for t in study.get_trials(deepcopy=False, states=(*DONE, TrialState.RUNNING))
            if t.number != trial.number
            and all(part in t.params for part in self.parts)
            and t.user_attrs.get("stage") != "transfer"
        ]
        signs = [1.0 if d == StudyDirection.MINIMIZE else -1.0 for d in study.directions]
        done = [t for t in trials if t.state == TrialState.COMPLETE]
        losses = np.array([[s * v for s, v in zip(signs, t.values, strict=True)] for t in done])
        losses = losses.reshape(-1, len(signs))
        pruned = [t for t in trials if t.state == TrialState.PRUNED] if len(done) else []
        worst = np.tile(losses.max(axis=0), (len(pruned), 1)) if pruned else np.empty((0, len(signs)))
        running = [t for t in trials if t.state == TrialState.RUNNING]
        return self._mixtures([*done, *pruned]), np.vstack([losses, worst]), self._mixtures(running)

    def _mixtures(self, trials: Sequence[FrozenTrial]) -> Floats:
        return np.array([[t.params[part] for part in self.parts] for t in trials]).reshape(-1, len(self.parts))


# --- the store --------------------------------------------------------------------------------------------------------


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
    with _quiet():
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
def _quiet() -> Iterator[None]:
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


# --- the study --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """An opened sweep.

    Attributes:
        plan: what it does.
        folder: where its trials lie.
        study: Optuna's.
        tracking: settings of `mlflow.yaml`.
        storage: the database; `close` lets go of it.
    """

    plan: Plan
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
        """Attempts in these states."""
        return sum(t.state in states for t in self.trials)


def open_sweep(folder: Path, tracking: TrackingConfig) -> Sweep:
    """The sweep of a folder.

    Raises:
        InputError: if the folder holds no sweep, or its database no study yet.
    """
    plan = read_plan(folder)
    url = storage_url(plan, folder, tracking.sweep)
    if (
        url.startswith("sqlite")
        and not (folder / "study.db").exists()
        and not (plan.spec.storage or tracking.sweep.storage)
    ):
        raise InputError(f"{folder} has no study yet; 'harness sweep run' makes it.")
    storage = open_storage(url, tracking.sweep)
    return Sweep(plan, folder, _load_study(plan, storage), tracking, storage)


def _load_study(plan: Plan, storage: RDBStorage) -> Study:
    spec = plan.spec
    sampler = MixtureSampler(
        spec.names, spec.candidates(plan.repetition), kind=spec.sampler.kind, seed=spec.sampler.seed
    )
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if spec.asha:
        pruner = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=spec.asha.min_validations, reduction_factor=spec.asha.reduction
        )
    with _quiet():
        return optuna.load_study(study_name=plan.study, storage=storage, sampler=sampler, pruner=pruner)


def start_sweep(
    spec: SweepSpec, folder: Path, tracking: TrackingConfig, *, device: str = "cpu", progress: Progress | None = None
) -> Sweep:
    """Prepares data, database and trials before any worker starts; the same call takes a sweep up again.

    Trials that failed without a successor are enqueued again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "prepare.lock"):
        plan, _ = prepare(spec, folder, device=device, progress=progress)
        url = storage_url(plan, folder, tracking.sweep)
        storage = open_storage(url, tracking.sweep, create=True)
        directions = [
            StudyDirection.MAXIMIZE if plan.higher(key) else StudyDirection.MINIMIZE for key in spec.objectives
        ]
        with _quiet():
            study = optuna.create_study(
                study_name=plan.study, storage=storage, directions=directions, load_if_exists=True
            )
            study.set_metric_names(list(spec.objectives))
        sweep = Sweep(plan, folder, _load_study(plan, storage), tracking, storage)
        _fail_silent(sweep)
        _enqueue_main(sweep)
        _enqueue_transfer(sweep)
        _requeue_failed(sweep)
    return sweep


def _enqueue(sweep: Sweep, mixture: Floats | None, **attributes: Any) -> None:
    names: tuple[str, ...] = sweep.plan.spec.names
    shares = {} if mixture is None else dict(zip(names, map(float, mixture), strict=True))
    with _quiet():
        sweep.study.enqueue_trial(shares, user_attrs=attributes)


def _slots(sweep: Sweep, *stages: str) -> list[FrozenTrial]:
    """First attempts of a stage: as many as slots were made for it."""
    return [t for t in sweep.trials if t.user_attrs.get("stage") in stages and "failed_trial" not in t.system_attrs]


def _enqueue_main(sweep: Sweep) -> None:
    spec = sweep.plan.spec
    seeds = spec.seeds
    designed = [(m, seeds[0]) for m in spec.designed(sweep.plan.repetition)]
    # Further seeds of the baseline come last, when the rest of the design is known.
    designed += [(spec.uniform[0], seeds[i % len(seeds)]) for i in range(1, spec.design.uniform_replicates)]
    for number in range(len(_slots(sweep, "design", "adaptive")), spec.trials):
        if number < len(designed):
            mixture, seed = designed[number]
            _enqueue(sweep, mixture, stage="design", size=spec.size, seed=seed)
        else:
            _enqueue(sweep, None, stage="adaptive", size=spec.size)


def _enqueue_transfer(sweep: Sweep) -> None:
    spec = sweep.plan.spec
    designed = spec.designed(sweep.plan.repetition)[: spec.trials]
    for size in list(spec.sizes)[1:]:
        known = [t for t in _slots(sweep, "transfer") if t.user_attrs["size"] == size]
        for mixture in designed[len(known) :]:
            _enqueue(sweep, mixture, stage="transfer", size=size, seed=spec.seeds[0])


def enqueue_confirmations(sweep: Sweep, best: Mapping[str, Sequence[float]]) -> int:
    """Slots for the best mixtures with new seeds, and for as many seeds of the uniform one; returns their number.

    Args:
        sweep: whose main trials are done.
        best: mixture by objective.
    """
    spec = sweep.plan.spec
    with FileLock(sweep.folder / "prepare.lock"):
        before = len(_slots(sweep, "confirm"))
        every = ("design", "adaptive", "confirm")
        wanted: list[tuple[Floats, tuple[str, ...]]] = [(np.asarray(m), ("confirm",)) for m in best.values()]
        for mixture, stages in [*wanted, (spec.uniform[0], every)]:
            while len(_same(sweep, mixture, stages)) < spec.confirm:
                used = {t.user_attrs.get("seed") for t in _same(sweep, mixture, every)}
                seed = next(s for s in range(len(used) + 1) if s not in used)
                _enqueue(sweep, mixture, stage="confirm", size=spec.size, seed=seed)
        return len(_slots(sweep, "confirm")) - before


def _same(sweep: Sweep, mixture: Floats, stages: Sequence[str]) -> list[FrozenTrial]:
    names = sweep.plan.spec.names
    return [
        t
        for t in _slots(sweep, *stages)
        if (shares := _shares(t, names)) and max(abs(shares[n] - x) for n, x in zip(names, mixture, strict=True)) < 1e-6
    ]


def _shares(trial: FrozenTrial, names: Sequence[str]) -> dict[str, float] | None:
    given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    return {name: given[name] for name in names} if all(name in given for name in names) else None


def origin(trial: FrozenTrial) -> int:
    """The number of a trial's first attempt."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def _requeue_failed(sweep: Sweep) -> None:
    """Enqueues trials that failed without a successor: their workers met an error, or too many faults."""
    for trial in lost(sweep):
        _requeue(sweep, trial)


def lost(sweep: Sweep) -> list[FrozenTrial]:
    """Trials that failed and were not enqueued again."""
    followed = {n for t in sweep.trials for n in t.system_attrs.get("retry_history", [])}
    return [t for t in sweep.trials if t.state == TrialState.FAIL and t.number not in followed]


def _requeue(sweep: Sweep, trial: FrozenTrial) -> None:
    with _quiet():
        RetryHeartbeatStaleTrialCallback()(sweep.study, copy.deepcopy(trial))  # it writes into what it is given


def _fail_silent(sweep: Sweep) -> None:
    """Fails trials whose worker fell silent, and enqueues them again."""
    with _quiet():
        optuna.storages.fail_stale_trials(sweep.study)


# --- one worker -------------------------------------------------------------------------------------------------------


class StopSignals:
    """Takes SIGTERM and SIGINT and remembers them: training asks between steps, so that nothing is torn."""

    def __init__(self) -> None:
        self._received_at: float | None = None

    def __enter__(self) -> StopSignals:
        self._before = {s: signal.signal(s, self._remember) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._received_at is not None and now - self._received_at > _SAME_REQUEST_S:
            raise KeyboardInterrupt  # asked again: at once
        self._received_at = self._received_at or now

    def check(self) -> None:
        """Raises where a signal was received."""
        if self._received_at is not None:
            raise TerminatedError


class _Leash:
    """Asks now and then, from within a trial, whether it still belongs to this process and may go on."""

    def __init__(self, sweep: Sweep, trial: optuna.Trial, signals: StopSignals) -> None:
        self._sweep, self._trial, self._signals = sweep, trial, signals
        self._every = sweep.tracking.sweep.heartbeat_s
        self._asked = time.monotonic()

    def check(self) -> None:
        """Raises `TerminatedError` on a signal, `LeaseLostError` if the trial was given to another."""
        self._signals.check()
        if time.monotonic() - self._asked >= self._every:
            self._asked = time.monotonic()
            # Past Optuna's cache, which only this process's own writes refresh.
            if self._sweep.study._storage.get_trial(self._trial._trial_id).state != TrialState.RUNNING:
                raise LeaseLostError


class Worker:
    """Takes trials until none is left to do.

    Args:
        sweep: opened.
        device: where to train and evaluate.
        track: log every trial to MLflow.
        nproc: processes of a trial; with several, each trial is a torchrun job of its own.
        say: told what happens, in lines.
    """

    def __init__(
        self,
        sweep: Sweep,
        *,
        device: str = "cpu",
        track: bool = True,
        nproc: int = 1,
        say: Callable[[str], None] = print,
    ) -> None:
        self.sweep, self.device, self.track, self.nproc, self.say = sweep, device, track, nproc, say
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._data: TrainingData | None = None
        self._current: int | None = None

    def run(self) -> int:
        """Works until all trials are done or lost; returns how many this worker finished.

        Raises:
            TerminatedError: on SIGTERM or SIGINT; the trial in hand was enqueued again.
            HarnessError: if a trial fails for a reason that would meet every other too.
        """
        finished, troubles = 0, 0
        with StopSignals() as signals, _quiet():
            self._signals = signals
            while True:
                signals.check()
                try:
                    _fail_silent(self.sweep)
                    if self.sweep.count(TrialState.WAITING):
                        finished += self._one()
                    elif self.sweep.count(TrialState.RUNNING):
                        self._idle()
                    else:
                        return finished
                    troubles = 0
                except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                    troubles += 1
                    if troubles == _DATABASE_TRIES:
                        raise HarnessError(f"The sweep's database does not answer: {error}") from error
                    self.say(f"database: {str(error).splitlines()[0][:100]}; trying again")
                    time.sleep(2)
                    self._give_back()

    def _one(self) -> int:
        """Takes one trial and runs it; 1 if it counts."""
        self._current = None
        try:
            # Not ask and tell, which give no sign of life.
            self.sweep.study.optimize(self._objective, n_trials=1)
        except NothingWaitsError:
            return 0
        except LeaseLostError:
            self.say(f"trial {self._current}: this worker was silent too long, another has taken it over")
            return 0
        except TerminatedError:
            self._give_back()
            raise
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError) as error:
            # Optuna's words for a trial that was failed, and taken over, while it ran here.
            if isinstance(error, ValueError) and "Cannot tell" not in str(error):
                raise
            self.say(f"trial {self._current}: this worker was silent too long, another has taken it over")
            return 0
        return 1

    def _idle(self) -> None:
        """Waits for the others: one of their trials may yet have to be taken over."""
        until = time.monotonic() + min(5.0, self.sweep.tracking.sweep.grace_s / 4)
        while time.monotonic() < until:
            self._signals.check()
            time.sleep(0.2)

    def _give_back(self) -> None:
        """Enqueues the trial in hand again, if it failed here and nobody else has."""
        if self._current is None:
            return
        for trial in lost(self.sweep):
            if trial.number == self._current:
                _requeue(self.sweep, trial)
        self._current = None

    def _objective(self, trial: optuna.Trial) -> tuple[float, ...]:
        spec = self.sweep.plan.spec
        self._current = trial.number
        mixture: dict[str, float] = {part: trial.suggest_float(part, 0.0, 1.0) for part in spec.names}
        ask = self._ask(trial, mixture)
        trial.set_user_attr("worker", self.name)
        leash = _Leash(self.sweep, trial, self._signals)
        log = _TrialLog(self.sweep, ask) if self.track else None
        try:
            outcome = self._train(trial, ask, leash, log)
        except DivergedError as error:
            trial.set_user_attr("pruned", str(error))
            if log:
                log.end("FAILED", {"pruned": str(error)})
            raise optuna.TrialPruned(str(error)) from error
        except optuna.TrialPruned as error:
            trial.set_user_attr("pruned", str(error))
            if log:
                log.end("FINISHED", {"pruned": str(error)})
            raise
        except LeaseLostError:
            if log:
                log.abandon()
            raise
        except BaseException as error:
            if log:
                log.end("FAILED" if isinstance(error, Exception) else "KILLED", {})
            raise
        trial.set_user_attr("resumed_from", outcome.resumed_from)
        trial.set_user_attr("tokens", outcome.tokens)
        if log:
            log.finish(outcome)
        return tuple(outcome.metrics[key].value for key in spec.objectives)

    def _ask(self, trial: optuna.Trial, mixture: dict[str, float]) -> Ask:
        frozen = trial.storage.get_trial(trial._trial_id)
        attributes = frozen.user_attrs
        if "seed" not in attributes:
            shares = np.array([mixture[name] for name in self.sweep.plan.spec.names])
            earlier = [
                t for t in _same(self.sweep, shares, ("design", "adaptive", "confirm")) if t.number < origin(frozen)
            ]
            seeds = self.sweep.plan.spec.seeds
            trial.set_user_attr("seed", seeds[len(earlier) % len(seeds)])
            attributes = {**attributes, "seed": seeds[len(earlier) % len(seeds)]}
        return Ask(
            number=origin(frozen),
            attempt=len(frozen.system_attrs.get("retry_history", [])),
            mixture=mixture,
            seed=int(attributes["seed"]),
            size=str(attributes["size"]),
            stage=str(attributes["stage"]),
        )

    def _train(self, trial: optuna.Trial, ask: Ask, leash: _Leash, log: _TrialLog | None) -> Outcome:
        sweep, shown = self.sweep, describe(list(ask.mixture.values()), list(ask.mixture))
        self.say(f"trial {ask.number} ({ask.stage}, seed {ask.seed}): {shown}")

        def on_step(step: Step) -> None:
            leash.check()
            if log:
                log.step(step)
            if step.dev and step.step < step.steps and sweep.plan.spec.asha:
                self._halve(trial, step, ask)

        if self.nproc > 1:
            job = Job(self.nproc, self.device, silence_s=sweep.tracking.sweep.heartbeat_s)
            outcome = run_job(sweep.folder, ask, job, on_step=on_step, check=leash.check)
        else:
            check = self._check(leash)
            if self._data is None:
                self._data = training_data(sweep.plan.cards[ask.size], device=self.device, progress=check)
            outcome = run_trial(
                sweep.plan, ask, sweep.folder, data=self._data, device=self.device, on_step=on_step, progress=check
            )
        leash.check()
        values = ", ".join(f"{key} {outcome.metrics[key].value:.4g}" for key in sweep.plan.spec.objectives)
        self.say(f"trial {ask.number}: {values} ({outcome.train_s + outcome.evaluate_s:.0f} s)")
        return outcome

    def _check(self, leash: _Leash) -> Progress:
        def progress(what: str, done: int, total: int) -> None:
            leash.check()

        return progress

    def _halve(self, trial: optuna.Trial, step: Step, ask: Ask) -> None:
        """Successive halving on the mean validation loss over all formats, whatever the mixture."""
        sign = -1.0 if self.sweep.study.direction == StudyDirection.MAXIMIZE else 1.0
        config = build(TrainingConfig, self.sweep.plan.cards[ask.size].training, where=f"sizes.{ask.size}: training")
        trial.report(sign * float(np.mean(list(step.dev.values()))), step.step // config.eval_every)
        if trial.should_prune():
            raise optuna.TrialPruned(f"successive halving at step {step.step}")


class _TrialLog:
    """A trial's run in MLflow: one for all attempts. What does not arrive is said once and costs no trial."""

    def __init__(self, sweep: Sweep, ask: Ask) -> None:
        self._ask, self._logger = ask, None
        plan = sweep.plan
        settings = {
            **{f"mixture.{part}": share for part, share in ask.mixture.items()},
            "seed": ask.seed,
            "size": ask.size,
            "tokens": plan.spec.tokens,
            "ratio_unit": plan.spec.ratio_unit,
        }
        with self._told():
            self._logger = training_logger(
                sweep.tracking, f"{plan.spec.name} {ask.number:05d}", settings, trial_tags(plan, ask),
                key_tag="trial_key",
            )  # fmt: skip

    def step(self, step: Step) -> None:
        """Takes the curve: validations only, a sweep has many trials."""
        if self._logger and step.dev:
            with self._told():
                self._logger.log(step.step, {"loss": step.loss, **step.dev})

    def finish(self, outcome: Outcome) -> None:
        """Logs what the trial gave and ends the run."""
        if not self._logger:
            return
        with self._told():
            self._logger.log(outcome.steps, trial_numbers(outcome))
            self._logger.close()

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"], tags: Mapping[str, str]) -> None:
        """Ends the run without metrics."""
        if self._logger:
            with self._told():
                self._logger.tag(tags)
                self._logger.close(status)

    def abandon(self) -> None:
        """Leaves the run to the attempt that has opened it since."""
        if self._logger:
            self._logger.abandon()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except TrackingError as error:
            self._logger = None
            warnings.warn(str(error), TrackingWarning, stacklevel=2)


def trial_tags(plan: Plan, ask: Ask) -> dict[str, str]:
    """What relates a trial's run to its sweep."""
    return {
        "kind": "trial",
        "sweep": plan.spec.name,
        "study": plan.study,
        "trial": str(ask.number),
        "trial_key": f"{plan.study}/{ask.number}",
        "attempt": str(ask.attempt),
        "stage": ask.stage,
    }


def trial_numbers(outcome: Outcome) -> dict[str, float]:
    """Every number of a trial under its name in MLflow; the ratios too, so that plots can put them on axes."""
    realized = {
        f"realized/{part}.{key}": row[key]
        for part, row in outcome.realized.items()
        for key in ("token_share", "sample_share", "epochs")
    }
    return {
        **{key: metric.value for key, metric in outcome.metrics.items()},
        **{f"ratio/{part}": share for part, share in outcome.ask.mixture.items()},
        **realized,
        "cost/tokens": float(outcome.tokens),
        "cost/flops": outcome.flops,
        "cost/train_s": outcome.train_s,
        "cost/evaluate_s": outcome.evaluate_s,
        "cost/peak_memory_bytes": float(outcome.peak_memory_bytes),
    }


# --- the state of a sweep ---------------------------------------------------------------------------------------------


def status(sweep: Sweep) -> dict[str, Any]:
    """Where a sweep stands, as plain data.

    `states` counts attempts by Optuna's state; `done` of `asked` trials are complete or pruned; `running` says who
    works on what; `best` is the best value so far of each objective with its mixture.
    """
    spec, trials = sweep.plan.spec, sweep.trials
    states = {state.name: sum(t.state == state for t in trials) for state in TrialState}
    return {
        "sweep": spec.name,
        "study": sweep.plan.study,
        "states": {name: number for name, number in states.items() if number},
        "done": sum(t.state in DONE for t in trials),
        "asked": len(_slots(sweep, "design", "adaptive", "transfer", "confirm")),
        "lost": [t.number for t in lost(sweep)],
        "retried": sum("failed_trial" in t.system_attrs for t in trials),
        "running": {str(t.number): t.user_attrs.get("worker") for t in trials if t.state == TrialState.RUNNING},
        "pruned": {str(t.number): t.user_attrs.get("pruned") for t in trials if t.state == TrialState.PRUNED},
        "best": {key: best for i, key in enumerate(spec.objectives) if (best := _best(sweep, i, key))},
    }


def _best(sweep: Sweep, index: int, key: str) -> dict[str, Any] | None:
    complete = [t for t in _finished(sweep) if t.user_attrs.get("size") == sweep.plan.spec.size]
    if not complete:
        return None
    sign = -1.0 if sweep.plan.higher(key) else 1.0
    found = min(complete, key=lambda t: sign * t.values[index])
    return {"value": found.values[index], "trial": origin(found), "mixture": _shares(found, sweep.plan.spec.names)}


def _finished(sweep: Sweep) -> list[FrozenTrial]:
    return [t for t in sweep.trials if t.state == TrialState.COMPLETE]


def outcomes(sweep: Sweep) -> list[Outcome]:
    """What all complete trials gave, by number.

    Raises:
        HarnessError: if a complete trial's record is gone.
    """
    found = []
    for trial in _finished(sweep):
        outcome = read_outcome(trial_folder(sweep.folder, origin(trial)))
        if outcome is None:
            raise HarnessError(
                f"Trial {origin(trial)} is complete but {trial_folder(sweep.folder, origin(trial))} holds no record; "
                "restore the folder, or run the sweep afresh into another."
            )
        found.append(outcome)
    return sorted(found, key=lambda o: o.ask.number)


# --- the coordinator --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launch:
    """How workers are started.

    Attributes:
        workers: how many; one runs in this process.
        launcher: `local` processes, or jobs of `slurm`.
        slurm: `key=value` of submitit for the jobs.
        device: where each trains.
        track: log to MLflow.
        nproc: processes of a trial.
    """

    workers: int = 1
    launcher: Literal["local", "slurm"] = "local"
    slurm: tuple[str, ...] = ()
    device: str = "cpu"
    track: bool = True
    nproc: int = 1


def run_sweep(
    spec: SweepSpec,
    folder: Path,
    tracking: TrackingConfig,
    launch: Launch,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> Sweep:
    """Prepares a sweep, runs its trials, confirms what came out best; the same call takes it up where it stopped.

    Raises:
        HarnessError: if a worker fails, or trials were lost to more faults than `max_retry`.
    """
    sweep = start_sweep(spec, folder, tracking, device=launch.device, progress=progress)
    if launch.track:
        _open_tracking(tracking)
    _run_workers(sweep, launch, progress, say)
    if spec.confirm:
        best = {key: answer.mixture for key, answer in answers(sweep).items()}
        if number := enqueue_confirmations(sweep, best):
            say(f"{number} confirmation runs of the best mixtures and the uniform one")
            _run_workers(sweep, launch, progress, say)
    if launch.track:
        end_silent_runs(sweep)
    if gone := lost(sweep):
        numbers = ", ".join(str(origin(trial)) for trial in gone)
        raise HarnessError(
            f"{len(gone)} of {status(sweep)['asked']} trials were lost: {numbers}. Their workers met an error, or more "
            f"faults than sweep.max_retry={tracking.sweep.max_retry}; see {folder / 'logs'}. The same command tries "
            "them again."
        )
    return sweep


def _run_workers(sweep: Sweep, launch: Launch, progress: Progress | None, say: Callable[[str], None]) -> None:
    if not sweep.count(TrialState.WAITING, TrialState.RUNNING):
        return
    if launch.workers == 1 and launch.launcher == "local":
        Worker(sweep, device=launch.device, track=launch.track, nproc=launch.nproc, say=say).run()
        return
    with StopSignals() as signals:

        def tick() -> None:
            signals.check()
            if progress:
                now = status(sweep)
                progress("trials", now["done"], now["asked"])

        how: dict[str, Any] = {"device": launch.device, "track": launch.track, "nproc": launch.nproc}
        if launch.launcher == "local":
            run_local(sweep.folder, launch.workers, **how, tick=tick)
            return
        jobs = submit(sweep.folder, launch.workers, launch.slurm, **how)
        try:
            wait_for(jobs, tick)
        except BaseException:
            for job in jobs:
                job.cancel()
            raise


def _open_tracking(tracking: TrackingConfig) -> None:
    """Makes MLflow's database before several workers would at once."""
    try:
        ensure_schema(tracking)
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)


def end_silent_runs(sweep: Sweep) -> None:
    """Runs in MLflow that a dead worker left open, and that nobody took over, are ended as killed."""
    alive = [
        f"{sweep.plan.study}/{origin(t)}" for t in sweep.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)
    ]
    try:
        end_runs(sweep.tracking, {"study": sweep.plan.study, "kind": "trial"}, keeping=("trial_key", alive))
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)


def answers(sweep: Sweep) -> dict[str, Answer]:
    """What the sweep's own trials say of each objective."""
    return analyze(sweep.plan, outcomes(sweep), keys=sweep.plan.spec.objectives).answers


def report_sweep(sweep: Sweep, folder: Path | None = None, *, track: bool = True) -> Written:
    """Writes the report of a sweep and logs its summary run; can be asked for at any time.

    Args:
        sweep: opened.
        folder: of the report; unset means `report` in the sweep's.
        track: log to MLflow, one run for the study, replaced by the next report.
    """
    analysis = analyze(sweep.plan, outcomes(sweep))
    dropped = [(origin(t), str(t.user_attrs.get("pruned", ""))) for t in sweep.trials if t.state == TrialState.PRUNED]
    written = write_report(analysis, folder or sweep.folder / "report", dropped=dropped)
    if track:
        _log_summary(sweep, analysis, written)
    return written


def _log_summary(sweep: Sweep, analysis: Analysis, written: Written) -> None:
    spec = sweep.plan.spec
    metrics: dict[str, float] = {"trials": float(len(analysis.outcomes))}
    for key, answer in analysis.answers.items():
        metrics |= {f"best/{key}": answer.value, f"uniform/{key}": answer.uniform, f"gain/{key}": answer.gain}
        metrics |= {f"best_{n}/{key}": share for n, share in zip(spec.names, answer.mixture, strict=True)}
    tags = {"kind": "sweep", "sweep": spec.name, "study": sweep.plan.study, "sweep_key": sweep.plan.study}
    try:
        log_summary(
            sweep.tracking,
            f"sweep {spec.name}",
            params=plain(spec),
            metrics=metrics,
            tags={**tags, "mlflow.note.content": written.text},
            folder=written.folder,
            key_tag="sweep_key",
        )
    except TrackingError as error:
        warnings.warn(str(error), TrackingWarning, stacklevel=2)
