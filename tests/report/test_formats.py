"""Comparisons in Markdown, LaTeX and CSV."""

import csv
import io
import re
import shutil
import subprocess

import pytest

from harness.report import formats
from tests.report.pages import KEY, row


def test_markdown_has_the_best_in_bold(comparison):
    lines = formats.comparison_markdown(comparison).splitlines()
    assert lines[2] == "| metric | better | chance | bad (baseline) | middling | good |"
    line = next(line for line in lines if KEY in line)
    assert re.search(r"\| \*\*0\.\d+\*\* \[[^|]*<br>Δ \+0\.\d+ [^|]*\\\* \|$", line)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_latex_escapes_and_balances(comparison):
    text = formats.comparison_latex(comparison)
    assert r"\texttt{cra.u2t.pmi.r\_at\_1} & $\uparrow$ & 0.050" in text
    assert r"\textbf{" in text
    assert text.count("{") == text.count("}")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert {line.count("&") for line in body} == {5}
    assert formats.tex("a_b & 50 % ~ <x>") == r"a\_b \& 50 \% $\sim$ $<$x$>$"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles(comparison, tmp_path):
    table = formats.comparison_latex(comparison)
    page = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{table}\end{{document}}"
    (tmp_path / "t.tex").write_text(page, "utf-8")
    subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )


def test_csv_has_a_line_for_each_metric_of_each_run(comparison):
    rows = list(csv.DictReader(io.StringIO(formats.comparison_csv(comparison))))
    assert len(rows) == 8 * 3
    good = next(r for r in rows if r["metric"] == KEY and r["run"] == "good")
    difference = row(comparison).entries[2].difference
    assert float(good["difference"]) == difference.value
    assert (good["paired"], good["best"], good["common_items"]) == ("True", "True", "30")
    bad = next(r for r in rows if r["metric"] == KEY and r["run"] == "bad")
    assert (bad["baseline"], bad["difference"]) == ("True", "")
