"""A sweep of a real, very small training: a dozen spoken sentences, one layer, a second a trial."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.study import StudyDirection

import harness.sweep.worker
from harness.config import build
from harness.model import read_card
from harness.sweep.plan import SweepPlan
from harness.sweep.queue import enqueue_main
from harness.sweep.signals import TerminatedError
from harness.sweep.simplex import Repetition
from harness.sweep.spec import SweepSpec
from harness.sweep.storage import open_storage, storage_url
from harness.sweep.study import Sweep, load_study, open_sweep
from harness.sweep.trial import TrialResult, TrialSpec, run_trial
from harness.sweep.worker import Worker
from harness.tracking.config import TrackingConfig, load_tracking_config
from harness.training.loop import TrainingStep
from tests.toy import copy_utterances, toy_card


def toy_folder(folder: Path) -> Path:
    """Fills `folder` with utterances of demo and the card of a tiny proxy."""
    copy_utterances(folder, dev=4)
    card = toy_card(
        folder, batch_tokens=256, learning_rate=0.01, warmup_steps=2, schedule="wsd", eval_every=20, checkpoint_every=5
    )
    (folder / "toy.yaml").write_text(yaml.safe_dump(card))
    return folder


def toy_spec(folder: Path, **changes) -> SweepSpec:
    """Three parts, ten designed mixtures and more, evaluated by retrieval among four texts."""
    return build(SweepSpec, toy_data(folder, **changes), where="toy sweep")


def toy_data(folder: Path, **changes) -> dict[str, Any]:
    """The same as in YAML."""
    data = {
        "name": "toy",
        "card": str(folder / "toy.yaml"),
        "tokens": 256 * 40,
        "parts": {"speech": {}, "text": {}, "ast": {}},
        "max_epochs": 100,
        "corpus": str(folder / "dev.jsonl"),
        "split": "test",
        "tasks": {"cra": {"n": 4, "directions": ["t2t", "u2t"], "full_scores": True}},
        "objectives": ["cra.t2t.gold_nll"],
        "trials": 6,
        "sampler": {"lattice": 10},
    }
    return {**data, **changes}


def quick_faults(**changes) -> TrackingConfig:
    """Tracking as configured, with a worker taken for dead after three seconds of silence."""
    return load_tracking_config(overrides={"sweep": {"heartbeat_s": 1, "grace_s": 3, "max_retry": 8, **changes}})


def work(folder: Path, storage: str | None, home: str, *, track: bool = True) -> None:
    """A worker process, held in each training; ends like `harness sweep worker` does."""
    os.environ["HARNESS_HOME"] = home
    import torch

    torch.set_num_threads(1)
    harness.sweep.worker.run_trial = _held(run_trial)
    sweep = open_sweep(folder, quick_faults(storage=storage))
    try:
        Worker(sweep, track=track, say=lambda line: None).run()
    except TerminatedError:
        raise SystemExit(0) from None


def work_when_ready(folder: Path, home: str) -> None:
    """The same without tracking, once `READY` is there: the process starts while the sweep is prepared."""
    while not (folder / READY).exists():
        time.sleep(0.02)
    work(folder, None, home, track=False)


def hand_made(folder: Path, trials: int, **faults) -> Sweep:
    """A sweep with waiting trials, made without training or evaluating anything."""
    spec = toy_spec(folder, trials=trials)
    repetition = Repetition((1e6,) * 3, (10,) * 3, float(spec.tokens), "tokens", 100.0)
    key, cards = "cra.t2t.gold_nll", {"proxy": read_card("sutlm-tiny")}
    plan = SweepPlan(spec, cards, repetition, {key: False}, {key: 5.0})
    tracking = quick_faults(**faults)
    storage = open_storage(storage_url(plan, folder, tracking.sweep), tracking.sweep, create=True)
    optuna.create_study(study_name=plan.study, storage=storage, directions=[StudyDirection.MINIMIZE])
    sweep = Sweep(plan, folder, load_study(plan, storage), tracking, storage)
    enqueue_main(sweep)
    return sweep


#: In a sweep's folder: workers may open it.
READY = "ready"
#: The step, just saved, after which trials are held: how fast a machine is must not decide what a test meets.
HELD_AT = 10
#: In a sweep's folder: the next worker that is held suspends itself.
FREEZE = "freeze"
#: In a sweep's folder: none is held any longer.
GO = "go"


def frozen(folder: Path) -> list[int]:
    """Process ids of workers that followed `FREEZE`; asked of Linux, as a file is there before the signal acts."""
    found = [int(path.name.rpartition("-")[2]) for path in folder.glob("frozen-*")]
    return [pid for pid in found if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"]


def _held(run: Callable[..., TrialResult]) -> Callable[..., TrialResult]:
    def run_held(
        plan: Any, spec: TrialSpec, folder: Path, *, on_step: Callable[[TrainingStep], None], **others: Any
    ) -> TrialResult:
        def hold(step: TrainingStep) -> None:
            on_step(step)
            while step.step == HELD_AT and not (folder / GO).exists():
                try:
                    (folder / FREEZE).rename(folder / f"frozen-{os.getpid()}")
                except FileNotFoundError:
                    time.sleep(0.02)
                else:
                    os.kill(os.getpid(), signal.SIGSTOP)
                on_step(step)

        return run(plan, spec, folder, on_step=hold, **others)

    return run_held
