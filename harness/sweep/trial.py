"""One trial: trains the proxy on a mixture, evaluates it and records its result."""

from __future__ import annotations

import json
import math
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config import plain
from harness.engine.distributed import ALONE, Processes
from harness.errors import TrainingError
from harness.evaluation.evaluate import evaluate
from harness.files import write_json
from harness.progress import ProgressCallback
from harness.results import Metric
from harness.sweep.plan import SweepPlan, evaluation, load_trained, trial_card
from harness.training.loop import TrainingStep
from harness.training.train import TrainingData, train_model

RECORD = "trial.json"
#: Attempts to copy a state that is being replaced.
_COPIES = 20


@dataclass(frozen=True)
class TrialSpec:
    """What one trial trains.

    Attributes:
        number: of the trial, which is that of its first attempt.
        attempt: 0 for the first, one more with every retry.
        mixture: share of each part.
        seed: of weights and data order.
        size: of the proxy.
        stage: `design`, `adaptive`, `transfer` (another size) or `confirm`.
    """

    number: int
    attempt: int
    mixture: dict[str, float]
    seed: int
    size: str
    stage: str


@dataclass(frozen=True)
class TrialResult:
    """The result of one trial; the content of `trial.json`.

    Attributes:
        spec: what was trained.
        metrics: of every task.
        realized: tokens, samples, shares and epochs of each part, as trained.
        losses: validation losses at the end (nats per token).
        steps: optimizer steps.
        tokens: tokens seen.
        flops: 6 · parameters · tokens (Kaplan et al. 2020), without the position embeddings.
        train_s: seconds of training in the last attempt.
        evaluate_s: seconds of evaluation.
        peak_memory_bytes: of the process, or of the GPU if it trained on one; summed over processes.
        resumed_from: step from which the last attempt resumed; 0 if it started anew.
        versions: of the packages that decide numbers.
    """

    spec: TrialSpec
    metrics: dict[str, Metric]
    realized: dict[str, dict[str, float]]
    losses: dict[str, float]
    steps: int
    tokens: int
    flops: float
    train_s: float
    evaluate_s: float
    peak_memory_bytes: int
    resumed_from: int
    versions: dict[str, str] = field(default_factory=dict)


def trial_folder(folder: Path, number: int) -> Path:
    """The folder of a trial, the same for all attempts."""
    return folder / "trials" / f"{number:05d}"


def run_trial(
    plan: SweepPlan,
    spec: TrialSpec,
    folder: Path,
    *,
    data: TrainingData,
    device: str = "cpu",
    on_step: Callable[[TrainingStep], None] | None = None,
    progress: ProgressCallback | None = None,
    processes: Processes = ALONE,
) -> TrialResult:
    """Trains and evaluates; an attempt resumes from the last state that an earlier one saved.

    Args:
        plan: of the sweep.
        spec: what to train.
        folder: of the sweep.
        data: of training, shared by all trials.
        device: where to train and evaluate.
        on_step: called after every step; an exception from it ends the trial.
        progress: called during evaluation; likewise.
        processes: those that share the trial, connected; each of them returns the result, the first one writes it.

    Raises:
        DivergedError: if a loss stops being finite.
    """
    own = trial_folder(folder, spec.number)
    first = processes.rank == 0
    finished = processes.gather(read_result(own))[0]
    if finished and finished.spec.mixture == spec.mixture and finished.spec.seed == spec.seed:
        return finished  # an earlier attempt ended before it could report it
    state = processes.gather(take_over(own, spec.attempt) if first else own)[0]
    resumed_from = saved_step(state)
    card = trial_card(
        plan,
        spec.mixture,
        seed=spec.seed,
        size=spec.size,
        name=f"{plan.spec.name}-{spec.number:05d}",
    )
    _reset_peak_memory(device)
    start = time.perf_counter()
    checkpoint = state.with_name(f"checkpoint-{spec.attempt}")
    trained = train_model(
        card, data=data, state=state, output=checkpoint, device=device, on_step=on_step, processes=processes
    )
    trained_at = time.perf_counter()
    model = load_trained(card, trained.checkpoint, device=device)
    evaluated = evaluate(model, evaluation(plan.spec), progress=progress, processes=processes)
    result = TrialResult(
        spec=spec,
        metrics=evaluated.metrics,
        realized=trained.realized,
        losses={key: value for key, value in trained.losses.items() if key.startswith("dev_")},
        steps=trained.steps,
        tokens=trained.tokens,
        flops=6.0 * num_parameters(trained.checkpoint) * trained.tokens,
        train_s=trained_at - start,
        evaluate_s=time.perf_counter() - trained_at,
        peak_memory_bytes=sum(processes.gather(_peak_memory(device))),
        resumed_from=resumed_from,
        versions=evaluated.protocol["versions"],
    )
    if first:
        write_json(own / RECORD, plain(result))
        _keep_only(own, checkpoint)
    return result


def num_parameters(checkpoint: Path) -> int:
    """Parameters of the decoder without its position embeddings; tied embeddings count once."""
    from safetensors import safe_open

    with safe_open(checkpoint / "model.safetensors", framework="pt") as weights:
        names = [name for name in weights.keys() if "embed_positions" not in name]  # noqa: SIM118
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in names)


def take_over(folder: Path, attempt: int) -> Path:
    """The state folder of an attempt, with the latest state that earlier attempts saved.

    Each attempt has its own folder: the process of an earlier one may only be suspended, and write into its
    folder later.
    """
    state = folder / f"state-{attempt}"
    if saved_step(state) or not attempt:
        return state
    # A process killed between the two renames of a save leaves its last state under `.old`.
    earlier = [p for p in folder.glob("state-*") if p.suffix in ("", ".old") and saved_step(p)]
    if earlier:
        copy_state(max(earlier, key=saved_step), state)
    return state


def copy_state(source: Path, target: Path) -> None:
    """Copies a saved state that its owner may replace at any moment; the copy has the files of one save.

    Raises:
        TrainingError: if every attempt to copy it was interrupted by a save.
    """
    part = target.with_name(target.name + ".copy")
    for _ in range(_COPIES):
        shutil.rmtree(part, ignore_errors=True)
        try:
            before = (source / "state.json").read_bytes()
            shutil.copytree(source, part)
            if before == (part / "state.json").read_bytes() == (source / "state.json").read_bytes():
                part.replace(target)
                return
        except (FileNotFoundError, shutil.Error):
            pass  # replaced in between
        time.sleep(0.1)
    raise TrainingError(f"{source} is replaced faster than it can be copied; is another process training there?")


def saved_step(state: Path) -> int:
    """The step that a state folder holds; 0 if it holds none."""
    try:
        return int(json.loads((state / "state.json").read_text("utf-8"))["step"])
    except FileNotFoundError:
        return 0


def read_result(folder: Path) -> TrialResult | None:
    """The result in a trial's folder, if it has one."""
    try:
        content: dict[str, Any] = json.loads((folder / RECORD).read_text("utf-8"))
    except FileNotFoundError:
        return None
    metrics = {key: Metric.of(value) for key, value in content["metrics"].items()}
    return TrialResult(**{**content, "spec": TrialSpec(**content["spec"]), "metrics": metrics})


def _keep_only(folder: Path, checkpoint: Path) -> None:
    """Removes what a finished trial does not need: states to resume from, and other attempts' checkpoints."""
    for path in folder.iterdir():
        if path != checkpoint and path.name.startswith(("state-", "checkpoint-", "job-")):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _reset_peak_memory(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak counts from here
    except OSError:
        return


def _peak_memory(device: str) -> int:
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
