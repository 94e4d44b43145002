import dataclasses

import pytest

from harness.errors import ConfigError
from harness.sweep.run import start_sweep
from harness.tracking.config import load_tracking_config
from tests.toy_sweep import toy_spec


def test_a_metric_that_no_task_gives_is_refused_before_any_trial(toy, tmp_path):
    wrong = toy_spec(toy, name="wrong", objectives=["cra.t2t.gold_nl"])
    with pytest.raises(
        ConfigError, match=r"'cra\.t2t\.gold_nl' is not a metric that its task gives. It gives: cra\.t2t"
    ):
        start_sweep(wrong, tmp_path / "wrong", load_tracking_config())
    assert not (tmp_path / "wrong" / "sweep.json").exists()


def test_a_folder_keeps_its_sweep(swept, spec):
    with pytest.raises(ConfigError, match="holds a sweep with another 'tokens': 5120, now 5"):
        start_sweep(dataclasses.replace(spec, tokens=5), swept.folder, load_tracking_config())
