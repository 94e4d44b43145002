import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.corpora.manifest import Entity
from harness.corpora.slue import (
    normalize_entities,
    normalize_text,
    read_table,
    splits_inside_words,
)
from harness.corpora.slue_labels import (
    COMBINED,
    COMBINED_CHARACTERS,
    COMBINED_LABELS,
    RAW_CHARACTERS,
    RAW_LABELS,
    combined_entities,
    combined_label,
)
from harness.errors import CorpusError, FormatError


def test_label_sets():
    assert len(RAW_LABELS) == 18
    assert COMBINED_LABELS == ("LAW", "NORP", "ORG", "PERSON", "PLACE", "QUANT", "WHEN")
    assert {raw for raw, label in COMBINED.items() if label is None} == {
        "FAC", "EVENT", "WORK_OF_ART", "PRODUCT", "LANGUAGE",
    }  # fmt: skip
    assert {raw for raw, label in COMBINED.items() if label == "QUANT"} == {
        "CARDINAL", "ORDINAL", "QUANTITY", "MONEY", "PERCENT",
    }  # fmt: skip
    assert {raw for raw, label in COMBINED.items() if label in ("WHEN", "PLACE")} == {"DATE", "TIME", "GPE", "LOC"}


def test_characters_are_those_of_slue_toolkit():
    """Its `generic_utils.py`; as `]` closes, `[` can open."""
    assert {name: character for character, name in RAW_CHARACTERS.items()} == {
        "CARDINAL": "!", "DATE": "@", "EVENT": "#", "FAC": "$", "GPE": "%", "LANGUAGE": "^", "LAW": "&", "LOC": "*",
        "MONEY": "(", "NORP": ")", "ORDINAL": "~", "ORG": "`", "PERCENT": "{", "PERSON": "}", "PRODUCT": "[",
        "QUANTITY": "<", "TIME": ">", "WORK_OF_ART": "?",
    }  # fmt: skip
    assert {name: character for character, name in COMBINED_CHARACTERS.items()} == {
        "LAW": "!", "NORP": "@", "ORG": "#", "PERSON": "$", "PLACE": "%", "QUANT": "^", "WHEN": "&",
    }  # fmt: skip


def test_entities_under_the_labels_that_they_are_scored_as():
    entities = [Entity("GPE", 3, 5), Entity("FAC", 9, 3), Entity("LAW", 13, 5), Entity("QUANT", 20, 2)]
    assert combined_entities(entities) == [Entity("PLACE", 3, 5), Entity("LAW", 13, 5), Entity("QUANT", 20, 2)]
    assert {label: combined_label(label) for label in (*RAW_LABELS, *COMBINED_LABELS)} == {
        **{label: label for label in COMBINED_LABELS},
        **COMBINED,
    }
    with pytest.raises(FormatError, match=r"There is no entity label 'CITY'\. Raw labels are CARDINAL"):
        combined_entities([Entity("CITY", 3, 4)])


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("", ""),
        ("thank you, mr. president!", "thank you mr president"),
        ("why ? because ; yes", "why because yes"),
        ("the commission's plan", "the commission 's plan"),
        ("don't", "don 't"),
        ("the states' rights", "the states rights"),
        ("a ' b '", "a b"),
        ("'cause rock'n'roll", "'cause rock n 'roll"),
        ("commission 's don 't", "commission 's don 't"),
        ("  two   spaces ", "two spaces"),
        ("U.S. three-year 1,000", "US three-year 1000"),
        ("o''clock ''", "o 'clock"),
        ("is it 'good'?", "is it 'good"),
    ],
)
def test_normalize_text(text, normalized):
    assert normalize_text(text) == normalized


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab'. -,", max_size=12))
def test_normalizing_twice_changes_nothing(text):
    once = normalize_text(text)
    assert normalize_text(once) == once


def phrases(text, entities):
    return [(e.label, text[e.start : e.start + e.length]) for e in entities]


