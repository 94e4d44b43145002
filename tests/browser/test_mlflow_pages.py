"""MLflow's own pages over runs of the harness: `harness ui`, the runs table, Compare, the evaluation view."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.report.figures import write_figures
from harness.tasks.cra import TASK
from harness.tracking.config import StoreConfig, TrackingConfig
from harness.tracking.evaluations import log_run
from tests.browser.conftest import PATIENCE_MS
from tests.runs import drawn, written

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def ui(chromium, tmp_path_factory):
    """The address that `harness ui` prints, over two runs."""
    home = tmp_path_factory.mktemp("home")
    store = TrackingConfig(tracking=StoreConfig(uri=f"sqlite:///{home}/mlflow/mlflow.db"))
    for name, skill in (("weak", 0.2), ("strong", 0.9)):
        run = drawn(name, skill=skill)
        folder = written(run, home / name)
        write_figures(run, {"cra": TASK}, folder)
        log_run(run, store, infos={"cra": TASK.info}, folder=folder)
    environment = {**os.environ, "HARNESS_HOME": str(home), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path.cwd())}
    environment.pop("MLFLOW_TRACKING_URI", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "ui"], cwd=home, env=environment, stdout=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    yield re.search(r"http://\S+", line).group()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    process.stdout.close()


def dismiss(page):
    """Closes what MLflow greets newcomers with, if it does."""
    for button in page.get_by_role("button", name="Close").all():
        if button.is_visible():
            button.click()


def test_two_runs_are_compared(ui, watched, screenshots):
    page = watched(width=1800)
    page.goto(ui)
    page.get_by_text("2 matching runs").wait_for()
    dismiss(page)
    for name in ("model", "corpus", "cra.u2t.pmi.r_at_1"):  # the columns that the experiment opens with
        page.locator(".ag-header-cell", has_text=name).first.wait_for()
    page.screenshot(path=screenshots / "mlflow-runs.png")
    boxes = page.locator(".ag-row .ag-checkbox-input")
    for n in range(2):
        boxes.nth(n).click()
    page.get_by_role("button", name="Compare").first.click()
    page.get_by_text("Comparing 2 Runs").wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    assert page.get_by_text("Parallel Coordinates Plot").first.is_visible()
    page.screenshot(path=screenshots / "mlflow-compare.png", full_page=True)
    page.locator(".js-plotly-plot").get_by_text(re.compile(r"^cra\.")).first.wait_for()


def test_outputs_stand_side_by_side(ui, watched, screenshots):
    page = watched(width=1800)
    base = ui.partition("?")[0]
    page.goto(f"{base}?compareRunsMode=ARTIFACT")
    page.get_by_text("2 matching runs").wait_for()
    dismiss(page)
    page.get_by_text("u2t/utt-0000").first.wait_for(timeout=PATIENCE_MS)
    page.get_by_text("gold number 0", exact=True).first.wait_for()  # what a model put first, in its own column
    page.screenshot(path=screenshots / "mlflow-evaluation.png")


def test_a_run_shows_its_numbers_and_files(ui, watched, screenshots):
    page = watched(width=1800)
    page.goto(ui)
    page.get_by_text("2 matching runs").wait_for()
    dismiss(page)
    page.get_by_role("link", name=re.compile("strong-")).first.click()
    page.get_by_text("cra.u2t.pmi.r_at_1").first.wait_for()
    page.get_by_role("tab", name="Artifacts").or_(page.get_by_text("Artifacts", exact=True)).first.click()
    page.get_by_text("figures").first.click()
    page.get_by_text("cra.r_at_1.svg").first.wait_for()
    page.screenshot(path=screenshots / "mlflow-run.png")
