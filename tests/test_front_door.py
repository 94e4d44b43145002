"""`import harness`: what it exports, and that it imports nothing large before it must."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness import errors as harness_errors

LARGE = ("torch", "transformers", "mlflow", "optuna", "numpy", "scipy", "pandas", "pydantic", "yaml")


def elsewhere(code):
    """What the last line of a new process prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_imports_nothing_large():
    code = f"import harness, json, sys; dir(harness); print(json.dumps(sorted({set(LARGE)!r} & set(sys.modules))))"
    assert elsewhere(code) == []


def test_data_types_come_without_torch():
    code = (
        "import json, sys\n"
        "from harness import Item, Metric, Procedure, Request, RunResult, Speech, Task, Text, read_results\n"
        "print(json.dumps(sorted({'torch', 'transformers', 'mlflow'} & set(sys.modules))))"
    )
    assert elsewhere(code) == []


@pytest.mark.parametrize("name", harness.__all__)
def test_every_name_is_what_its_module_defines(name):
    value = getattr(harness, name)
    if name == "__version__":
        assert value.count(".") == 2
    else:
        assert (value.__name__, value.__module__.partition(".")[0]) == (name, "harness")
        assert inspect.getdoc(value)
    assert name in dir(harness)


def test_names_are_sorted_and_about_fifteen():
    assert list(harness.__all__) == sorted(harness.__all__)
    assert len(harness.__all__) == 16


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'evalute'; it has .*evaluate"):
        harness.evalute  # noqa: B018
    assert not hasattr(harness, "nosuch")


def test_subpackages_are_still_modules():
    assert (
        elsewhere("import json\nfrom harness import results\nprint(json.dumps(results.__name__))") == "harness.results"
    )


def test_paths_are_taken_as_names_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(harness_errors.HarnessError, match=str(tmp_path / "mine")):
        harness.load_model(Path("mine"))
    with pytest.raises(harness_errors.ManifestError, match=r"absent\.jsonl"):
        harness.open_corpus(tmp_path / "absent.jsonl")
