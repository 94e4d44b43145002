"""What goes to stdout and what to stderr."""

import json
import time

import yaml

from harness.cli.printing import Printer, print_table, warn
from harness.report.tables import Table


def test_remarks_and_progress_go_to_stderr_unless_quiet(capsys):
    for quiet in (False, True):
        printer = Printer(quiet=quiet)
        printer.say("in out/")
        with printer.progress() as progress:
            progress.update("items", 1, 2)
            progress.update("items", 2, 2, "done")
        warn("the server is away")
        captured = capsys.readouterr()
        assert captured.out == ""
        said = [] if quiet else ["in out/", "items 2/2 done"]
        assert captured.err.splitlines() == [*said, "harness: warning: the server is away"]


def test_elsewhere_than_on_a_terminal_progress_is_a_line_every_ten_seconds(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Printer().progress() as progress:
        for done in range(1, 30):
            now[0] += 1.0
            progress.update("items", done, 100)
    assert capsys.readouterr().err.splitlines() == ["items 10/100", "items 20/100"]


def test_data_are_yaml_or_json(capsys):
    data = {"b": 1, "a": ("é", None)}
    Printer().data(data)
    assert yaml.safe_load(capsys.readouterr().out) == {"b": 1, "a": ["é", None]}
    Printer(json=True).data(data)
    assert json.loads(capsys.readouterr().out) == {"b": 1, "a": ["é", None]}


def test_a_table_is_plain_where_nobody_looks(capsys):
    table = Table("two rows", ("name", "value"), (("a", "1"), ("b", "2")))
    print_table(table)
    assert capsys.readouterr().out == table.plain() + "\n"
