import pytest

from harness.corpora.manifest import Utterance, write_manifest
from harness.errors import InputError, UnknownNameError
from harness.evaluation.by_name import evaluate
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


def test_it_writes_a_results_folder_where_asked(corpus, tmp_path):
    found = evaluate(UniformModel(), ["cra"], corpus=corpus, settings=SETTINGS, output=tmp_path / "out")
    assert read_results(tmp_path / "out").metrics == found.metrics
    assert read_results(str(tmp_path / "out")).run_id == found.run_id


def test_it_tells_of_progress(corpus):
    told = []
    evaluate(UniformModel(), ["cra"], corpus=corpus, settings=SETTINGS, cache=False, progress=lambda *x: told.append(x))
    assert told[-1] == ("cra", 5, 5)


def test_unknown_names_are_refused(corpus):
    with pytest.raises(UnknownNameError, match="cra"):
        evaluate(UniformModel(), ["crra"], corpus=corpus)
    with pytest.raises(InputError, match="sutlm-tiny"):
        evaluate("sutlm-tinny", ["cra"], corpus=corpus)
