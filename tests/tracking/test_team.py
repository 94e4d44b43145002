"""docs/team.md, block by block: PostgreSQL, MLflow's server with passwords, its members; a server that is killed."""

import configparser
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from harness.results import read_results
from harness.tracking.config import TrackingConfig
from tests.postgresql import cluster, free_port
from tests.runs import drawn, written
from tests.tracking.senders import LOG, active, held_sender

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "team.md").read_text("utf-8")
PASSWORD = "p@ss/word"
QUOTED = "p%40ss%2Fword"


def block(start):
    """The indented block of the page whose first line starts so."""
    return textwrap.dedent(re.search(rf"(?m)(^    {re.escape(start)}.*\n(?:    .*\n)*)", PAGE).group())


def variables(text):
    """Assignments of a block, as systemd or a shell reads them."""
    return dict(re.findall(r"(?m)^(?:export )?([A-Z_]+)=(\S+)", text))


class Team:
    """The page's server on this machine."""

    def __init__(self, folder, database):
        self.folder, self.database = folder, database
        self.host = f"127.0.0.1:{free_port()}"
        self.uri = f"http://{self.host}"
        (folder / "auth.ini").write_text(self.here(block("[mlflow]"), QUOTED.replace("%", "%%")))
        settings = variables(self.here(block("MLFLOW_AUTH_CONFIG_PATH"), QUOTED))
        self.environment = {**os.environ, **settings, "PYTHONSAFEPATH": "1"}
        for name in ("MLFLOW_TRACKING_URI", "PYTEST_CURRENT_TEST"):
            self.environment.pop(name, None)

    def here(self, text, password=PASSWORD):
        """The page's names as they are on this machine."""
        places = {
            "PASSWORD@localhost": f"{password}@127.0.0.1:{self.database.port}",
            "/etc/mlflow": str(self.folder),
            "/srv/mlflow": str(self.folder / "artifacts"),
            "https://mlflow.example.org": self.uri,
            "mlflow.example.org": self.host,
            "--port 5000": f"--port {self.host.partition(':')[2]}",
        }
        for old, new in places.items():
            text = text.replace(old, new)
        return text

    def start(self):
        program, *arguments = self.here(block("mlflow server")).split()
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", program, *arguments], env=self.environment, stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            time.sleep(0.2)
        raise AssertionError("the server did not start")

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def member(self, name="ada", **more):
        """What the page has a member export."""
        said = variables(self.here(block("export MLFLOW_TRACKING_URI")))
        said |= {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": f"PASSWORD-OF-{name.upper()}", **more}
        return said


@pytest.fixture(scope="module")
def database():
    pytest.importorskip("psycopg", reason="needs psycopg: pip install -e '.[dev,cluster]'")
    pytest.importorskip("flask_wtf", reason="needs MLflow's server with passwords: pip install 'mlflow[auth]'")
    with cluster() as one:
        # createuser --pwprompt asks a terminal; this is what it sends then.
        one.query("postgres", f"CREATE ROLE mlflow LOGIN PASSWORD '{PASSWORD}'")
        for line in re.findall(r"createdb (.*)", block("sudo -u postgres createuser")):
            one.call("createdb", *line.split())
        yield one


@pytest.fixture(scope="module")
def team(database, tmp_path_factory):
    """The server with the accounts that the page makes."""
    team = Team(tmp_path_factory.mktemp("team"), database)
    team.start()
    script = block("export MLFLOW_TRACKING_USERNAME=admin")
    code = re.search(r"<<'END'\n(.*)END\n", team.here(script), re.DOTALL).group(1)
    admin = dict(re.findall(r"(MLFLOW_TRACKING_\w+)=(\S+)", script))
    subprocess.run([sys.executable, "-c", code], env={**team.environment, **admin}, check=True, timeout=300)
    yield team
    team.kill()


@pytest.fixture
def ada(team, empty_home, tmp_path, monkeypatch):
    """Ada's shell, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return shell(team, monkeypatch, "ada")


def shell(team, monkeypatch, name, **more):
    for key, value in team.member(name, **more).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return team


def harness(*arguments):
    """Output and error stream of a command, with its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)], capture_output=True, text=True, timeout=600,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.stdout, done.stderr, done.returncode


def test_the_page_hides_files_behind_the_server(team):
    settings = configparser.ConfigParser()
    settings.read(team.folder / "auth.ini")
    assert settings["mlflow"]["database_uri"].startswith(f"postgresql+psycopg://mlflow:{QUOTED}@127.0.0.1")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{team.uri}/api/2.0/mlflow/experiments/search?max_results=1", timeout=60)


