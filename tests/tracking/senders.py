"""Processes that log a run, and what they leave in the store."""

import subprocess
import sys

from mlflow import MlflowClient

#: Logs a run as `harness run` does at its end.
LOG = """
import sys
from pathlib import Path
from harness.results import read_results
from harness.tracking.config import load_tracking_config
from harness.tracking.outbox import log_or_queue
from harness.tracking.storage import TrackingError
result = read_results(Path(sys.argv[1]))
try:
    log_or_queue(result, load_tracking_config(), infos={}, folder=Path(sys.argv[1]))
except TrackingError as error:
    sys.exit(f"not sent: {error}")
"""
#: The same, held when the run is there and its numbers and files are not, until its standard input ends.
HELD_LOG = """
import sys
from mlflow import MlflowClient
send = MlflowClient.log_batch
def held(*args, **kwargs):
    print("made", flush=True)
    sys.stdin.read()
    return send(*args, **kwargs)
MlflowClient.log_batch = held
""" + LOG  # fmt: skip


def held_sender(folder):
    """A process that has made the run of `folder` and goes on when it is communicated with."""
    pipe = subprocess.PIPE
    sender = subprocess.Popen([sys.executable, "-c", HELD_LOG, folder], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert sender.stdout.readline() == "made\n"
    return sender


def active(uri, run_id):
    """Runs of a `run_id` that are not deleted, in the database or at the server `uri`."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sutlm")
    return client.search_runs([experiment.experiment_id], f"tags.run_id = '{run_id}'") if experiment else []
