"""How fast runs are compared and how fast the report answers.

    python benchmarks/compare.py

Compares 20 runs on 40 metrics with 10,000 paired resamples, 500 items under every metric, clustered by 20 speakers and
not clustered; writes the report of 4 models with 2,000 items; and, where there is a chromium, times its filters and
its sorting in the browser, from the event to the next frame drawn. Wall and processor seconds; nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.report.compare import compare
from harness.report.html import report_page
from harness.tasks.cra import TASK

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.runs import drawn, item, run

#: From an event to the frame after the one that it changed.
TIMED = """async ([id, kind, value]) => {
  const element = document.querySelector(id);
  const start = performance.now();
  if (kind === "click") element.click();
  else { element.value = value; element.dispatchEvent(new Event(kind, { bubbles: true })); }
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - start;
}"""
ACTIONS = (
    ("filter by words", "#search", "input", "number 12"),
    ("filter by direction", "#filters select", "change", "1"),
    ("all again", "#filters select", "change", ""),
    ("no words", "#search", "input", ""),
    ("sort by rank", "#heads th:nth-child(4) button", "click", ""),
    ("sort by prompt", "#heads th:nth-child(2) button", "click", ""),
    ("open an item", "tr.item", "click", ""),
)


def main() -> None:
    """Prints the times of comparing runs and of opening their report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of every browser interaction (default: 5)")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors\n")
    print("| what | wall s | processor s |\n|---|---|---|")
    for name, groups in (("20 speakers", 20), ("no clusters", 500)):
        runs = twenty(groups)
        keys = [k for k in runs[0].metrics if not k.endswith("median_rank")][:40]
        wall, cpu = timed(lambda: compare(runs, labels(runs), tasks={"cra": TASK}, metrics=keys))  # noqa: B023
        print(f"| compare 20 runs, {len(keys)} metrics, 500 items each, {name} | {wall:.2f} | {cpu:.2f} |")
    four = [drawn(f"model-{k}", skill=0.2 * (k + 1), num=1000) for k in range(4)]
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "report.html")
        folders = [Path(scratch)] * 4
        pages: list[str] = []
        wall, cpu = timed(
            lambda: pages.append(report_page(four, labels(four), tasks={"cra": TASK}, folders=folders, output=output))
        )
        output.write_text(pages[0], "utf-8")
        size = output.stat().st_size / 1e6
        print(f"| write the report of 4 models, 2,000 items ({size:.2f} MB) | {wall:.2f} | {cpu:.2f} |")
        in_browser(output, arguments.rounds)


def twenty(groups: int) -> list[Any]:
    """20 runs on the same 500 items in each of 4 directions."""
    runs = []
    for k in range(20):
        dice = random.Random(k)
        items = [
            item(n, direction, dice.randint(1, 5 + k), n=100, group=f"speaker-{n % groups}")
            for direction in ("u2u", "u2t", "t2u", "t2t")
            for n in range(500)
        ]
        runs.append((k, items))
    first = run("model-0", runs[0][1], options=options())
    rest = [run(f"model-{k}", items, options=options()) for k, items in runs[1:]]
    return [first, *rest]


def options() -> Any:
    """Options of CRA as the runs were asked."""
    return TASK.Options(directions=("u2u", "u2t", "t2u", "t2t"))


def labels(runs: list[Any]) -> list[str]:
    """Names of the runs."""
    return [r.model["name"] for r in runs]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_browser(output: Path, rounds: int) -> None:
    """Prints how long Chromium takes to open the report."""
    program = shutil.which("chromium")
    if program is None:
        print("\nno chromium: the browser was not timed")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        start = time.perf_counter()
        page.goto(output.as_uri())
        page.locator("tr.item").first.wait_for()
        opened = time.perf_counter() - start
        times: dict[str, list[float]] = {name: [] for name, *_ in ACTIONS}
        for _ in range(rounds):
            for name, selector, kind, value in ACTIONS:
                if kind == "change" and value:
                    value = page.locator(f"{selector} option").nth(1).get_attribute("value") or ""
                times[name].append(page.evaluate(TIMED, [selector, kind, value]))
        browser.close()
    print(f"\nThe report opens in {opened:.2f} s.\n\n| interaction | median ms | slowest ms |\n|---|---|---|")
    for name, found in times.items():
        print(f"| {name} | {statistics.median(found):.0f} | {max(found):.0f} |")


if __name__ == "__main__":
    main()
