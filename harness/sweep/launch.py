"""Launchers of workers: processes on this machine, or Slurm jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.config import load_yaml
from harness.errors import ConfigError, TrialError

#: How many workers that died by a signal are replaced, in all.
_REPLACEMENTS = 10
_POLL_S = 0.5


def worker_command(folder: Path, *, device: str, track: bool, nproc: int = 1) -> list[str]:
    """The command line of one worker."""
    command = [sys.executable, "-m", "harness", "sweep", "worker", str(folder), "--device", device]
    command += ["--nproc", str(nproc)] if nproc > 1 else []
    return command if track else [*command, "--no-tracking"]


def run_local(
    folder: Path,
    number: int,
    *,
    device: str = "cpu",
    track: bool = True,
    nproc: int = 1,
    tick: Callable[[], None] | None = None,
) -> None:
    """Runs workers as processes of this machine until all have ended; their output goes to `logs/`.

    A worker killed by a signal is replaced. Interrupting this process interrupts the workers.

    Args:
        folder: of the sweep.
        number: of workers.
        device: of each; with `cuda` each worker has its own GPUs, shared in turn if there are too few.
        track: log trials to MLflow.
        nproc: processes of a trial.
        tick: called while waiting.

    Raises:
        TrialError: if a worker ended with an error, with the end of its log.
    """
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // number))
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    started = 0

    def start(index: int) -> tuple[subprocess.Popen[bytes], Path]:
        nonlocal started
        started += 1
        log = folder / "logs" / f"worker-{index}.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                worker_command(folder, device=device, track=track, nproc=nproc),
                env=environment | (_gpus(index, nproc) if device == "cuda" else {}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        return process, log

    workers = {index: start(index) for index in range(number)}
    failed: list[tuple[int, Path]] = []
    try:
        while workers:
            time.sleep(_POLL_S)
            if tick:
                tick()
            for index, code, log in _take_ended(workers):
                if code < 0 and started < number + _REPLACEMENTS:
                    workers[index] = start(index)
                elif code:
                    failed.append((code, log))
    finally:
        for process, _ in workers.values():
            process.terminate()
        for process, _ in workers.values():
            process.wait()
    if failed:
        code, log = failed[0]
        raise TrialError(f"{len(failed)} of {number} workers failed (code {code}); the end of {log}:\n{tail(log)}")


def _take_ended(workers: dict[int, tuple[subprocess.Popen[bytes], Path]]) -> list[tuple[int, int, Path]]:
    """Removes the workers that have ended, and says of each its index, exit code and log."""
    codes = [(index, process.poll(), log) for index, (process, log) in workers.items()]
    ended = [(index, code, log) for index, code, log in codes if code is not None]
    for index, _, _ in ended:
        del workers[index]
    return ended


def _gpus(index: int, nproc: int) -> dict[str, str]:
    """The environment in which a worker sees its own GPUs only."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
    if len(names) < nproc:
        raise ConfigError(f"--nproc {nproc} with --device cuda needs as many GPUs; there are {len(names)}.")
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[(index * nproc + i) % len(names)] for i in range(nproc))}


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-lines:])


def submit(
    folder: Path,
    number: int,
    options: Sequence[str],
    *,
    device: str = "cpu",
    track: bool = True,
    nproc: int = 1,
    cluster: str = "slurm",
) -> list[Any]:
    """Submits workers to Slurm through submitit, one job each.

    Args:
        folder: of the sweep, on a file system that all nodes share.
        number: of workers.
        options: `key=value` of submitit, such as `slurm_partition=gpu`, `timeout_min=240`.
        device: of each.
        track: log trials to MLflow.
        nproc: processes of a trial, in the worker's job.
        cluster: `slurm`, or `local` for submitit's jobs on this machine.

    Returns:
        The jobs, of submitit's type.

    Raises:
        ConfigError: if submitit is not installed, or an option is not `key=value`.
    """
    try:
        import submitit
    except ImportError:
        raise ConfigError("The launcher slurm needs submitit: pip install 'sutlm-harness[cluster]'.") from None
    executor = submitit.AutoExecutor(folder=folder / "logs" / "%j", cluster=cluster)
    executor.update_parameters(name=f"sweep-{folder.name}", **_options(options))
    command = worker_command(folder.absolute(), device=device, track=track, nproc=nproc)
    return [executor.submit(subprocess.run, command, check=True) for _ in range(number)]


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    options = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ConfigError(f"--slurm {pair}: write it as key=value, such as slurm_partition=gpu.")
        options[key] = load_yaml(value)
    return options


def wait_for(jobs: Sequence[Any], tick: Callable[[], None] | None = None) -> None:
    """Returns when all jobs have ended.

    Raises:
        TrialError: if one failed, with the end of its log.
    """
    while not all(job.done() for job in jobs):
        time.sleep(_POLL_S)
        if tick:
            tick()
    if failed := [job for job in jobs if job.exception() is not None]:
        raise TrialError(f"{len(failed)} of {len(jobs)} jobs failed: {failed[0].exception()}")
