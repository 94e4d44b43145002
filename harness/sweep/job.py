"""One trial as a torchrun job of several processes, each of which takes its rows of every batch (`--nproc`).

The worker holds the job's standard input open and writes to it at short intervals. A job that receives nothing pauses:
its worker may be suspended, and the trial given to another. A job whose worker has died ends.
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
from harness.errors import HarnessError, TrialError
from harness.sweep.launch import tail
from harness.sweep.plan import read_plan
from harness.sweep.trial import TrialResult, TrialSpec, read_result, run_trial, trial_folder
from harness.training.loop import DivergedError, TrainingStep
from harness.training.train import training_data

_POLL_S = 0.2
#: Seconds between asking a job to end and killing it.
_TERMINATION_S = 30


@dataclass(frozen=True)
class TrialJob:
    """How the processes of a trial are run.

    Attributes:
        nproc: processes, all on this machine.
        device: where they train; with `cuda` each has its own GPU.
        silence_s: seconds without a message from the worker after which the job pauses.
    """

    nproc: int
    device: str = "cpu"
    silence_s: float = 30.0


def run_job(
    folder: Path, spec: TrialSpec, job: TrialJob, *, on_step: Callable[[TrainingStep], None], check: Callable[[], None]
) -> TrialResult:
    """Runs one trial of a prepared sweep under torchrun.

    Args:
        folder: of the sweep.
        spec: what to train.
        job: its processes.
        on_step: called with every validation; an exception from it ends the job.
        check: called several times a second; likewise.

    Raises:
        DivergedError: if a loss stops being finite.
        TrialError: if a process fails, with the end of the job's log.
    """
    messages, log = _messages_path(folder, spec), folder / "logs" / f"trial-{spec.number:05d}.log"
    for path in (messages, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    messages.write_text("")
    with log.open("ab") as stream, messages.open() as lines:
        job_end, worker_end = os.pipe()
        os.set_blocking(worker_end, False)
        process = subprocess.Popen(
            _command(folder, spec, job), env=_environment(job.nproc), stdin=job_end, stdout=stream, stderr=stream
        )
        os.close(job_end)
        try:
            for line in _followed(process, lines, worker_end, check):
                if "diverged" in line:
                    raise DivergedError(line["diverged"])
                if "failed" in line:
                    raise TrialError(f"The job of trial {spec.number} failed: {line['failed']}")
                on_step(TrainingStep(**line))
        finally:
            os.close(worker_end)
            _end(process)
    result = read_result(trial_folder(folder, spec.number))
    if process.returncode or result is None:
        raise TrialError(f"The job of trial {spec.number} failed (code {process.returncode}); {log} ends:\n{tail(log)}")
    return result


def _messages_path(folder: Path, spec: TrialSpec) -> Path:
    """The file of an attempt's messages from the job to its worker, JSON Lines."""
    return trial_folder(folder, spec.number) / f"job-{spec.attempt}.jsonl"


def _command(folder: Path, spec: TrialSpec, job: TrialJob) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(job.nproc)]
    return [*torchrun, "-m", __name__, str(folder), json.dumps(plain(spec)), json.dumps(plain(job))]


def _environment(nproc: int) -> dict[str, str]:
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    return {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // nproc))}


def _followed(
    process: subprocess.Popen[bytes], lines: IO[str], pipe: int, check: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Yields the job's messages until it has ended, and writes to its standard input meanwhile."""
    rest = ""
    while True:
        ended = process.poll() is not None  # before reading, so that the last line is not missed
        *whole, rest = (rest + lines.read()).split("\n")
        yield from map(json.loads, whole)
        if ended:
            return
        check()
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(pipe, b".")
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_TERMINATION_S)
    except subprocess.TimeoutExpired:
        process.kill()  # the others end when their connection breaks
        process.wait()


class ParentWatchdog(threading.Thread):
    """Watches the worker, which writes to this process's standard input."""

    def __init__(self, silence_s: float) -> None:
        super().__init__(daemon=True)
        self._silence_s, self._received_at = silence_s, time.monotonic()

    def run(self) -> None:
        """Ends this process, and with it the job, when the worker has died."""
        while os.read(0, 1024):
            self._received_at = time.monotonic()
        os._exit(1)

    def wait(self) -> None:
        """Returns once the worker has written recently."""
        while time.monotonic() - self._received_at > self._silence_s:
            time.sleep(_POLL_S)


def main(arguments: list[str]) -> None:
    """Runs one of the job's processes."""
    folder, spec, job = (
        Path(arguments[0]),
        TrialSpec(**json.loads(arguments[1])),
        TrialJob(**json.loads(arguments[2])),
    )
    processes, plan = Processes.of_environment(), read_plan(folder)
    watchdog = ParentWatchdog(job.silence_s)
    if processes.rank == 0:
        watchdog.start()

    def send(content: dict[str, Any]) -> None:
        if processes.rank == 0:
            with _messages_path(folder, spec).open("a") as stream:
                stream.write(json.dumps(content) + "\n")

    def on_step(step: TrainingStep) -> None:
        wait()
        if step.dev:
            send(plain(step))

    def wait(*_: object) -> None:
        if processes.rank == 0:
            watchdog.wait()

    device = processes.device(job.device)
    data = training_data(plan.cards[spec.size], device=device)
    with processes.connected():
        try:
            run_trial(plan, spec, folder, data=data, device=device, on_step=on_step, progress=wait, processes=processes)
        except DivergedError as error:  # raised in all processes at the same step
            send({"diverged": str(error)})
        except HarnessError as error:
            send({"failed": str(error)})
            raise SystemExit(1) from None


if __name__ == "__main__":
    main(sys.argv[1:])
