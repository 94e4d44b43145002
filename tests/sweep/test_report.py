import csv

import pytest

from harness.sweep.run import report_sweep
from harness.sweep.status import trial_results

PARTS = ("speech", "text", "ast")


def test_the_report_says_what_was_found(swept, tmp_path):
    written = report_sweep(swept, tmp_path / "report", track=False)
    assert "## Best mixtures" in written.text
    assert "## Regret of choosing another metric's best mixture" in written.text
    assert "Spearman" in written.text
    for name in ("surface-cra.t2t.gold_nll.png", "pareto.png", "cost.png", "shares.png"):
        assert (written.folder / name).read_bytes().startswith(b"\x89PNG")
        assert f'src="{name}"' in (written.folder / "report.html").read_text()
    assert list(written.summary["optima"]) == ["cra.t2t.gold_nll", "cra.u2t.gold_nll", "cra.u2t.pmi.candidate_ce"]
    for optimum in written.summary["optima"].values():
        assert sum(optimum["mixture"].values()) == pytest.approx(1)
        for part, (low, high) in optimum["shares_ci95"].items():
            assert 0 <= low <= high <= 1, part
        assert optimum["value_ci95"][0] <= optimum["value"] <= optimum["value_ci95"][1]
    regret = written.summary["regret"]
    assert all(cell >= 0 for row in regret.values() for cell in row.values())
    assert all(row[key] == 0 for key, row in regret.items())
    with (written.folder / "ratios.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(trial_results(swept))
    assert sum(float(rows[0][part]) for part in PARTS) == pytest.approx(1)
