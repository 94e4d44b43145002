"""`harness doctor`: what it prints, and that its exit code says whether all is well."""

import json

import pytest

from harness.cli.doctor import doctor
from harness.cli.main import main
from harness.doctor import Check

FINE = Check("python", ok=True, detail="3.11", remedy="")
FULL = Check("disk", ok=False, detail="full", remedy="Free some.")


@pytest.mark.parametrize(
    ("found", "code", "printed"),
    [
        ([FINE], 0, "ok    python: 3.11\n"),
        ([FULL], 1, "FAIL  disk: full\n      Free some.\n"),
        ([FINE, FULL], 1, "ok    python: 3.11\nFAIL  disk: full\n      Free some.\n"),
    ],
)
def test_a_command_decides_on_its_exit_code(monkeypatch, capsys, found, code, printed):
    monkeypatch.setattr("harness.doctor.checks", lambda: found)
    assert main(["doctor"]) == code
    assert capsys.readouterr().out == printed
    assert doctor(json=True) == code
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [check.name for check in found]
