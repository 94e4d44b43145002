"""The state of a sweep, and the results of its trials."""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from harness.errors import SweepError
from harness.sweep.queue import first_attempts, lost_trials, shares_of, trial_number
from harness.sweep.storage import DONE
from harness.sweep.study import Sweep
from harness.sweep.trial import TrialResult, read_result, trial_folder


def status(sweep: Sweep) -> dict[str, Any]:
    """The state of a sweep, as plain data.

    `states` counts attempts by Optuna's state; `done` of `asked` trials are complete or pruned; `running` names the
    worker of each trial; `best` is the best value so far of each objective with its mixture.
    """
    spec, trials = sweep.plan.spec, sweep.trials
    states = {state.name: sum(t.state == state for t in trials) for state in TrialState}
    return {
        "sweep": spec.name,
        "study": sweep.plan.study,
        "states": {name: number for name, number in states.items() if number},
        "done": sum(t.state in DONE for t in trials),
        "asked": len(first_attempts(sweep, "design", "adaptive", "transfer", "confirm")),
        "lost": [t.number for t in lost_trials(sweep)],
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
    return {
        "value": found.values[index],
        "trial": trial_number(found),
        "mixture": shares_of(found, sweep.plan.spec.names),
    }


def _finished(sweep: Sweep) -> list[FrozenTrial]:
    return [t for t in sweep.trials if t.state == TrialState.COMPLETE]


def trial_results(sweep: Sweep) -> list[TrialResult]:
    """The results of all complete trials, by number.

    Raises:
        SweepError: if a complete trial's record is gone.
    """
    found = []
    for trial in _finished(sweep):
        folder = trial_folder(sweep.folder, trial_number(trial))
        result = read_result(folder)
        if result is None:
            raise SweepError(
                f"Trial {trial_number(trial)} is complete but {folder} holds no record; restore the folder, or run the "
                "sweep again into another."
            )
        found.append(result)
    return sorted(found, key=lambda o: o.spec.number)
