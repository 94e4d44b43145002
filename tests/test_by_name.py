from typing import Any

import pytest

from harness import by_name
from harness.by_name import evaluate, train
from harness.corpora.manifest import Utterance, write_manifest
from harness.engine.distributed import Processes
from harness.errors import ConfigError, InputError, OptionError, UnknownNameError, UsageError
from harness.evaluation.evaluate import RunConfig
from harness.evaluation.evaluate import evaluate as evaluate_model
from harness.results import read_results
from harness.testing import UniformModel


@pytest.fixture
def corpus(tmp_path):
    texts = ["one two three four", "five six seven eight nine", "ten eleven twelve thirteen", "all the rest of it"]
    rows = [Utterance(f"u{i}", "a.wav", 16_000, 1.0, text, f"s{i % 2}", "test") for i, text in enumerate(texts)]
    write_manifest(tmp_path / "four.jsonl", rows)
    return str(tmp_path / "four.jsonl")


SETTINGS = {"cra": {"directions": ["t2t"]}}


@pytest.mark.parametrize("cache", [False, True])
def test_it_gives_what_the_configuration_gives(corpus, cache):
    config = RunConfig(("cra",), corpus, limit=3, seed=2, settings=SETTINGS)
    expected = evaluate_model(UniformModel(), config)
    found = evaluate(UniformModel(), ["cra"], corpus=corpus, limit=3, seed=2, settings=SETTINGS, cache=cache)
    assert found.run_id == expected.run_id
    assert found.metrics == expected.metrics
    assert evaluate(UniformModel(), "cra", corpus=corpus, limit=3, seed=2, settings=SETTINGS).metrics == found.metrics


def test_a_configuration_says_all_of_a_run(corpus):
    config = RunConfig(("cra",), corpus, limit=3, seed=2, settings=SETTINGS)
    asked = evaluate(UniformModel(), ["cra"], corpus=corpus, limit=3, seed=2, settings=SETTINGS)
    assert evaluate(UniformModel(), config).metrics == asked.metrics
    with pytest.raises(UsageError, match="give no corpus, limit beside it"):
        evaluate(UniformModel(), config, corpus=corpus, limit=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": "4"}, "'limit' is an integer of at least 1, or None; found '4'"),
        ({"limit": 0}, "'limit' is an integer of at least 1, or None; found 0"),
        ({"limit": True}, "'limit' is an integer"),
        ({"seed": None}, "'seed' is an integer of at least 0; found None"),
        ({"seed": -1}, "'seed' is an integer of at least 0; found -1"),
        ({"tasks": None}, "'tasks' is a tuple of at least one name; found None"),
        ({"batch_tokens": 1.5}, "'batch_tokens' is an integer of at least 1; found 1.5"),
        ({"tasks": []}, r"'tasks' is a tuple of at least one name; found \(\)"),
        ({"tasks": [3]}, r"found \(3,\)"),
        ({"split": 3}, "'split' is a name, or None; found 3"),
        ({"settings": ["cra.n=3"]}, "'settings' gives options by task name"),
    ],
    ids=str,
)
def test_arguments_are_checked_before_anything_is_loaded(monkeypatch, arguments, message):
    monkeypatch.setattr(by_name, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(OptionError, match=message):
        evaluate("sutlm-tiny", **{"tasks": ["cra"], **arguments})


def test_a_file_in_the_place_of_the_results_is_noticed_before_anything_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(by_name, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(UsageError, match=f"{tmp_path / 'file'} is a file"):
            evaluate("sutlm-tiny", ["cra"], output=tmp_path / place)


def test_only_the_first_process_writes(monkeypatch, corpus, tmp_path):
    monkeypatch.setattr(by_name, "evaluate_model", lambda *_, processes, **__: processes)
    monkeypatch.setattr(by_name, "write_run", lambda *_: pytest.fail("it was written"))
    second = Processes(rank=1, world=2)
    assert evaluate(UniformModel(), ["cra"], corpus=corpus, output=tmp_path / "out", processes=second) is second


def test_it_writes_a_results_folder_where_asked(corpus, tmp_path):
    found = evaluate(UniformModel(), ["cra"], corpus=corpus, settings=SETTINGS, output=tmp_path / "out")
    assert read_results(tmp_path / "out").metrics == found.metrics
    assert read_results(str(tmp_path / "out")).run_id == found.run_id
    assert (tmp_path / "out" / "figures" / "cra.r_at_1.svg").is_file()


def test_it_tells_of_progress(corpus):
    told = []
    evaluate(UniformModel(), ["cra"], corpus=corpus, settings=SETTINGS, cache=False, progress=lambda *x: told.append(x))
    assert told[-1] == ("cra", 5, 5)


def test_unknown_names_are_refused(corpus):
    with pytest.raises(UnknownNameError, match="cra"):
        evaluate(UniformModel(), ["crra"], corpus=corpus)
    with pytest.raises(InputError, match="sutlm-tiny"):
        evaluate("sutlm-tinny", ["cra"], corpus=corpus)


def test_an_unknown_card_is_not_trained():
    with pytest.raises(UnknownNameError, match="sutlm-tiny"):
        train("sutlm-tinny")


def test_settings_of_a_training_are_checked_before_anything_is_trained():
    with pytest.raises(ConfigError, match="trainning"):
        train("sutlm-tiny", settings={"trainning": {"steps": 1}})


def test_card_corpus_and_settings_reach_the_training(monkeypatch, tmp_path):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        "harness.training.train.train_model", lambda card, **rest: asked.update(rest, card=card) or "trained"
    )
    started: list[Any] = []
    found = train(
        "sutlm-tiny",
        corpus="ljspeech",
        steps=7,
        seed=3,
        settings={"training": {"steps": 6, "batch_tokens": 100}},
        output=tmp_path,
        device="cuda",
        on_start=started.append,
    )
    assert found == "trained"
    assert started == [asked["card"]]
    assert asked["card"].name == "sutlm-tiny-ljspeech"
    assert [asked["card"].training[key] for key in ("steps", "seed", "batch_tokens")] == [7, 3, 100]
    assert asked["card"].training["train"] == ["ljspeech:train"]
    assert (asked["output"], asked["device"]) == (tmp_path, "cuda")