def test_members_log_compare_and_rank(ada, tmp_path):
    for name, skill in (("weak", 0.2), ("strong", 0.9)):
        written(drawn(name, skill=skill), tmp_path / name)
    out, err, code = harness("sync", tmp_path / "weak", tmp_path / "strong")
    assert (code, "2 sent, 0 waiting" in out) == (0, True), err
    assert any((ada.folder / "artifacts").rglob("cra.jsonl"))  # on the server's disk, sent through the server
    out, err, code = harness("compare", "weak@latest", "strong@latest", "--json")
    assert code == 0, err
    compared = json.loads(out)
    assert [run["label"] for run in compared["runs"]] == ["weak", "strong"]
    assert any(m["key"] == "cra.u2t.pmi.r_at_1" and m["runs"]["strong"]["best"] for m in compared["metrics"])
    out, err, code = harness("leaderboard", "--json")
    assert code == 0, err
    assert [s["model"] for s in json.loads(out)[0]["standings"]][:2] == ["strong", "weak"]


def test_a_checkpoint_is_registered_and_comes_back(ada, tmp_path):
    out, err, code = harness("register", "sutlm-tiny", "--name", "shared", "--alias", "best")
    assert (code, "models:/shared/1" in out) == (0, True), err
    asked = ("--tasks", "cra", "--set", "cra.directions=[t2t]", "--limit", "3", "--output", tmp_path / "run")
    out, err, code = harness("run", "--model", "models:/shared@best", *asked)
    assert (code, "MLflow run" in err) == (0, True), err
    [run] = active(ada.uri, json.loads((tmp_path / "run" / "results.json").read_text())["run_id"])
    assert run.data.metrics["cra.t2t.pmi.r_at_1"] > 0


def test_another_member_may_replace_a_run_but_not_delete_it(ada, tmp_path, monkeypatch):
    result = drawn("of-ada", skill=0.5, num=4)
    written(result, tmp_path / "a")
    assert harness("sync", tmp_path / "a")[2] == 0
    [first] = active(ada.uri, result.run_id)
    shell(ada, monkeypatch, "bob")
    for _ in range(2):
        out, err, code = harness("sync", tmp_path / "a")
        assert (code, "1 sent, 0 waiting" in out) == (0, True), err
        [second] = active(ada.uri, result.run_id)
    replaced = ada_sees(ada, monkeypatch, first.info.run_id)
    assert "run_id" not in replaced.data.tags
    assert replaced.data.tags["replaced_by"] != second.info.run_id  # the second replaced the one that replaced it


def ada_sees(team, monkeypatch, run_id):
    from mlflow import MlflowClient

    shell(team, monkeypatch, "ada")
    return MlflowClient(tracking_uri=team.uri).get_run(run_id)


def test_a_wrong_password_costs_no_result_and_is_not_told(ada, tmp_path, monkeypatch):
    result = drawn("locked-out", skill=0.5, num=4)
    folder = written(result, tmp_path / "a")
    shell(ada, monkeypatch, "ada", MLFLOW_TRACKING_PASSWORD="a secret that is wrong")
    sender = subprocess.run(
        [sys.executable, "-c", LOG, folder], capture_output=True, text=True, timeout=300, check=False
    )
    assert sender.returncode == 1
    assert "not sent: Logging run" in sender.stderr
    assert "secret" not in sender.stderr
    assert (harness("sync")[2], read_results(folder) == result) == (1, True)
    shell(ada, monkeypatch, "ada")
    assert "1 sent, 0 waiting" in harness("sync")[0]
    assert len(active(ada.uri, result.run_id)) == 1


def test_a_server_killed_while_it_takes_a_run_in_costs_nothing(ada, tmp_path):
    result = drawn("killed", skill=0.5, num=300)
    folder = written(result, tmp_path / "a")
    count = f"SELECT count(*) FROM tags WHERE key = 'run_id' AND value = '{result.run_id}'"
    sender = held_sender(folder)
    assert ada.database.query("mlflow", count) == "1"
    ada.kill()
    _, err = sender.communicate(timeout=300)
    assert (sender.returncode, "not sent: Logging run" in err) == (1, True)
    assert read_results(folder) == result

    ada.start()
    done = [
        subprocess.Popen([sys.executable, "-m", "harness", "sync"], env={**os.environ, "PYTHONPATH": str(ROOT)})
        for _ in range(2)
    ]
    assert [process.wait(timeout=300) for process in done] == [0, 0]  # two at once send it once
    [run] = active(ada.uri, result.run_id)
    assert run.info.status == "FINISHED"
    for key, metric in result.metrics.items():
        assert run.data.metrics[key] == metric.value
    assert ada.database.query("mlflow", count) == "2"  # the broken one is among the deleted
    assert "0 sent, 0 waiting" in harness("sync")[0]


def test_the_store_behind_the_server_is_not_served_again(ada):
    _, err, code = harness("ui")
    assert (code, "open it in a browser" in err) == (1, True)
    assert "PASSWORD" not in err


def test_the_experiment_is_the_one_that_the_page_names():
    assert (
        variables(block("export MLFLOW_TRACKING_URI"))["MLFLOW_EXPERIMENT_NAME"] == TrackingConfig().tracking.experiment
    )
