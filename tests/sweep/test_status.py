import json
import subprocess
import sys

import pytest

from harness.cli.main import main
from harness.sweep.status import status, trial_results


def test_all_trials_are_done(swept):
    now = status(swept)
    assert now["done"] == now["asked"] == sum(now["states"].values()) == now["states"]["COMPLETE"]
    assert now["lost"] == []
    stages = [o.spec.stage for o in trial_results(swept)]
    assert stages.count("design") == 5
    assert stages.count("transfer") == 5
    assert 3 <= stages.count("confirm") <= 5  # one or two best mixtures with two seeds, uniform with a second one


@pytest.mark.slow
def test_the_command_line_shows_and_exports(swept, tmp_path, capsys):
    command = [sys.executable, "-m", "harness", "sweep", "status", str(swept.folder), "--json"]
    now = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert now["states"]["COMPLETE"] == len(trial_results(swept))
    assert main(["sweep", "export", str(swept.folder), "--output", str(tmp_path / "tables")]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "tables" / name) for name in ("ratios.csv", "metrics.csv")
    ]
