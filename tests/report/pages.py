"""Report pages of made-up runs, and a parser of what they hold."""

import json
from html.parser import HTMLParser
from pathlib import Path

from harness.report.html import report_page
from harness.tasks.cra import TASK

TASKS = {"cra": TASK}
KEY = "cra.u2t.pmi.r_at_1"
#: Elements without content.
VOID = {"meta", "link", "input", "br", "wbr"}


class Page(HTMLParser):
    """What a page holds, and whether every element that opens also closes."""

    def __init__(self, text):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self._script = False
        self.feed(text)
        assert self._open == []
        [data] = [t for t in self.scripts if t.startswith("{")] or [""]
        self.data = json.loads(data) if data else None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._script = tag == "script"
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self._script = False

    def handle_data(self, data):
        if self._script:
            self.scripts.append(data)


def unbroken(text):
    """Long keys may be broken, where they are shown."""
    return text.replace("<wbr>", "")


def page(results, output=Path("report.html"), folders=None, **more):
    labels = [r.model["name"] for r in results]
    return report_page(
        results, labels, tasks=TASKS, folders=folders or [Path("x")] * len(results), output=output, **more
    )


def row(comparison, key=KEY):
    """A comparison's row of one metric."""
    return next(r for r in comparison.rows if r.key == key)
