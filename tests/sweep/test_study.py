import pytest

from harness.errors import SweepError
from harness.sweep.plan import read_plan
from harness.sweep.study import open_sweep
from harness.tracking.config import load_tracking_config


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(SweepError, match=r"holds no sweep\.json, so it is not a sweep"):
        open_sweep(tmp_path, load_tracking_config())
    with pytest.raises(SweepError, match="not a sweep"):
        read_plan(tmp_path)
