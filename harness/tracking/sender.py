"""A process that opens the tracking store while an evaluation runs, and then sends its results.

Importing MLflow and opening its database costs seconds; beside an evaluation that needs as long itself they cost none.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.config import plain
from harness.tracking.config import TrackingConfig, tracking_config
from harness.tracking.evaluations import LoggedRun
from harness.tracking.outbox import log_or_queue, queue
from harness.tracking.storage import TrackingError, open_store

if TYPE_CHECKING:
    from harness.results import RunResult
    from harness.task import TaskInfo


class ResultSender:
    """Sends results from a process of its own, which starts at once; use it in `with`, or call `close`.

    Args:
        config: where to.

    Attributes:
        pid: of the process.
    """

    def __init__(self, config: TrackingConfig) -> None:
        # The working directory may hold a folder called mlflow: PYTHONSAFEPATH keeps it off the import path.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.tracking.sender"],
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.pid, self._idle = self._process.pid, False
        with contextlib.suppress(BrokenPipeError):  # reported when something is to be sent
            self._write(plain(config))

    def send(self, result: RunResult, *, infos: Mapping[str, TaskInfo], folder: Path) -> LoggedRun:
        """Sends a result, already written to `folder`, and waits until it has arrived; `sync` sends what has not.

        Raises:
            TrackingError: if any of it did not arrive.
        """
        queue(result.run_id, folder)
        self._idle = False
        try:
            self._write({"folder": str(folder.absolute()), "infos": plain(infos)})
            answer = self._stream(self._process.stdout).readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise TrackingError(f"The process that sends run {result.run_id} to the tracking store has ended.")
        self._idle = True
        found = json.loads(answer)
        if "problem" in found:
            raise TrackingError(found["problem"])
        return LoggedRun(found["run_id"], found["url"])

    def close(self) -> None:
        """Ends the process; a run that it has not sent whole is marked as failed, and `sync` sends it again."""
        if self._idle:
            self._process.kill()  # it has nothing to put in order, and shutting down takes a while
        else:
            self._process.terminate()
        self._process.communicate()

    def __enter__(self) -> ResultSender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, message: Mapping[str, Any]) -> None:
        stream = self._stream(self._process.stdin)
        stream.write(json.dumps(message) + "\n")
        stream.flush()

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        if stream is None:
            raise TrackingError("The process that sends results has no pipe.")
        return stream


def serve() -> None:
    """The process: reads its settings and then one result after the other from standard input, answers each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the harness, which ends this process
    signal.signal(signal.SIGTERM, _leave)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    settings = sys.stdin.readline()
    if not settings:
        return
    config = tracking_config(json.loads(settings), where="tracking settings")
    gc.disable()  # while modules are imported there is nothing to collect, and looking takes a quarter of the time
    with contextlib.suppress(TrackingError):  # reported when something is to be sent
        open_store(config)
    gc.freeze()
    gc.enable()
    for line in sys.stdin:
        print(json.dumps(_answer(config, json.loads(line))), file=answers, flush=True)


def _answer(config: TrackingConfig, message: Mapping[str, Any]) -> dict[str, str | None]:
    from harness.config import build
    from harness.results import read_results
    from harness.task import TaskInfo

    folder = Path(message["folder"])
    infos = {name: build(TaskInfo, info, where=f"task '{name}'") for name, info in message["infos"].items()}
    try:
        logged = log_or_queue(read_results(folder), config, infos=infos, folder=folder)
    except TrackingError as error:
        return {"problem": str(error)}
    return {"run_id": logged.run_id, "url": logged.url}


def _leave(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    serve()
