"""Where a sweep stands."""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from harness.errors import HarnessError
from harness.sweep.queue import lost, origin, shares_of, slots
from harness.sweep.storage import DONE
from harness.sweep.study import Sweep
from harness.sweep.trial import Outcome, read_outcome, trial_folder


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
        "asked": len(slots(sweep, "design", "adaptive", "transfer", "confirm")),
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
    return {"value": found.values[index], "trial": origin(found), "mixture": shares_of(found, sweep.plan.spec.names)}


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