def test_entities_move_with_their_phrases():
    text = "no, the commission's mr. o'neil met the member states' eu-wide body on 1,000 days."
    spans = [("ORG", "the commission"), ("PERSON", "mr. o'neil"), ("GPE", "eu"), ("DATE", "1,000 days")]
    entities = [Entity(label, text.index(phrase), len(phrase)) for label, phrase in reversed(spans)]
    entities[1] = Entity("GPE", text.index("eu-"), 2)
    normalized, moved = normalize_entities(text, entities)
    assert normalized == "no the commission 's mr o 'neil met the member states eu -wide body on 1000 days"
    assert phrases(normalized, moved) == [
        ("ORG", "the commission"), ("PERSON", "mr o 'neil"), ("GPE", "eu"), ("DATE", "1000 days"),
    ]  # fmt: skip


def test_the_example_of_slue_toolkit():
    """Its `data/README.md`: ['LAW', 86, 18] is `article twenty one`."""
    text = (
        "this could be done by looking more specifically into the suggested fallback clause in article twenty one "
        "in cases"
    )
    normalized, moved = normalize_entities(text, [Entity("LAW", 86, 18)])
    assert phrases(normalized, moved) == [("LAW", "article twenty one")]
    assert (normalized, moved) == (text, (Entity("LAW", 86, 18),))


def test_text_without_entities_is_normalized_as_always():
    assert normalize_entities("it's,  fine", []) == ("it 's fine", ())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text("ab'.", max_size=5), st.booleans()), min_size=1, max_size=6))
def test_normalized_phrases_are_those_of_the_text(words):
    """Whatever is deleted before an entity, its offsets name its own words."""
    text, entities, position = " ".join(word for word, _ in words), [], 0
    for word, marked in words:
        if marked and normalize_text(word):
            entities.append(Entity("ORG", position, len(word)))
        position += len(word) + 1
    normalized, moved = normalize_entities(text, entities)
    assert normalized == normalize_text(text)
    assert phrases(normalized, moved) == [("ORG", normalize_text(text[e.start : e.start + e.length])) for e in entities]


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        ([Entity("GPE", 5, 5)], "the GPE at character 5, 5 long, lies outside a text of 9 characters"),
        ([Entity("GPE", -1, 3)], "lies outside"),
        ([Entity("GPE", 3, 0)], "lies outside"),
        ([Entity("GPE", 2, 3)], r"the GPE at character 2 is ' ro', with a space at its end"),
        ([Entity("ORG", 0, 7), Entity("GPE", 3, 4)], "the ORG at character 0 overlaps the GPE after it"),
        ([Entity("GPE", 8, 1)], r"the GPE '\.' holds no word"),
    ],
)
def test_refuses_entities_of_another_text(entities, message):
    with pytest.raises(CorpusError, match=message):
        normalize_entities("in rome .", entities)


def test_splits_inside_words():
    assert splits_inside_words("eurozone", [Entity("LOC", 0, 4)])
    assert not splits_inside_words("eu-wide", [Entity("LOC", 0, 2)])
    assert not splits_inside_words("europe's", [Entity("LOC", 0, 6)])


# --- tables -----------------------------------------------------------------------------------------------------------


def table(tmp_path, text):
    path = tmp_path / "t.tsv"
    path.write_text(text, "utf-8")
    return path


def test_reads_rows_as_pandas_writes_them(tmp_path):
    path = table(tmp_path, '\tid\ttext\tmore\n0\ta\t"""quoted"" and\ttab"\tNone\n\n1\tb\tNone\t\n')
    assert read_table(path, ["id", "text"]) == [
        (f"{path}:2", {"id": "a", "text": '"quoted" and\ttab'}),
        (f"{path}:4", {"id": "b", "text": "None"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\ttext\na\tb\tc\n", r"t\.tsv:2: expected 2 cells, found 3"),
        ("id\ttext\na\tb\na\tc\n", r"t\.tsv:3: 'a' is already on .*t\.tsv:2"),
        ("id\ttext\n", "holds no row"),
        ("", "has no column id, text; it has: none"),
        ("id,text\na,b\n", r"has no column id, text; it has: id,text\. Expected tab-separated"),
        ("<!DOCTYPE html>\n<title>Log in</title>\n", "is a web page, not a table: the download was refused"),
        ("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page, not a table"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
    ],
)
def test_refuses_a_table(tmp_path, text, message):
    with pytest.raises(CorpusError, match=message):
        read_table(table(tmp_path, text), ["id", "text"])


def test_refuses_a_table_of_other_bytes(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b"id\ttext\na\t\xff\n")
    with pytest.raises(CorpusError, match="not a table in UTF-8"):
        read_table(path, ["id", "text"])
