"""Evaluation runs that are found and fetched."""

from dataclasses import replace

import pytest

from harness.results import read_results, write_results
from harness.tracking.evaluations import log_run
from harness.tracking.reading import fetch_run, stored_runs
from harness.tracking.storage import TrackingError
from harness.tracking.training import training_logger
from tests.tracking.examples import result

# How MLflow uses its libraries: raised when its database classes are first used, here by the tests themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class TestStoredRuns:
    def test_a_run_comes_back_as_it_was(self, store, logged, folder, tmp_path):
        back = fetch_run(store, logged.run_id, tmp_path / "back")
        assert read_results(back) == read_results(folder)
        light = fetch_run(store, logged.run_id, tmp_path / "light", items=False)
        assert read_results(light, items=False).metrics == read_results(folder).metrics
        assert not (light / "items").exists()

    def test_an_unknown_run_is_an_error(self, store, tmp_path):
        with pytest.raises(TrackingError, match="Fetching run 0123"):
            fetch_run(store, "0123" * 8, tmp_path)

    def test_the_latest_comes_first_and_only_evaluations_count(self, store, logged, tmp_path):
        later = replace(result("later"), model={"name": "other", "fingerprint": "1"})
        write_results(later, tmp_path)
        second = log_run(later, store, infos={}, folder=tmp_path)
        training_logger(store, "train", {}, {"model": "other"}).close()
        runs = stored_runs(store)
        assert runs[0].id == second.run_id
        assert logged.run_id in {r.id for r in runs}
        assert [r.id for r in stored_runs(store, model="other")] == [second.run_id]

    def test_looking_for_runs_makes_no_experiment(self, store, client, logged):
        elsewhere = replace(store, tracking=replace(store.tracking, experiment="a name with a typo"))
        assert stored_runs(elsewhere) == []
        assert client.get_experiment_by_name("a name with a typo") is None
