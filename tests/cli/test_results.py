"""`harness compare`, `why`, `leaderboard` and `report` as they are typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.tasks.cra import TASK
from harness.tracking.config import StoreConfig, TrackingConfig
from harness.tracking.evaluations import log_run
from tests.runs import drawn, written

KEY = "cra.u2t.pmi.r_at_1"


@pytest.fixture(scope="module")
def runs():
    """A good, a middling and a bad model on the same items."""
    return [drawn(name, skill=skill) for name, skill in (("bad", 0.1), ("middling", 0.5), ("good", 0.9))]


@pytest.fixture(scope="module")
def folders(runs, tmp_path_factory):
    base = tmp_path_factory.mktemp("runs")
    return [str(written(r, base / r.model["name"])) for r in runs]


@pytest.mark.parametrize("style", ["table", "markdown", "latex", "csv", "json"])
def test_the_command_prints_every_format(folders, style, capsys):
    assert main(["compare", *folders, "--baseline", "good", "--metrics", "cra.u2t.pmi.*", "--format", style]) == 0
    out = capsys.readouterr().out
    assert "median" in out
    assert "good" in out
    if style == "json":
        assert json.loads(out)["baseline"] == "good"


def test_a_baseline_may_be_a_folder_besides(folders, capsys):
    assert main(["compare", *folders[:2], "--baseline", folders[2], "--metrics", KEY]) == 0
    assert "good (baseline)" in capsys.readouterr().out


def test_refusals_end_with_code_2(folders, tmp_path, capsys):
    other = str(written(drawn("other", skill=0.5, seed=1), tmp_path / "other"))
    assert main(["compare", folders[0], other]) == 2
    assert "cra.seed is 1, not 0" in capsys.readouterr().err
    assert main(["compare", folders[0], other, "--force", "--metrics", KEY]) == 0
    assert "other †" in capsys.readouterr().out
    assert main(["compare", folders[0], "nowhere"]) == 2
    assert "give a results folder" in capsys.readouterr().err
    assert main(["compare", *folders, "--baseline", "goood"]) == 2
    assert "nearest is 'good'" in capsys.readouterr().err


def test_the_command_says_why(folders, capsys):
    assert main(["why", folders[0], folders[2], "--top", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["labels"] == ["bad", "good"]
    assert len(data["items"]) == 2
    assert main(["why", folders[0], folders[2]]) == 0
    assert "items that changed most" in capsys.readouterr().out


def test_another_process_prints_the_same(folders, capsys):
    command = ["compare", *folders, "--format", "csv", "--metrics", KEY]
    assert main(command) == 0
    done = subprocess.run([sys.executable, "-m", "harness", *command], capture_output=True, text=True, check=True)
    assert done.stdout == capsys.readouterr().out


def test_the_baseline_may_be_spelled_otherwise_than_the_run(folders, capsys):
    assert main(["compare", *folders, "--baseline", f"{folders[2]}/", "--metrics", KEY, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["baseline"], len(found["runs"])) == ("good", 3)


def test_a_report_is_a_file(folders, tmp_path, capsys):
    output = tmp_path / "deep" / "report.html"
    assert main(["report", *folders[::2], "--output", str(output)]) == 0
    assert capsys.readouterr().out.startswith(f"{output} (0.")
    assert output.read_text("utf-8").startswith("<!doctype html>")
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    assert main(["report", *folders[::2], "--output", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(output), "bytes": output.stat().st_size}


def test_a_comparison_may_be_a_page(folders, capsys):
    assert main(["compare", *folders[::2], "--format", "html"]) == 0
    assert "<!doctype html>" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # how MLflow uses its libraries
class TestRunsInMlflow:
    @pytest.fixture(scope="class")
    def logged(self, runs, folders, tmp_path_factory):
        """MLflow ids of the runs, in a store of their own."""
        uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/runs.db"
        store = TrackingConfig(tracking=StoreConfig(uri=uri))
        infos = {"cra": TASK.info}
        ids = [log_run(r, store, infos=infos, folder=Path(f)).run_id for r, f in zip(runs, folders, strict=True)]
        return uri, ids

    def test_runs_are_found_by_id_and_as_the_latest_of_a_model(self, logged, folders, monkeypatch, capsys):
        uri, ids = logged
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        said = []
        for names in (folders[::2], [ids[0], ids[2]], ["bad@latest", "good@latest"]):
            assert main(["compare", *names, "--metrics", KEY, "--format", "csv"]) == 0
            said.append(capsys.readouterr().out)
        assert said[0] == said[1] == said[2]
        assert main(["compare", folders[0], "nosuch@latest"]) == 2
        assert "no finished run of model 'nosuch'" in capsys.readouterr().err

    def test_the_leaderboard_is_that_of_the_experiment(self, logged, monkeypatch, capsys):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", logged[0])
        assert main(["leaderboard", "--by", KEY]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[1] for line in lines[2:]] == ["good", "middling", "bad"]
        assert main(["leaderboard", "--format", "html"]) == 0
        assert "Leaderboard of sutlm" in capsys.readouterr().out
        assert main(["leaderboard", "--experiment", "empty"]) == 2
        assert "'empty' holds no finished evaluation" in capsys.readouterr().err
