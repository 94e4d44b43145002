"""`--config`: precedence, keys, types, and what is required."""

import pytest
import yaml

from harness.cli.main import main
from harness.config import parse_settings


@pytest.fixture
def config(tmp_path):
    """A function that writes a configuration and gives its path."""

    def written(text):
        path = tmp_path / "asked.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return str(path)

    return written


def test_a_file_gives_options_by_their_names(parse, config):
    file = config({"model": "sutlm-tiny", "tasks": "cra", "batch-tokens": 512, "limit": 3, "no_tracking": True})
    found = parse("run", "--config", file)
    assert found == parse(
        "run", "--model", "sutlm-tiny", "--tasks", "cra", "--batch-tokens", 512, "--limit", 3, "--no-tracking"
    )
    assert (found["batch_tokens"], found["limit"], found["no_tracking"], found["seed"]) == (512, 3, True, 0)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_the_command_line_wins(parse, config, first):
    words = ["--config", config({"model": "other", "tasks": "cra", "seed": 7, "limit": 3})]
    own = ["--model", "sutlm-tiny", "--limit", 5]
    found = parse("run", *(words + own if first else own + words))
    assert (found["model"], found["limit"], found["seed"]) == ("sutlm-tiny", 5, 7)


@pytest.mark.parametrize("name", ["quiet", "json", "no-tracking", "no-cache", "full-scores"])
def test_a_switch_is_turned_off_by_its_opposite(parse, config, name):
    """Both on the command line and in the file."""
    opposite = name.removeprefix("no-") if name.startswith("no-") else f"no-{name}"
    parameter = name.replace("-", "_")
    usual = {"model": "a", "tasks": "b"}
    for key, value, words, expected in (
        (name, True, [], True),
        (name, False, [], False),
        (opposite, False, [], True),
        (opposite, True, [], False),
        (name, True, [f"--{opposite}"], False),
        (opposite, False, [f"--{opposite}"], False),
        (name, False, [f"--{name}"], True),
    ):
        assert parse("run", "--config", config({**usual, key: value}), *words)[parameter] is expected


def test_null_leaves_an_option_as_it_is(parse, config):
    found = parse("run", "--config", config({"model": "a", "tasks": "b", "corpus": None, "batch_tokens": None}))
    assert (found["corpus"], found["batch_tokens"]) == (None, 8192)


def test_names_may_be_a_list(parse, config):
    found = parse("run", "--config", config({"model": ["a", "b"], "tasks": ["cra", "slue_ner"]}))
    assert (found["model"], found["tasks"]) == ("a,b", "cra,slue_ner")


def test_set_is_a_nested_mapping_beneath_that_of_the_command_line(parse, config):
    asked: dict[str, dict] = {
        "cra": {"n": 20, "directions": ["u2t", "t2u"], "control": None, "negatives": "same_speaker"},
        "slue_ner": {"learning_rates": [1e-05, 0.001], "note": "yes", "more": {}},
    }
    file = config({"model": "a", "tasks": "cra,slue_ner", "set": asked})
    assert parse_settings(parse("run", "--config", file)["settings"]) == asked
    found = parse_settings(parse("run", "--config", file, "--set", "cra.n=5", "--set", "pelm.n=1")["settings"])
    assert found == {**asked, "cra": {**asked["cra"], "n": 5}, "pelm": {"n": 1}}


def test_train_has_it_too(parse, config):
    file = config({"model": "sutlm-tiny", "steps": 5, "set": {"training": {"mixture": {"ast": 2}}}})
    found = parse("train", "--config", file, "--steps", 6)
    assert (found["model"], found["steps"], found["settings"]) == ("sutlm-tiny", 6, ["training.mixture.ast=2"])


def test_what_is_required_is_so_without_it_in_the_file(config, capsys):
    assert main(["run", "--config", config({"model": "sutlm-tiny"})]) == 2
    assert capsys.readouterr().err == "harness: Missing option --tasks. See: harness run --help\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"modle": "a"}, "unknown key 'modle'. Did you mean 'model'?"),
        ({"batch-tokns": 5}, "unknown key 'batch_tokns'. Did you mean 'batch_tokens'?"),
        ({"config": "other.yaml"}, "unknown key 'config'."),
        ({"settings": {"cra": {"n": 3}}}, "unknown key 'settings'."),
        ({"limit": "many"}, "'limit': Input should be a valid integer (found 'many')."),
        ({"limit": 2.5}, "'limit': Input should be a valid integer (found 2.5)."),
        ({"limit": "3"}, "'limit': Input should be a valid integer (found '3')."),
        ({"limit": 0}, "'limit': Input should be greater than or equal to 1 (found 0)."),
        ({"json": "yes"}, "'json': Input should be a valid boolean (found 'yes')."),
        ({"output": 5}, "'output': Input should be a valid string (found 5)."),
        ({"set": ["cra.n=3"]}, "'set': Input should be a valid dictionary"),
        ({"batch-tokens": 1, "batch_tokens": 2}, "is given twice, as 'batch-tokens' and as 'batch_tokens'."),
        ({"tracking": True, "no-tracking": True}, "is given twice, as 'no-tracking' and as 'tracking'."),
        ({"tracking": "yes"}, "Input should be a valid boolean (found 'yes')."),
        ("limit: 1\nseed: 2\nlimit: 3\n", "the key 'limit' is given twice"),
        ("- a\n- b\n", "must hold a mapping of keys to values; found list."),
        ("a: [", "is not valid YAML"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_file_and_the_key(config, capsys, content, message):
    file = config(content)
    assert main(["run", "--model", "sutlm-tiny", "--tasks", "cra", "--config", file]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"harness: {file}")
    assert message in error


def test_a_missing_file_is_named(capsys):
    assert main(["run", "--config", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "harness: There is no file nowhere.yaml; check the path.\n"


def test_a_run_from_a_file_alone(config, tmp_path, monkeypatch, capsys, harness_home):
    monkeypatch.chdir(tmp_path)
    asked = {"model": "sutlm-tiny", "tasks": ["cra"], "limit": 2, "no-tracking": True, "output": "out", "quiet": True}
    file = config({**asked, "set": {"cra": {"directions": ["t2t"], "n": 2}}})
    assert main(["run", "--config", file]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "t2t" in captured.out
    assert (tmp_path / "out" / "results.json").is_file()
