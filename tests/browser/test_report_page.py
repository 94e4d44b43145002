"""The report in a browser: filter, sort, open an item, by mouse and by keys, on a screen, a phone and paper."""

import re

import numpy as np
import pytest
import soundfile

from harness.html import report_page
from harness.tasks.cra import TASK
from tests.runs import drawn

pytestmark = pytest.mark.browser

#: Every visible text with less contrast than WCAG AA asks for, as `[text, ratio]`.
CONTRAST = """() => {
  const parse = (c) => { const p = c.match(/[\\d.]+/g).map(Number); return p.length > 3 ? p : [...p, 1]; };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = (c) => {
    const line = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.slice(0, 3).map((v) => line(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = parse(getComputedStyle(document.body).backgroundColor);
  const ground = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, above) => over(above, below), page);
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("script, style, title, .skip")) continue;
    const style = getComputedStyle(element), inside = element.closest("svg");
    if (inside && element.style.fill) continue;  // on a shade of its own, which tests/test_report.py checks
    const ink = over(parse(inside ? style.fill : style.color), ground(inside ? inside.parentElement : element));
    const [a, b] = [light(ink), light(ground(inside ? inside.parentElement : element))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) bad.push([text.slice(0, 40), ratio.toFixed(2)]);
  }
  return bad;
}"""
#: Controls without a name, pictures without a text, ids used twice, tables without heads.
UNNAMED = """() => {
  const bad = [];
  const name = (e) => e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.textContent.trim()
    || (e.labels && e.labels.length && e.labels[0].textContent.trim());
  for (const e of document.querySelectorAll("button, a, input, select, audio, svg[role=img], [role=region]"))
    if (e.checkVisibility() && !name(e)) bad.push(e.outerHTML.slice(0, 80));
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) bad.push(`id ${id} twice`);
  for (const t of document.querySelectorAll("table"))
    if (!t.querySelector("th[scope=col]")) bad.push("table without heads");
  if (!document.documentElement.lang) bad.push("no language");
  return bad;
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two models on 2,000 items, one of which can be heard."""
    folder = tmp_path_factory.mktemp("report")
    runs = [drawn(name, skill=skill, num=1000) for name, skill in (("weak", 0.2), ("strong", 0.7))]
    soundfile.write(folder / "one.wav", np.zeros(8000, np.float32), 16_000)
    for run in runs:
        run.tasks["cra"].items[7]["audio"] = "one.wav"
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_and_has_a_name(report, watched, screenshots, scheme):
    page = watched(color_scheme=scheme)
    page.goto(report.as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.locator("tr.item").first.click()
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(UNNAMED) == []
    page.screenshot(path=screenshots / f"report-{scheme}.png", full_page=True)


def test_a_phone_scrolls_down_only(report, watched, screenshots):
    page = watched(width=390, height=800)
    page.goto(report.as_uri())
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.screenshot(path=screenshots / "report-phone.png", full_page=True)


def test_paper_has_numbers_and_figures_but_no_controls(report, watched, screenshots):
    page = watched()
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    assert page.locator("#items").is_hidden()
    assert page.locator("#summary table").first.is_visible()
    assert page.locator("figure svg").first.is_visible()
    page.pdf(path=screenshots / "report.pdf")
    assert (screenshots / "report.pdf").stat().st_size > 10_000
