"""A real browser, watched: nothing may fail in its console, and no request may leave this machine.

Screenshots are kept in `$HARNESS_HOME/screenshots` of the test session (`.pytest-home/screenshots`).
"""

import os
import shutil
from pathlib import Path
from urllib.parse import urlparse

import pytest

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
#: A busy machine may take its time; nothing here is measured by the clock.
PATIENCE_MS = 180_000
#: MLflow's pages ask who is there, and a server without accounts does not know.
EXPECTED = "/ajax-api/2.0/mlflow/users/current"


@pytest.fixture(scope="session")
def chromium():
    """The browser itself."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on this machine: 'make browser' installs it where it may")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


class Watched:
    """A page, with all that went wrong in it and all that it asked for."""

    def __init__(self, page):
        self.page = page
        self.errors: list[str] = []
        self.strangers: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._said)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("request", self._asked)

    def _said(self, message):
        if message.type == "error" and not message.location["url"].endswith(EXPECTED):
            self.errors.append(f"{message.text} {message.location['url']}")

    def _asked(self, request):
        url = urlparse(request.url)
        if url.scheme not in ("file", "data", "blob", "about") and url.hostname != "127.0.0.1":
            self.strangers.append(request.url)


@pytest.fixture
def watched(chromium):
    """Opens pages: `watched(color_scheme="dark")`; at the end none may have failed or gone elsewhere."""
    opened = []

    def make(*, width=1500, height=1000, **more):
        page = chromium.new_page(viewport={"width": width, "height": height}, **more)
        opened.append(Watched(page))
        return page

    yield make
    for one in opened:
        one.page.close()
    assert [e for one in opened for e in one.errors] == []
    assert [s for one in opened for s in one.strangers] == []


@pytest.fixture(scope="session")
def screenshots():
    """Where screenshots are kept."""
    folder = Path(os.environ["HARNESS_HOME"]) / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
