import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.corpora.manifest import Entity
from harness.corpora.slue import COMBINED, RAW_LABELS
from harness.errors import InputError
from harness.metrics.tags import (
    COMBINED_CHARACTERS,
    RAW_CHARACTERS,
    bio_labels,
    bio_mentions,
    combined_label,
    detect_tags,
    format_tags,
    mentions,
    parse_tags,
    strip_tags,
    word_spans,
)

TEXT = "in paris two finns of the eu saw big ben"
ENTITIES = [
    Entity("FAC", 33, 7),
    Entity("GPE", 3, 5),
    Entity("CARDINAL", 9, 3),
    Entity("NORP", 13, 5),
    Entity("ORG", 22, 6),
]


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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("no tags at all", []),
        ("in <PLACE> europe </>", [("PLACE", "europe")]),
        ("<ORG> the  european\tunion </> and <GPE> rome </> today", [("ORG", "the european union"), ("GPE", "rome")]),
        ("<ORG>the union</>,<GPE>rome</>", [("ORG", "the union"), ("GPE", "rome")]),
        ("<ORG> the <PLACE> europe </> union </>", [("PLACE", "europe")]),
        ("<ORG> the <ORG> union </>", [("ORG", "union")]),
        ("<PLACE> europe", []),
        ("<PLACE> europe </> and <ORG> the union", [("PLACE", "europe")]),
        ("<PLACE> </> europe </>", []),
        ("europe </> and </> <PLACE> rome </>", [("PLACE", "rome")]),
        ("<PLACE> rome </> </>", [("PLACE", "rome")]),
        ("<CITY> rome </> <place> rome </>", [("CITY", "rome"), ("place", "rome")]),
        ("<PLACE> rome </> <PLACE> rome </>", [("PLACE", "rome"), ("PLACE", "rome")]),
        ("a < b > c <> d", []),
        ("% rome ]", []),
    ],
)
def test_inline_tags(text, found):
    assert parse_tags(text) == found


@pytest.mark.parametrize(
    ("text", "raw", "combined"),
    [
        ("in % europe ]", [("GPE", "europe")], [("PLACE", "europe")]),
        ("! two ] ^ dutch ]", [("CARDINAL", "two"), ("LANGUAGE", "dutch")], [("LAW", "two"), ("QUANT", "dutch")]),
        ("} ada ] [ pen ]", [("PERSON", "ada"), ("PRODUCT", "pen")], []),
        ("% the # union ] ]", [("EVENT", "union")], [("ORG", "union")]),
        ("% europe", [], []),
        ("% ] europe ] & law ]", [("LAW", "law")], [("WHEN", "law")]),
        ("%europe ] 100% ]", [], []),
        ("% europe] & the law ]", [("LAW", "the law")], [("WHEN", "the law")]),
        ("< ten miles ] > noon ]", [("QUANTITY", "ten miles"), ("TIME", "noon")], []),
        ("<PLACE> rome </>", [], []),
    ],
)
def test_characters(text, raw, combined):
    assert parse_tags(text, "raw") == raw
    assert parse_tags(text, "combined") == combined


def test_tags_are_taken_out():
    assert strip_tags("<ORG> the <PLACE>europe</> union </> x <NORP>") == "the europe union x"
    assert strip_tags("! two ] of ) finns", "raw") == "two of finns"
    assert strip_tags("! two ] of ) finns", "combined") == "two of ) finns"


@pytest.mark.parametrize(
    ("tags", "tagged"),
    [
        ("inline", "in <PLACE> paris </> <QUANT> two </> <NORP> finns </> of <ORG> the eu </> saw big ben"),
        ("combined", "in % paris ] ^ two ] @ finns ] of # the eu ] saw big ben"),
        ("raw", "in % paris ] ! two ] ) finns ] of ` the eu ] saw $ big ben ]"),
    ],
)
def test_formats_what_it_parses(tags, tagged):
    assert format_tags(TEXT, ENTITIES, tags) == tagged
    assert strip_tags(tagged, tags) == TEXT
    found = [(combined_label(label), phrase) for label, phrase in parse_tags(tagged, tags)]
    kept = [
        (combined_label(label), phrase) for label, phrase in mentions(TEXT, sorted(ENTITIES, key=lambda e: e.start))
    ]
    assert [m for m in found if m[0]] == [m for m in kept if m[0]]


