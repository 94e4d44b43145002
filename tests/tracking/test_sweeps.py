"""Sweeps in a real SQLite store."""

import pytest

from harness.tracking.config import StoreConfig, TrackingConfig
from harness.tracking.storage import TrackingWarning
from harness.tracking.sweeps import (
    TrialLabels,
    TrialLogger,
    end_abandoned_trials,
    log_sweep_report,
    optimum_metrics,
    trial_metrics,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def runs(client, text):
    return client.search_runs([client.get_experiment_by_name("sutlm").experiment_id], text)


def labels(number, attempt=0, study="sweep-1"):
    return TrialLabels("sweep", study, number, attempt, "design")


def opened(store, number, **more):
    return TrialLogger(store, labels(number, **more), mixture={"text": 0.25, "speech": 0.75}, settings={"seed": 3})


def test_all_attempts_of_a_trial_are_one_run(store, client):
    first = opened(store, 4)
    first.log(10, {"loss": 2.0})
    first.abandon()
    second = opened(store, 4, attempt=1)
    second.finish(20, {"loss": 1.0})
    [run] = runs(client, "tags.trial_key = 'sweep-1/4'")
    assert (run.info.status, run.info.run_name, run.data.metrics["loss"]) == ("FINISHED", "sweep 00004", 1.0)
    assert {"kind": "trial", "sweep": "sweep", "trial": "4", "attempt": "1", "stage": "design"}.items() <= (
        run.data.tags.items()
    )
    assert run.data.params == {"mixture.text": "0.25", "mixture.speech": "0.75", "seed": "3"}


def test_abandoned_runs_are_ended_and_unfinished_trials_are_not(store, client):
    for number in (1, 2):
        opened(store, number, study="sweep-2")
    opened(store, 1, study="sweep-3")
    assert end_abandoned_trials(store, "sweep-2", unfinished=[2]) == 1
    found = {run.data.tags["trial_key"]: run.info.status for run in runs(client, "tags.study LIKE 'sweep-%'")}
    assert (found["sweep-2/1"], found["sweep-2/2"], found["sweep-3/1"]) == ("KILLED", "RUNNING", "RUNNING")


def test_a_report_replaces_the_earlier_one(store, client, tmp_path):
    (tmp_path / "report.md").write_text("# Sweep")
    settings = {"sampler": {"kind": "gp"}}
    for trials in (3.0, 4.0):
        logged = log_sweep_report(
            store, "sweep", "sweep-4", settings=settings, metrics={"trials": trials}, text="# Sweep", folder=tmp_path
        )
    [run] = runs(client, "tags.kind = 'sweep'")
    assert run.info.run_id == logged.run_id
    assert (run.data.metrics, run.data.params) == ({"trials": 4.0}, {"sampler.kind": "gp"})
    assert run.data.tags["mlflow.note.content"] == "# Sweep"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.md"]


def test_a_store_that_fails_costs_no_trial():
    nowhere = TrackingConfig(tracking=StoreConfig(uri="sqlite:////proc/none/x.db"))
    with pytest.warns(TrackingWarning, match="Creating the tracking database"):
        logger = opened(nowhere, 1)
    logger.log(1, {"loss": 1.0})
    logger.end("FAILED", {"pruned": "diverged"})
    logger.finish(1, {})
    logger.abandon()


def test_numbers_stand_under_what_they_are():
    realized = {"text": {"token_share": 0.3, "sample_share": 0.2, "epochs": 1.5, "tokens": 9.0}}
    found = trial_metrics({"cra.mrr": 0.5}, mixture={"text": 0.25}, realized=realized, costs={"flops": 7.0})
    assert found == {
        "cra.mrr": 0.5,
        "ratio/text": 0.25,
        "realized/text.token_share": 0.3,
        "realized/text.sample_share": 0.2,
        "realized/text.epochs": 1.5,
        "cost/flops": 7.0,
    }
    best = optimum_metrics("cra.mrr", value=0.6, uniform=0.5, gain=0.1, mixture={"text": 0.4})
    assert best == {"best/cra.mrr": 0.6, "uniform/cra.mrr": 0.5, "gain/cra.mrr": 0.1, "best_text/cra.mrr": 0.4}
