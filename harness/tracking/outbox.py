"""A queue of results to be sent, under `$HARNESS_HOME`, from which each is removed when it has arrived."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import digest, home
from harness.errors import ResultsError
from harness.files import lock_of, write_json
from harness.results import RunResult, read_results
from harness.tracking.config import TrackingConfig
from harness.tracking.evaluations import LoggedRun, log_run
from harness.tracking.storage import TrackingError

if TYPE_CHECKING:
    from harness.task import TaskInfo


@dataclass(frozen=True, slots=True)
class Sent:
    """What `sync` did with one run.

    Attributes:
        run_id: of the harness.
        folder: its results.
        logged: where it went; None if it could not be sent.
        problem: why not.
    """

    run_id: str
    folder: Path
    logged: LoggedRun | None
    problem: str = ""


def log_or_queue(
    result: RunResult, config: TrackingConfig, *, infos: Mapping[str, TaskInfo], folder: Path
) -> LoggedRun:
    """`log_run`, with an entry in the queue until the run has arrived, from which `sync` sends it.

    The entry is written first, so that neither a killed server nor a killed harness loses a result.

    Raises:
        TrackingError: as `log_run`; the result stays in the queue.
    """
    with lock_of(_note(result.run_id)):
        note = queue(result.run_id, folder)
        logged = log_run(result, config, infos=infos, folder=folder)
        note.unlink()
    return logged


def queue(run_id: str, folder: Path) -> Path:
    """Puts the results in `folder` into the queue; returns the path of the entry."""
    note = _note(run_id)
    write_json(note, {"run_id": run_id, "folder": str(folder.absolute())})
    return note


def unsent() -> list[Path]:
    """Results folders in the queue."""
    notes = (json.loads(path.read_text("utf-8")) for path in sorted(_unsent_folder().glob("*.json")))
    return [Path(note["folder"]) for note in notes]


def sync(
    config: TrackingConfig, infos: Callable[[RunResult], Mapping[str, TaskInfo]], folders: Sequence[Path] = ()
) -> Iterator[Sent]:
    """Sends every run of the queue, each once, however many processes send; stops where the store does not answer.

    A run that arrived in part before is replaced; so is one that is there already.

    Args:
        config: where to.
        infos: of a run's tasks.
        folders: results folders to send besides, from a machine without a network for example.

    Raises:
        ResultsError: if one of `folders` holds no finished run.
    """
    for folder in folders:
        result = read_results(folder)
        try:
            yield Sent(result.run_id, folder, log_or_queue(result, config, infos=infos(result), folder=folder))
        except TrackingError as error:
            yield Sent(result.run_id, folder, None, str(error))
            return
    for path in sorted(_unsent_folder().glob("*.json")):
        with lock_of(path):
            if not path.exists():  # somebody else has sent it meanwhile
                continue
            sent = _send_noted(path, config, infos)
        yield sent
        if sent.logged is None and path.exists():
            return


def _send_noted(path: Path, config: TrackingConfig, infos: Callable[[RunResult], Mapping[str, TaskInfo]]) -> Sent:
    note = json.loads(path.read_text("utf-8"))
    run_id, folder = str(note["run_id"]), Path(note["folder"])
    try:
        result = read_results(folder)
    except ResultsError as error:
        path.unlink()  # there is nothing to send any more
        return Sent(run_id, folder, None, f"{error} It is no longer queued.")
    if result.run_id != run_id:
        path.unlink()
        return Sent(run_id, folder, None, f"{folder} now holds run {result.run_id}. It is no longer queued.")
    try:
        logged = log_run(result, config, infos=infos(result), folder=folder)
    except TrackingError as error:
        return Sent(run_id, folder, None, str(error))
    path.unlink()
    return Sent(run_id, folder, logged)


def _unsent_folder() -> Path:
    return home() / "mlflow" / "unsent"


def _note(run_id: str) -> Path:
    return _unsent_folder() / f"{digest(run_id)[:24]}.json"
