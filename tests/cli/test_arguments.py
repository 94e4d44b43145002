"""Lists of names, and what completes them."""

import pytest

from harness.cli.arguments import complete_corpora, complete_models, complete_shown, complete_tasks, names_in
from harness.errors import UsageError


def test_names_are_separated_by_commas():
    assert names_in("cra") == ("cra",)
    assert names_in(" cra, x.py:T ,,pelm") == ("cra", "x.py:T", "pelm")


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_no_names_are_a_mistake(text):
    with pytest.raises(UsageError, match=f"'{text}' names nothing"):
        names_in(text)


def test_the_last_name_of_a_list_is_completed():
    assert complete_tasks("cr") == ["cra"]
    assert complete_tasks("pelm,slue_") == ["pelm,slue_ner", "pelm,slue_sa"]
    assert complete_models("textlm") == ["textlm-tiny"]
    assert complete_tasks("nosuch") == []
    assert "demo" in complete_corpora("de")
    assert complete_shown("t") == [*complete_tasks("t"), *complete_models("t")] != []
