"""`harness sweep` as it is typed: two worker processes, then status, report, export, and the same command again."""

import csv
import json
import os
import subprocess
import sys

import pytest
import yaml

from harness.cli.main import main
from tests.toy_sweep import toy_data, toy_folder


@pytest.mark.slow
def test_a_sweep_from_the_command_line(harness_home, tmp_path, monkeypatch, capsys):
    toy = toy_folder(tmp_path)
    spec, out = toy / "typed.yaml", toy / "out"
    spec.write_text(yaml.safe_dump(toy_data(toy, name="typed", tokens=256 * 20)))
    monkeypatch.setenv("HARNESS_HOME", str(toy / "home"))

    def harness(*words):
        assert main(["sweep", *map(str, words)]) == 0
        return capsys.readouterr().out

    command = ("run", spec, "--workers", 2, "--trials", 5, "--output", out, "--no-tracking")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "sweep", *map(str, command)],
        env={**os.environ, "HARNESS_HOME": str(toy / "home")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "typed: 5 of 5 trials done (5 complete)" in done.stdout
    assert [p.name for p in sorted((out / "logs").iterdir())] == ["worker-0.log", "worker-1.log"]
    records = {p: p.stat().st_mtime_ns for p in out.glob("trials/*/trial.json")}
    assert len(records) == 5
    again = json.loads(harness(*command, "--json"))  # what is done is not done again
    assert again["states"] == {"COMPLETE": 5}
    assert {p: p.stat().st_mtime_ns for p in out.glob("trials/*/trial.json")} == records
    assert json.loads(harness("status", out, "--json")) == again
    assert "## Best mixtures" in harness("report", out, "--no-tracking")
    assert (out / "report" / "report.html").read_text().startswith("<!doctype html>")
    assert harness("export", out).split() == [str(out / "ratios.csv"), str(out / "metrics.csv")]
    with (out / "metrics.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 5
