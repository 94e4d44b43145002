import pytest

from harness.sweep.launch import submit, wait_for
from harness.sweep.run import start_sweep
from harness.sweep.status import status
from harness.tracking.config import load_tracking_config
from tests.toy_sweep import toy_spec


@pytest.mark.slow
def test_workers_as_jobs_of_a_cluster(toy, tmp_path):
    pytest.importorskip("submitit", reason="needs submitit: pip install 'sutlm-harness[cluster]'")
    sweep = start_sweep(toy_spec(toy, name="jobs", trials=2), tmp_path / "jobs", load_tracking_config())
    jobs = submit(sweep.folder, 2, ["timeout_min=10"], track=False, cluster="local")
    wait_for(jobs)
    assert status(sweep)["states"] == {"COMPLETE": 2}
    sweep.close()
