"""How the code lies: sizes of files, names of classes, and tests that mirror it."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(path for folder in ("harness", "tasks", "models") for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

#: Tests of more than one module, or of what is not a module.
OF_THE_WHOLE = {
    "browser/test_mlflow_pages.py": "pages in a real browser",
    "browser/test_report_page.py": "pages in a real browser",
    "models/test_cards.py": "the shipped cards, which are data",
    "stats/test_coverage.py": "what intervals and tests are for, simulated",
    "stats/test_reproducibility.py": "numbers of all of harness/stats",
    "sweep/test_sweep_faults.py": "workers that are killed, suspended or cut off from their database",
    "tasks/test_contracts.py": "every shipped task keeps its contract",
    "tasks/test_slue.py": "slue_sa and slue_ner, which are two cards of one protocol",
    "test_documentation.py": "README and docs/",
    "test_front_door.py": "harness/__init__.py",
    "test_imports.py": "the direction of imports",
    "test_package.py": "pyproject.toml and the lock",
    "test_perturbation.py": "all that decides an answer, changed one at a time",
    "test_plugin.py": "examples/plugin",
    "test_tree.py": "the tree itself",
    "test_wheel.py": "the distribution",
    "tracking/test_team.py": "two people and a server, as docs/team.md has it",
}
#: Modules without a test file of their own, and where they are tested. Private ones are tested through public ones.
TESTED_IN = {
    "harness/cli/tracking.py": "tracking/test_outbox.py",
    "harness/corpora/distribution.py": "corpora/test_librispeech.py",
    "harness/corpora/show.py": "corpora/test_corpus.py",
    "harness/corpora/slue_labels.py": "corpora/test_slue.py",
    "harness/engine/candidates.py": "engine/test_scoring.py",
    "harness/engine/finetuned_model.py": "engine/test_finetune.py",
    "harness/engine/kv_cache.py": "engine/test_generation.py",
    "harness/engine/work.py": "engine/test_scoring.py",
    "harness/sweep/figures.py": "sweep/test_report.py",
    "harness/sweep/sections.py": "sweep/test_report.py",
    "harness/sweep/tracking.py": "sweep/test_sweep_faults.py",
    "harness/task.py": "tasks/test_contracts.py",
    "harness/tracking/fields.py": "tracking/test_evaluations.py",
    "tasks/slue_ner.py": "tasks/test_slue.py",
    "tasks/slue_sa.py": "tasks/test_slue.py",
}
#: Nothing in them can go wrong: a type and a number.
WITHOUT_TESTS = {"harness/progress.py", "harness/version.py"}


def name(path):
    return path.relative_to(ROOT).as_posix()


def test_files_are_short():
    """None over 500 lines, nine in ten up to 350."""
    lines = {name(path): len(path.read_text("utf-8").splitlines()) for path in CODE}
    assert {path: n for path, n in lines.items() if n > 500} == {}
    assert sorted(lines.values())[int(0.9 * len(lines))] <= 350


def test_no_two_public_classes_share_a_name():
    places = defaultdict(list)
    for path in CODE:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name(path))
    assert {c: files for c, files in places.items() if len(files) > 1} == {}


def mirrored(path):
    """The test file of a module: the same place in tests/, without a leading underscore."""
    folder = path.parent.relative_to(ROOT / "harness") if path.is_relative_to(ROOT / "harness") else name(path.parent)
    return ROOT / "tests" / folder / f"test_{path.stem.lstrip('_')}.py"


def test_tests_lie_where_the_code_lies():
    found = {p.relative_to(ROOT / "tests").as_posix() for p in TESTS if p.name.startswith("test_")}
    expected = {mirrored(path).relative_to(ROOT / "tests").as_posix() for path in CODE}
    assert found - expected == set(OF_THE_WHOLE)


def test_every_public_module_has_tests():
    public = [path for path in CODE if not path.name.startswith("_")]
    without = {name(path) for path in public if not mirrored(path).exists()}
    assert without == set(TESTED_IN) | WITHOUT_TESTS
    assert [test for test in TESTED_IN.values() if not (ROOT / "tests" / test).exists()] == []


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_no_test_module_is_imported(path):
    """What tests share lies in fixtures and in modules that hold no test; code for other processes counts too."""
    assert re.findall(r"^\s*(?:from|import) [\w.]*\btest_\w+ ?.*$", path.read_text("utf-8"), re.M) == []


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_generated_text_names_its_alphabet(path):
    """Hypothesis builds its own, all of Unicode, so slowly that its health check fails in a fresh clone."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    nameless = [c for c in calls if ast.unparse(c.func) in ("st.text", "st.characters") and not has_alphabet(c)]
    assert [ast.unparse(call) for call in nameless] == []


def has_alphabet(call: ast.Call) -> bool:
    """Whether a call of a strategy of text says of which characters."""
    return bool(call.args) or "alphabet" in {keyword.arg for keyword in call.keywords}
