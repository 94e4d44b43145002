import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.corpora.manifest import Entity
from harness.corpora.slue_labels import (
    COMBINED,
    COMBINED_CHARACTERS,
    RAW_CHARACTERS,
    RAW_LABELS,
    combined_entities,
    combined_label,
)
from harness.errors import FormatError, JoinError
from harness.metrics.tags import (
    bio_labels,
    bio_mentions,
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
    assert parse_tags(text, RAW_CHARACTERS) == raw
    assert parse_tags(text, COMBINED_CHARACTERS) == combined


def test_tags_are_taken_out():
    assert strip_tags("<ORG> the <PLACE>europe</> union </> x <NORP>") == "the europe union x"
    assert strip_tags("! two ] of ) finns", RAW_CHARACTERS) == "two of finns"
    assert strip_tags("! two ] of ) finns", COMBINED_CHARACTERS) == "two of ) finns"


COMBINED_ENTITIES = combined_entities(ENTITIES)


@pytest.mark.parametrize(
    ("characters", "entities", "tagged"),
    [
        (
            None,
            COMBINED_ENTITIES,
            "in <PLACE> paris </> <QUANT> two </> <NORP> finns </> of <ORG> the eu </> saw big ben",
        ),
        (COMBINED_CHARACTERS, COMBINED_ENTITIES, "in % paris ] ^ two ] @ finns ] of # the eu ] saw big ben"),
        (RAW_CHARACTERS, ENTITIES, "in % paris ] ! two ] ) finns ] of ` the eu ] saw $ big ben ]"),
    ],
    ids=["inline", "combined", "raw"],
)
def test_formats_what_it_parses(characters, entities, tagged):
    assert format_tags(TEXT, entities, characters) == tagged
    assert strip_tags(tagged, characters) == TEXT
    assert parse_tags(tagged, characters) == mentions(TEXT, sorted(entities, key=lambda e: e.start))
    found = [(combined_label(label), phrase) for label, phrase in parse_tags(tagged, characters)]
    assert [m for m in found if m[0]] == mentions(TEXT, sorted(COMBINED_ENTITIES, key=lambda e: e.start))


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
    scored = combined_entities(entities)
    assert parse_tags(format_tags(text, entities, RAW_CHARACTERS), RAW_CHARACTERS) == raw
    assert parse_tags(format_tags(text, scored)) == kept
    assert parse_tags(format_tags(text, scored, COMBINED_CHARACTERS), COMBINED_CHARACTERS) == kept
    assert bio_mentions(text.split(), bio_labels(format_tags(text, scored))) == kept


def test_a_label_needs_its_character():
    with pytest.raises(FormatError, match="no character for the label 'PLACE'; there are ones for CARDINAL"):
        format_tags("in rome", [Entity("PLACE", 3, 4)], RAW_CHARACTERS)


@pytest.mark.parametrize(
    ("text", "entity", "message"),
    [
        ("in rome", Entity("GPE", 3, 3), "The GPE 'rom' is not whole words of 'in rome'"),
        ("in rome", Entity("GPE", 4, 3), "The GPE 'ome' is not whole words"),
        ("in  rome", Entity("GPE", 4, 4), "words of a text must stand one space apart"),
        ("in <GPE> rome </>", Entity("GPE", 9, 4), "holds tags already"),
    ],
)
def test_refuses_to_format(text, entity, message):
    with pytest.raises(FormatError, match=message):
        format_tags(text, [entity])


def test_refuses_overlaps():
    with pytest.raises(FormatError, match="The LOC 'north sea' overlaps another entity"):
        word_spans("the north sea", [Entity("LOC", 4, 9), Entity("ORG", 0, 9)])


def test_bio_labels():
    assert bio_labels(format_tags(TEXT, COMBINED_ENTITIES)) == [
        "O",
        "B-PLACE",
        "B-QUANT",
        "B-NORP",
        "O",
        "B-ORG",
        "I-ORG",
        "O",
        "O",
        "O",
    ]


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
    with pytest.raises(JoinError, match="found 1 for 2 words"):
        bio_mentions(["a", "b"], ["O"])
    with pytest.raises(FormatError, match="found 'ORG'"):
        bio_mentions(["a"], ["ORG"])
