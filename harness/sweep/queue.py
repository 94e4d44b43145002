"""The queue of a sweep: trials are enqueued by the coordinator, and enqueued again after a fault.

Workers only take what waits, so that there are exactly as many trials as were asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from harness.files import lock_of
from harness.sweep.simplex import Floats
from harness.sweep.storage import quiet
from harness.sweep.study import Sweep


def enqueue(sweep: Sweep, mixture: Floats | None, **attributes: Any) -> None:
    """Adds a trial that waits for a worker; without a mixture the sampler chooses one."""
    names: tuple[str, ...] = sweep.plan.spec.names
    shares = {} if mixture is None else dict(zip(names, map(float, mixture), strict=True))
    with quiet():
        sweep.study.enqueue_trial(shares, user_attrs=attributes)


def first_attempts(sweep: Sweep, *stages: str) -> list[FrozenTrial]:
    """The trials of these stages, each by its first attempt."""
    return [t for t in sweep.trials if t.user_attrs.get("stage") in stages and "failed_trial" not in t.system_attrs]


def enqueue_main(sweep: Sweep) -> None:
    """Adds the designed and the adaptive trials that are missing."""
    spec = sweep.plan.spec
    seeds = spec.seeds
    designed = [(m, seeds[0]) for m in spec.designed(sweep.plan.repetition)]
    # Further seeds of the baseline come last, when the rest of the design is known.
    designed += [(spec.uniform[0], seeds[i % len(seeds)]) for i in range(1, spec.design.uniform_replicates)]
    for number in range(len(first_attempts(sweep, "design", "adaptive")), spec.trials):
        if number < len(designed):
            mixture, seed = designed[number]
            enqueue(sweep, mixture, stage="design", size=spec.size, seed=seed)
        else:
            enqueue(sweep, None, stage="adaptive", size=spec.size)


def enqueue_transfer(sweep: Sweep) -> None:
    """Adds the designed mixtures in the other sizes, where they are missing."""
    spec = sweep.plan.spec
    designed = spec.designed(sweep.plan.repetition)[: spec.trials]
    for size in list(spec.sizes)[1:]:
        known = [t for t in first_attempts(sweep, "transfer") if t.user_attrs["size"] == size]
        for mixture in designed[len(known) :]:
            enqueue(sweep, mixture, stage="transfer", size=size, seed=spec.seeds[0])


def enqueue_confirmations(sweep: Sweep, best: Mapping[str, Sequence[float]]) -> int:
    """Adds trials of the best mixtures with new seeds, and of the uniform one until it has as many seeds.

    Args:
        sweep: whose main trials are done.
        best: mixture by objective.

    Returns:
        How many trials were added.
    """
    spec = sweep.plan.spec
    with lock_of(sweep.folder / "prepare"):
        before = len(first_attempts(sweep, "confirm"))
        every = ("design", "adaptive", "confirm")
        wanted: list[tuple[Floats, tuple[str, ...]]] = [(np.asarray(m), ("confirm",)) for m in best.values()]
        for mixture, stages in [*wanted, (spec.uniform[0], every)]:
            while len(same_mixture(sweep, mixture, stages)) < spec.confirm:
                used = {t.user_attrs.get("seed") for t in same_mixture(sweep, mixture, every)}
                seed = next(s for s in range(len(used) + 1) if s not in used)
                enqueue(sweep, mixture, stage="confirm", size=spec.size, seed=seed)
        return len(first_attempts(sweep, "confirm")) - before


def same_mixture(sweep: Sweep, mixture: Floats, stages: Sequence[str]) -> list[FrozenTrial]:
    """First attempts of these stages at this mixture."""
    names = sweep.plan.spec.names
    return [
        t
        for t in first_attempts(sweep, *stages)
        if (shares := shares_of(t, names))
        and max(abs(shares[n] - x) for n, x in zip(names, mixture, strict=True)) < 1e-6
    ]


def shares_of(trial: FrozenTrial, names: Sequence[str]) -> dict[str, float] | None:
    """A trial's mixture; None while the sampler has yet to choose it."""
    given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    return {name: given[name] for name in names} if all(name in given for name in names) else None


def trial_number(trial: FrozenTrial) -> int:
    """The number of a trial, which is that of its first attempt."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def requeue_failed(sweep: Sweep) -> None:
    """Enqueues lost trials again."""
    for trial in lost_trials(sweep):
        requeue(sweep, trial)


def lost_trials(sweep: Sweep) -> list[FrozenTrial]:
    """Last attempts that failed: their workers met an error, or there were too many faults."""
    followed = {n for t in sweep.trials for n in t.system_attrs.get("retry_history", [])}
    return [t for t in sweep.trials if t.state == TrialState.FAIL and t.number not in followed]


def requeue(sweep: Sweep, trial: FrozenTrial) -> None:
    """Enqueues a failed trial again, as its next attempt."""
    with quiet():
        RetryHeartbeatStaleTrialCallback()(sweep.study, copy.deepcopy(trial))  # the callback changes its argument


def fail_stale_trials(sweep: Sweep) -> None:
    """Fails trials whose worker sends no heartbeat, and enqueues them again."""
    with quiet():
        optuna.storages.fail_stale_trials(sweep.study)
