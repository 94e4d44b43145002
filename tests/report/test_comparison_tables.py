"""Comparisons as tables."""

import json
import re

from harness.report import comparison_tables
from tests.report.pages import KEY


def test_the_table_has_two_lines_a_metric(comparison):
    lines = comparison_tables.comparison_table(comparison).plain().splitlines()
    assert lines[0] == "3 runs, 8 metrics; differences to bad"
    place = next(i for i, line in enumerate(lines) if line.startswith(KEY))
    assert re.search(r"high +0\.050 +0\.\d{3} \[", lines[place])
    assert lines[place].rstrip().endswith("]^")
    assert lines[place + 1].count("Δ +") == 2
    assert "p < 0.001*" in lines[place + 1] or "p = 0.0" in lines[place + 1]
    assert any("Holm's method over the table's 16 tests" in line for line in lines)


def test_a_narrow_terminal_gets_several_tables(comparison):
    blocks = comparison_tables.comparison_blocks(comparison, 80)
    assert [b.columns[3] for b in blocks] == ["bad (baseline)", "middling", "good"]
    assert blocks[-1].notes
    assert not blocks[0].notes
    assert comparison_tables.comparison_blocks(comparison, 10_000) == [comparison_tables.comparison_table(comparison)]


def test_json_holds_it_all(comparison):
    data = json.loads(json.dumps(comparison_tables.comparison_data(comparison), allow_nan=False))
    assert data["correction"] == {"method": "Holm", "tests": 16}
    assert data["baseline"] == "bad"
    entry = next(m for m in data["metrics"] if m["key"] == KEY)["runs"]["good"]
    assert entry["best"] is True
    assert entry["difference"]["paired"] is True
