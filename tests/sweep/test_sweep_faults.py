"""Workers that are killed, suspended, stopped and joined late: every trial is done once, none is lost."""

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import time
from dataclasses import replace

import pytest
import torch
from mlflow import MlflowClient
from optuna.trial import TrialState

from harness.sweep.queue import trial_number
from harness.sweep.run import report_sweep, start_sweep
from harness.sweep.status import status, trial_results
from harness.sweep.storage import storage_url
from harness.sweep.tracking import end_silent_runs
from harness.sweep.trial import TrialSpec, run_trial
from harness.tracking.storage import ensure_schema
from harness.training.train import training_data
from tests.postgresql import cluster
from tests.toy_sweep import FREEZE, GO, HELD_AT, frozen, quick_faults, toy_spec, work

# How MLflow uses its libraries: raised when its database classes are first used, here by the tests themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TRIALS, STEPS = 14, 60
#: On a busy machine; what is waited for happens within seconds otherwise.
PATIENCE_S = 240


class Crew:
    """Worker processes, forked from one that has imported everything."""

    def __init__(self, sweep, storage, tracking):
        self.sweep, self.storage = sweep, storage
        urls = [storage_url(sweep.plan, sweep.folder, tracking.sweep), tracking.uri]
        self.files = [url.removeprefix("sqlite:///") for url in urls if url.startswith("sqlite:///")]
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.toy_sweep", "mlflow", "harness.tasks.cra"])
        self.workers = []

    def join(self):
        arguments = (self.sweep.folder, self.storage, os.environ["HARNESS_HOME"])
        worker = self.context.Process(target=work, args=arguments)
        worker.start()
        self.workers.append(worker)
        return worker

    def freeze(self):
        """Suspends a worker in the middle of a trial's training, and returns both."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            (self.sweep.folder / FREEZE).touch()
            self.wait(lambda: frozen(self.sweep.folder))
            (pid,) = frozen(self.sweep.folder)
            (self.sweep.folder / f"frozen-{pid}").unlink()
            if self.writable():
                worker = next(w for w in self.workers if w.pid == pid)
                return worker, next(t for t in self.running() if t.user_attrs["worker"].endswith(f":{pid}"))
            os.kill(pid, signal.SIGCONT)
        raise AssertionError(f"whoever is suspended holds a database: {status(self.sweep)}")

    def running(self):
        return [t for t in self.sweep.trials if t.state == TrialState.RUNNING]

    def writable(self):
        """Whether no suspended process holds a database file that the others need."""
        for file in self.files:
            with contextlib.closing(sqlite3.connect(file, timeout=2)) as database:
                try:
                    database.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    return False
        return True

    def wait(self, condition):
        until = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until, status(self.sweep)
            time.sleep(0.1)

    def dismiss(self):
        for worker in self.workers:
            if worker.is_alive():
                os.kill(worker.pid, signal.SIGKILL)
            worker.join()


def survive(toy, storage):
    tracking = quick_faults(storage=storage)
    ensure_schema(tracking)
    folder = toy / ("postgresql" if storage else "sqlite")
    # A name of its own: both studies log to one tracking store.
    spec = replace(toy_spec(toy, trials=TRIALS, tokens=256 * STEPS), name=f"toy-{folder.name}")
    sweep = start_sweep(spec, folder, tracking)
    crew = Crew(sweep, storage, tracking)
    try:
        for _ in range(3):
            crew.join()
        killed, first = crew.freeze()
        os.kill(killed.pid, signal.SIGKILL)
        suspended, second = crew.freeze()
        stopped, third = crew.freeze()
        os.kill(stopped.pid, signal.SIGTERM)
        os.kill(stopped.pid, signal.SIGCONT)
        (folder / GO).touch()
        for _ in range(2):
            crew.join()
        crew.wait(lambda: sweep.trials[second.number].state == TrialState.FAIL)  # taken from it
        os.kill(suspended.pid, signal.SIGCONT)
        for worker in crew.workers:
            worker.join(PATIENCE_S)
        assert [w.exitcode for w in crew.workers] == [-signal.SIGKILL if w is killed else 0 for w in crew.workers]
        check(sweep, tracking, [first, second, third])
    finally:
        crew.dismiss()
        sweep.close()


def check(sweep, tracking, disturbed):
    now = status(sweep)
    assert now["states"]["COMPLETE"] == now["done"] == now["asked"] == TRIALS
    assert set(now["states"]) == {"COMPLETE", "FAIL"}  # nothing runs, nothing waits
    assert now["lost"] == []
    done = {o.spec.number: o for o in trial_results(sweep)}
    assert len(done) == TRIALS
    for trial in disturbed:
        assert done[trial_number(trial)].resumed_from == HELD_AT
    runs = MlflowClient(tracking.uri).search_runs(["1"], f"tags.kind = 'trial' and tags.study = '{sweep.plan.study}'")
    assert sorted(r.data.tags["trial"] for r in runs) == sorted(map(str, done))
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert all(r.data.metrics["cra.t2t.gold_nll"] > 0 for r in runs)
    undisturbed(sweep, done[trial_number(disturbed[0])])
    summarized(sweep, tracking, disturbed[0])


def undisturbed(sweep, result):
    """A trial that was killed and went on gave what it gives without."""
    data = training_data(sweep.plan.cards["proxy"])
    spec = TrialSpec(0, 0, result.spec.mixture, result.spec.seed, "proxy", "design")
    torch.set_num_threads(1)  # as the workers have it: sums over threads depend on how many there are
    alone = run_trial(sweep.plan, spec, sweep.folder / "alone", data=data)
    assert alone.metrics == result.metrics
    assert alone.realized == result.realized


def summarized(sweep, tracking, trial):
    """Runs that dead workers left open are ended; the report is one run, replaced by the next."""
    client = MlflowClient(tracking.uri)
    tags = {"kind": "trial", "study": sweep.plan.study, "trial_key": f"{sweep.plan.study}/{trial_number(trial)}"}
    left = client.create_run("1", tags=tags).info.run_id
    end_silent_runs(sweep)
    assert client.get_run(left).info.status == "KILLED"
    for _ in range(2):
        written = report_sweep(sweep)
        runs = client.search_runs(["1"], f"tags.kind = 'sweep' and tags.study = '{sweep.plan.study}'")
        assert len(runs) == 1
        best = written.summary["optima"]["cra.t2t.gold_nll"]["value"]
        assert runs[0].data.metrics["best/cra.t2t.gold_nll"] == best
        assert "report.html" in [file.path for file in client.list_artifacts(runs[0].info.run_id)]


@pytest.mark.slow
def test_on_sqlite(toy):
    survive(toy, None)


@pytest.mark.slow
def test_on_postgresql(toy):
    pytest.importorskip("psycopg", reason="needs psycopg: pip install -e '.[dev,cluster]'")
    with cluster() as one:
        one.query("postgres", "CREATE ROLE sweep LOGIN PASSWORD 'trials' CREATEDB")
        one.query("postgres", "CREATE DATABASE sweep OWNER sweep")
        survive(toy, f"postgresql://sweep:trials@127.0.0.1:{one.port}/sweep")
