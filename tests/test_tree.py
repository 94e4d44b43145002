"""How the code lies: sizes of files, names of classes, and tests that mirror it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(path for folder in ("harness", "tasks", "models") for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(path):
    return path.relative_to(ROOT).as_posix()


def test_files_are_short():
    """None over 500 lines, nine in ten up to 350."""
    lines = {name(path): len(path.read_text("utf-8").splitlines()) for path in CODE}
    assert {path: n for path, n in lines.items() if n > 500} == {}
    assert sorted(lines.values())[int(0.9 * len(lines))] <= 350


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_generated_text_names_its_alphabet(path):
    """Hypothesis builds its own, all of Unicode, so slowly that its health check fails in a fresh clone."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    nameless = [c for c in calls if ast.unparse(c.func) in ("st.text", "st.characters") and not has_alphabet(c)]
    assert [ast.unparse(call) for call in nameless] == []


def has_alphabet(call: ast.Call) -> bool:
    """Whether a call of a strategy of text says of which characters."""
    return bool(call.args) or "alphabet" in {keyword.arg for keyword in call.keywords}
