"""One trial as a job of several processes, each of which takes its rows of every batch: what `--nproc` starts.

The worker keeps the job's standard input open and writes to it now and then. A job that hears nothing stands still: its
worker may be suspended, and the trial given to another. A job whose worker has died ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.config import plain
from harness.engine.distributed import Processes
from harness.errors import HarnessError
from harness.sweep.launch import tail
from harness.sweep.plan import read_plan
from harness.sweep.trial import TrialResult, TrialSpec, read_result, run_trial, trial_folder
from harness.training.loop import DivergedError, TrainingStep
from harness.training.train import training_data

_POLL_S = 0.2
#: Until a job that was asked to end is ended.
_PATIENCE_S = 30


@dataclass(frozen=True)
class TrialJob:
    """How a trial is run.

    Attributes:
        nproc: processes, all on this machine.
        device: where they train; `cuda` gives each its own.
        silence_s: how long a job goes on without a sign of its worker.
    """

    nproc: int
    device: str = "cpu"
    silence_s: float = 30.0


def run_job(
    folder: Path, spec: TrialSpec, job: TrialJob, *, on_step: Callable[[TrainingStep], None], check: Callable[[], None]
) -> TrialResult:
    """Runs one trial of a prepared sweep under torchrun and returns what it gave.

    Args:
        folder: of the sweep.
        spec: what to do.
        job: how.
        on_step: called with every validation; what it raises ends the job.
        check: called all the while; likewise.

    Raises:
        DivergedError: if a loss stops being finite.
        HarnessError: if a process fails, with the end of the job's log.
    """
    said, log = _said(folder, spec), folder / "logs" / f"trial-{spec.number:05d}.log"
    for path in (said, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    said.write_text("")
    with log.open("ab") as stream, said.open() as lines:
        hear, speak = os.pipe()
        os.set_blocking(speak, False)
        process = subprocess.Popen(
            _command(folder, spec, job), env=_environment(job.nproc), stdin=hear, stdout=stream, stderr=stream
        )
        os.close(hear)
        try:
            for line in _followed(process, lines, speak, check):
                if "diverged" in line:
                    raise DivergedError(line["diverged"])
                if "failed" in line:
                    raise HarnessError(f"The job of trial {spec.number} failed: {line['failed']}")
                on_step(TrainingStep(**line))
        finally:
            os.close(speak)
            _end(process)
    result = read_result(trial_folder(folder, spec.number))
    if process.returncode or result is None:
        raise HarnessError(
            f"The job of trial {spec.number} failed (code {process.returncode}); {log} ends:\n{tail(log)}"
        )
    return result


def _said(folder: Path, spec: TrialSpec) -> Path:
    """What the job of an attempt tells its worker, line by line."""
    return trial_folder(folder, spec.number) / f"job-{spec.attempt}.jsonl"


def _command(folder: Path, spec: TrialSpec, job: TrialJob) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(job.nproc)]
    return [*torchrun, "-m", __name__, str(folder), json.dumps(plain(spec)), json.dumps(plain(job))]


def _environment(nproc: int) -> dict[str, str]:
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    return {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // nproc))}


def _followed(
    process: subprocess.Popen[bytes], lines: IO[str], speak: int, check: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """What the job says, until it has ended; it is told meanwhile that its worker is there."""
    rest = ""
    while True:
        ended = process.poll() is not None  # before reading, so that the last line is not missed
        *whole, rest = (rest + lines.read()).split("\n")
        yield from map(json.loads, whole)
        if ended:
            return
        check()
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(speak, b".")
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()  # its processes end when they find nobody to talk to
        process.wait()


class ParentWatchdog(threading.Thread):
    """Listens for the worker on standard input."""

    def __init__(self, silence_s: float) -> None:
        super().__init__(daemon=True)
        self._silence_s, self._heard = silence_s, time.monotonic()

    def run(self) -> None:
        """Ends this process, and so the job, when the worker has died."""
        while os.read(0, 1024):
            self._heard = time.monotonic()
        os._exit(1)

    def hold(self) -> None:
        """Stands still while the worker is silent."""
        while time.monotonic() - self._heard > self._silence_s:
            time.sleep(_POLL_S)


def main(arguments: list[str]) -> None:
    """The life of one of the processes."""
    folder, spec, job = (
        Path(arguments[0]),
        TrialSpec(**json.loads(arguments[1])),
        TrialJob(**json.loads(arguments[2])),
    )
    processes, plan = Processes.of_environment(), read_plan(folder)
    watchdog = ParentWatchdog(job.silence_s)
    if processes.rank == 0:
        watchdog.start()

    def say(content: dict[str, Any]) -> None:
        if processes.rank == 0:
            with _said(folder, spec).open("a") as stream:
                stream.write(json.dumps(content) + "\n")

    def on_step(step: TrainingStep) -> None:
        hold()
        if step.dev:
            say(plain(step))

    def hold(*_: object) -> None:
        if processes.rank == 0:
            watchdog.hold()

    device = processes.device(job.device)
    data = training_data(plan.cards[spec.size], device=device)
    with processes.connected():
        try:
            run_trial(plan, spec, folder, data=data, device=device, on_step=on_step, progress=hold, processes=processes)
        except DivergedError as error:  # all processes find it at the same step
            say({"diverged": str(error)})
        except HarnessError as error:
            say({"failed": str(error)})
            raise SystemExit(1) from None


if __name__ == "__main__":
    main(sys.argv[1:])
