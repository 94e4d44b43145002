import inspect
import re
from pathlib import Path

import pytest

from harness import errors
from harness.errors import HarnessError, InputError, UnknownNameError, without_secrets

ROOT = Path(__file__).resolve().parents[1]
CODE = [path for folder in ("harness", "tasks", "models") for path in (ROOT / folder).rglob("*.py")]
CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, HarnessError)]


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: c.__name__)
def test_what_the_caller_can_mend_ends_with_2_and_the_rest_with_1(error):
    assert error.exit_code == (2 if issubclass(error, InputError) else 1)


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: c.__name__)
def test_each_kind_says_what_it_is(error):
    assert inspect.getdoc(error) != inspect.getdoc(error.__base__)


def test_every_error_is_of_the_kind_that_fits():
    bare = [p.name for p in CODE if re.search(r"raise (HarnessError|InputError)\b", p.read_text("utf-8"))]
    assert bare == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no file https://me:hush@host/m", "no file https://***@host/m"),
        ("no file https:/me:hush@host/m", "no file https:/***@host/m"),  # as a path has it
        ("postgresql+psycopg://me:hu@sh@host:5432/db failed", "postgresql+psycopg://***@host:5432/db failed"),
        ("http://token@host, http://other@host", "http://***@host, http://***@host"),
        ("models:/name@best, a/b:c@d, sutlm@latest", "models:/name@best, a/b:c@d, sutlm@latest"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_messages_have_no_secrets(text, shown):
    assert without_secrets(text) == shown
    assert str(HarnessError(text)) == shown


def test_an_unknown_name_brings_the_nearest_and_the_list():
    assert str(UnknownNameError("task", "craa", ["pelm", "cra"])) == (
        "There is no task called 'craa'. The nearest is 'cra'. Known: cra, pelm."
    )


def test_of_many_names_the_five_nearest_are_listed():
    message = str(UnknownNameError("metric", "m10", (f"m{i}" for i in range(1000))))
    assert "The nearest is 'm10'." in message
    assert message.endswith(", and 995 more.")


def test_where_there_is_no_name_at_all():
    assert str(UnknownNameError("card", "x", [])) == "There is no card called 'x'. Known: none."
