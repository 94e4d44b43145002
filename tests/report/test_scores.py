"""Tables of scorers on files, from counts that are worked out by hand."""

from harness.metrics.classification import classification_scores
from harness.metrics.ner import ner_scores
from harness.report.scores import class_table, entity_table, repetition_table


def test_entities():
    """Gold {(A, x), (B, y)}, predicted {(A, x), (B, z)}: one of two phrases, and both labels.

    Precision, recall and F1 are 1/2 over all; A has 1 and B 0, so that their mean is 1/2; the labels alone have 1.
    """
    scores = ner_scores({"u": [("A", "x"), ("B", "y")]}, {"u": [("A", "x"), ("B", "z")]}, {"A": "A", "B": "B"})
    table = entity_table("mine", scores)
    assert table.title == "mine, 1 utterances; the label columns compare labels whatever the phrase"
    half, one, zero = ["0.5000"] * 3, ["1.0000"] * 3, ["0.0000"] * 3
    assert [list(row) for row in table.rows] == [
        ["micro", *half, *one, "2", "2"],
        ["macro", *half, *one, "", ""],
        ["A", *one, *one, "1", "1"],
        ["B", *zero, *one, "1", "1"],
    ]


def test_classes():
    """Gold a, a, b; answers a, b, b: precision and recall are 1, 1/2 for a and 1/2, 1 for b; F1 2/3."""
    gold, answers = {"1": "a", "2": "a", "3": "b"}, {"1": "a", "2": "b", "3": "b"}
    table = class_table("mine", classification_scores(gold, answers, ("a", "b")))
    assert table.title == "mine, in per cent: accuracy 66.67, unparsable 0.00"
    assert table.rows == (
        ("macro", "75.00", "75.00", "66.67", "3"),
        ("a", "100.00", "50.00", "66.67", "2"),
        ("b", "50.00", "100.00", "66.67", "1"),
    )


def test_repetition():
    assert repetition_table({"distinct_2": 0.25}).rows == (("distinct_2", "0.2500"),)
