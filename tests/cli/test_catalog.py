"""`harness list` and `harness show`."""

import json

import pytest
import yaml

from harness.cli.main import main


def listed(capsys, what):
    assert main(["list", what, "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_tasks_models_and_corpora_are_listed(capsys):
    tasks, models, corpora = (listed(capsys, what) for what in ("tasks", "models", "corpora"))
    assert tasks["cra"]["from"] == "harness.tasks.cra"
    assert tasks["cra"]["description"].startswith("Context retrieval accuracy")
    assert models["sutlm-tiny"]["weights"] == "here"
    assert models["sutlm-350m"]["weights"] == "absent"
    assert {"demo", "librispeech"} <= set(corpora)


def test_a_list_is_a_table_of_one_row_per_name(capsys):
    names = listed(capsys, "corpora")
    assert main(["list", "corpora"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "description", "from"] or "corpora" in lines[0]
    assert [line.split()[0] for line in lines[-len(names) :]] == list(names)


@pytest.mark.parametrize("name", ["cra", "sutlm-tiny", "sutlm-350m"])
def test_what_is_shown_for_reading_is_what_is_shown_as_json(name, capsys):
    assert main(["show", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["show", name]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == found


def test_a_card_without_weights_is_shown_without_them(capsys):
    assert main(["show", "sutlm-350m", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["available"] is False
    assert "weights" not in found


def test_a_task_in_a_file_is_shown(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("from harness.tasks.cra import TASK\n")
    assert main(["show", f"{tmp_path}/mine.py:TASK", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"]["name"] == "cra"
