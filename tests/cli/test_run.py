"""`harness run`: what its options come to before a model is loaded."""

import pytest

from harness.cli.main import main
from harness.cli.run import check_distinct, command_line, run, with_full_scores
from harness.errors import ConfigError, UsageError


@pytest.mark.parametrize(
    "words",
    [
        ["--model", "a,b", "--tasks", "cra"],
        ["--model", "a", "--tasks", "x.py:T", "--limit", "3", "--seed", "7", "--devices", "2", "--device", "cuda"],
        ["--model", "a", "--tasks", "t", "--set", "t.a=-1", "--set", "t.b=[1, 2]", "--quiet", "--full-scores"],
        ["--model", "a", "--tasks", "t", "--output", "-o", "--no-cache", "--no-tracking", "--split", "test"],
    ],
    ids=len,
)  # fmt: skip
def test_arguments_become_the_command_line_that_they_came_from(parse, words):
    found = parse("run", *words)
    assert parse("run", *command_line(found)) == found


def test_full_scores_is_an_option_of_the_tasks_that_have_it():
    assert with_full_scores(["cra", "slue_ner"], {"cra": {"n": 3}}) == {"cra": {"n": 3, "full_scores": True}}
    with pytest.raises(ConfigError, match="no task of this run has an option 'full_scores'; tasks: slue_ner"):
        with_full_scores(["slue_ner"], {})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--model", "https://me:hush@host/m", "--tasks", "cra"],
            "no file https:/***@host/m; check",
        ),
        (["--model", "models:/m@best,a", "--tasks", "https://me:hush@host/t"], "'https://***@host/t'"),
        (["--model", "sutlm-tiny", "--tasks", ","], "',' names nothing; give names separated by commas."),
        (["--model", "sutlm-tiny", "--tasks", "cra,cra"], "The task 'cra' is named twice."),
        (["--model", "sutlm-tinyy", "--tasks", "cra"], "'sutlm-tiny'"),
        (
            ["--model", "sutlm-tiny", "--tasks", "cra", "--set", "pelm.n=3"],
            "no task of this run has that name. The nearest is 'cra'.",
        ),
        (["--model", "sutlm-tiny", "--tasks", "cra", "--set", "cra.nn=3"], "unknown key 'nn'"),
        (["--model", "sutlm-tiny", "--tasks", "cra", "--set", "cra.n"], "write it as key.subkey=value"),
        (["--model", "sutlm-tiny", "--tasks", "slue_ner", "--full-scores"], "--full-scores"),
        (["--model", "sutlm-tiny", "--tasks", "cra", "--output", __file__], f"{__file__} is a file."),
    ],
)
def test_a_mistake_is_found_before_a_model_is_loaded(words, message, monkeypatch, capsys):
    monkeypatch.setattr("harness.by_name.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    assert main(["run", *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "hush" not in captured.err
    assert captured.out == ""


def test_from_python_mistakes_are_exceptions():
    with pytest.raises(UsageError, match="names nothing"):
        run(model="sutlm-tiny", tasks="")


def test_models_of_one_name_are_refused():
    check_distinct(["a", "b"])
    with pytest.raises(UsageError, match="Two of the models are called 'b'"):
        check_distinct(["a", "b", "c", "b"])
