import inspect

import pytest

from harness import errors
from harness.errors import HarnessError, InputError, UnknownNameError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, HarnessError)]


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: c.__name__)
def test_what_the_caller_can_mend_ends_with_2_and_the_rest_with_1(error):
    assert error.exit_code == (2 if issubclass(error, InputError) else 1)


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: c.__name__)
def test_each_kind_says_what_it_is(error):
    assert inspect.getdoc(error) != inspect.getdoc(error.__base__)


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
