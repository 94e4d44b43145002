"""The report in a browser: filter, sort, open an item, by mouse and by keys, on a screen, a phone and paper."""

import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from harness.report.compare import compare
from harness.report.html import comparison_page, leaderboard_page, report_page
from harness.report.leaderboard import leaderboard
from harness.tasks.cra import TASK
from tests.runs import drawn

pytestmark = pytest.mark.browser

#: Rules of WCAG 2.2 on level AA, and what axe-core's makers hold good practice besides.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page):
    """What axe-core finds wrong, with the elements."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core: pip install -e '.[dev]'")
    options = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]}
    found = axe.Axe().run(page, options=options).response
    assert len(found["passes"]) > 15  # it did look
    return [(v["id"], [node["html"][:160] for node in v["nodes"]]) for v in found["violations"]]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two models on 2,000 items, one of which can be heard."""
    folder = tmp_path_factory.mktemp("report")
    runs = [drawn(name, skill=skill, num=1000) for name, skill in (("weak", 0.2), ("strong", 0.7))]
    soundfile.write(folder / "one.wav", np.zeros(8000, np.float32), 16_000)
    for run in runs:
        items = run.tasks["cra"].items
        items[7] = replace(items[7], extra={**items[7].extra, "audio": "one.wav"})
        run.protocol["corpus"]["root"] = str(folder)
    output = folder / "report.html"
    page = report_page(runs, ("weak", "strong"), tasks={"cra": TASK}, folders=[folder, folder], output=output)
    output.write_text(page, "utf-8")
    return output


def count(page):
    return int(re.match(r"\d+", page.locator("#count").inner_text()).group())


def column(page, n):
    """Texts of a column of the rows that are in sight."""
    return page.locator(f"tr.item > :nth-child({n + 1})").all_inner_texts()


def test_items_are_filtered_sorted_and_opened(report, watched, screenshots):
    page = watched()
    page.goto(report.as_uri())
    assert count(page) == 2000
    assert 0 < page.locator("tr.item").count() < 60  # only what is in sight is in the document
    page.screenshot(path=screenshots / "report.png", full_page=True)

    page.get_by_label("direction").select_option(label="t2u")
    assert count(page) == 1000
    assert all(text.startswith("t2u/") for text in column(page, 0))
    page.get_by_label("Search").fill("number 123")
    found = count(page)
    assert 0 < found < 1000
    assert all("number 123" in " ".join(row.split()) for row in page.locator("tr.item").all_inner_texts())
    page.get_by_label("only where runs differ").check()
    assert count(page) <= found
    page.get_by_label("only where runs differ").uncheck()
    page.get_by_label("Search").fill("")
    page.get_by_label("direction").select_option(label="all")

    head = page.locator("#heads button", has_text="weak")
    head.click()
    assert page.locator("#heads th[aria-sort=ascending]").inner_text().startswith("weak")
    ranks = [float(text.split("\n")[0]) for text in column(page, 3)]
    assert ranks == sorted(ranks)
    head.click()
    ranks = [float(text.split("\n")[0]) for text in column(page, 3)]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] == 20

    page.get_by_label("Search").fill("utt-0007")
    page.get_by_text("u2t/utt-0007").first.click()
    audio = page.locator("#detail audio")
    assert audio.count() == 1
    assert audio.get_attribute("src") == "one.wav"
    assert "utt-0007" in audio.get_attribute("aria-label")
    page.wait_for_function("() => document.querySelector('#detail audio').paused")
    assert page.locator("#detail").get_by_text("prompt number 7", exact=True).is_visible()
    page.screenshot(path=screenshots / "report-item.png")


def test_it_is_reached_by_keys_alone(report, watched):
    page = watched()
    page.goto(report.as_uri())
    page.locator("#score").focus()
    for _ in range(20):  # past the check box and the heads of columns, to the row that can be reached
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.matches('tr.item')"):
            break
    assert page.evaluate("() => document.activeElement.dataset.n") == "0"
    for _ in range(30):
        page.keyboard.press("ArrowDown")
    assert page.evaluate("() => document.activeElement.dataset.n") == "30"
    page.keyboard.press("End")
    assert page.evaluate("() => document.activeElement.dataset.n") == "1999"
    wanted = page.evaluate("() => document.activeElement.querySelector('th').innerText")
    page.keyboard.press("Enter")
    assert page.locator("#detail caption").inner_text() == wanted
    assert page.evaluate("() => document.activeElement.id") == "detail"
    page.keyboard.press("Escape")
    assert page.locator("#detail").is_hidden()
    assert page.evaluate("() => document.activeElement.dataset.n") == "1999"
    page.keyboard.press("Home")
    assert page.evaluate("() => document.activeElement.dataset.n") == "0"


@pytest.fixture(scope="module")
def pages(report, tmp_path_factory):
    """The report, and a comparison and a leaderboard of the same two runs and one with a long name."""
    folder = tmp_path_factory.mktemp("pages")
    names = ("weak", "strong", "a-model-with-a-name-of-some-length-hubert-base-l9-km500-step-120000")
    runs = [drawn(name, skill=skill) for name, skill in zip(names, (0.2, 0.7, 0.9), strict=True)]
    tasks = {"cra": TASK}
    comparison = comparison_page(compare(runs, names, tasks=tasks, num_resamples=100))
    board = leaderboard_page(leaderboard([(run, 1.7e9) for run in runs], tasks=tasks), "sutlm")
    for name, text in (("comparison", comparison), ("leaderboard", board)):
        (folder / f"{name}.html").write_text(text, "utf-8")
    return {"report": report, **{name: folder / f"{name}.html" for name in ("comparison", "leaderboard")}}


@pytest.mark.parametrize("width", [1500, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "comparison", "leaderboard"])
def test_everybody_can_use_it(pages, watched, screenshots, name, scheme, width):
    page = watched(color_scheme=scheme, width=width)
    page.goto(pages[name].as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    if name == "report":
        page.locator("tr.item").first.click()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width  # scrolls down only
    assert violations(page) == []
    page.screenshot(path=screenshots / f"{name}-{scheme}-{width}.png", full_page=True)


@pytest.mark.parametrize("name", ["report", "comparison", "leaderboard"])
def test_paper_cuts_nothing_off(pages, watched, name):
    page = watched(width=718, color_scheme="dark")  # of A4, without margins of a centimeter
    page.goto(pages[name].as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 718
    assert page.evaluate("() => getComputedStyle(document.documentElement).getPropertyValue('--s0')") == "#1f3fd0"


def test_paper_has_numbers_and_figures_but_no_controls(report, watched, screenshots):
    page = watched()
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    assert page.locator("#items").is_hidden()
    assert page.locator("#summary table").first.is_visible()
    assert page.locator("figure svg").first.is_visible()
    page.pdf(path=screenshots / "report.pdf")
    assert (screenshots / "report.pdf").stat().st_size > 10_000