SPANS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(RAW_LABELS)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(SPANS)
def test_every_way_of_tagging_keeps_the_mentions(spans):
    text, entities, position = " ".join(str(k) for k in range(10, 40)), [], 0
    for gap, length, label in spans:
        entities.append(Entity(label, 3 * (position + gap), 3 * length - 1))
        position += gap + length
    raw = mentions(text, entities)
    kept = [(COMBINED[label], phrase) for label, phrase in raw if COMBINED[label]]
    assert parse_tags(format_tags(text, entities, "raw"), "raw") == raw
    assert parse_tags(format_tags(text, entities)) == kept
    assert parse_tags(format_tags(text, entities, "combined"), "combined") == kept
    assert bio_mentions(text.split(), bio_labels(text, entities)) == kept


def test_combined_labels_are_formatted_too():
    assert format_tags("in rome", [Entity("PLACE", 3, 4)]) == "in <PLACE> rome </>"
    with pytest.raises(InputError, match="'raw' has no character for 'PLACE', which is a combined label"):
        format_tags("in rome", [Entity("PLACE", 3, 4)], "raw")


@pytest.mark.parametrize(
    ("text", "entity", "message"),
    [
        ("in rome", Entity("CITY", 3, 4), r"There is no entity label 'CITY'\. Raw labels are CARDINAL"),
        ("in rome", Entity("GPE", 3, 3), "The GPE 'rom' is not whole words of 'in rome'"),
        ("in rome", Entity("GPE", 4, 3), "The GPE 'ome' is not whole words"),
        ("in  rome", Entity("GPE", 4, 4), "words of a text must stand one space apart"),
        ("in <GPE> rome </>", Entity("GPE", 9, 4), "holds tags already"),
    ],
)
def test_refuses_to_format(text, entity, message):
    with pytest.raises(InputError, match=message):
        format_tags(text, [entity])


def test_refuses_overlaps():
    with pytest.raises(InputError, match="The LOC 'north sea' overlaps another entity"):
        word_spans("the north sea", [Entity("LOC", 4, 9), Entity("ORG", 0, 9)])


def test_bio_labels():
    assert bio_labels(TEXT, ENTITIES) == ["O", "B-PLACE", "B-QUANT", "B-NORP", "O", "B-ORG", "I-ORG", "O", "O", "O"]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["O", "O", "O"], []),
        (["B-ORG", "I-ORG", "I-ORG"], [("ORG", "a b c")]),
        (["B-ORG", "B-ORG", "O"], [("ORG", "a"), ("ORG", "b")]),
        (["O", "I-ORG", "I-ORG"], [("ORG", "b c")]),
        (["B-ORG", "I-LAW", "I-LAW"], [("ORG", "a"), ("LAW", "b c")]),
        (["I-ORG", "O", "I-ORG"], [("ORG", "a"), ("ORG", "c")]),
    ],
)
def test_bio_mentions(labels, found):
    assert bio_mentions(["a", "b", "c"], labels) == found


def test_refuses_labels_that_are_no_bio():
    with pytest.raises(InputError, match="found 1 for 2 words"):
        bio_mentions(["a", "b"], ["O"])
    with pytest.raises(InputError, match="found 'ORG'"):
        bio_mentions(["a"], ["ORG"])


@pytest.mark.parametrize(
    ("texts", "tags"),
    [
        ([], "inline"),
        (["plain", "a ! b"], "inline"),
        (["% rome ]", "<PLACE> rome </>"], "inline"),
        (["% rome ]"], "raw"),
        (["% rome", "! two ]"], None),
        (["! two ]", "( ten euros ]"], "raw"),
        (["a ]"], "raw"),
    ],
)
def test_tag_format_of_texts(texts, tags):
    assert detect_tags(texts) == tags


def test_refuses_an_unknown_format():
    with pytest.raises(InputError, match="There is no tag format 'xml'"):
        parse_tags("a", "xml")
