"""Files of gold and predictions: what their lines are, and the scores of files worked by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.corpora.manifest import SENTIMENTS
from harness.errors import FormatError, InputError
from harness.evaluation.score_files import (
    detect_tags,
    read_mentions,
    score_entity_files,
    score_repetition_file,
    score_sentiment_files,
)
from harness.metrics.classification import classification_scores
from harness.metrics.ner import Counts, micro_f1
from harness.metrics.repetition import score

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
GOLD = ["Negative", "Neutral", "Neutral", "Positive", "Positive", "Positive"]
PREDICTED = ["Negative", "Neutral", "Positive", "Positive", "Neutral", "no idea"]


def approx(precision, recall, f1):
    return pytest.approx({"precision": precision, "recall": recall, "f1": f1}, abs=1e-12)


def named(labels):
    return {f"u{k}": label for k, label in enumerate(labels)}


# --- entities ---------------------------------------------------------------------------------------------------------


def test_golden_files():
    """Worked by hand.

    u1: gold europe twice, today once; predicted europe once, today twice: PLACE 1 of 2 gold, 1 predicted; WHEN 1, 2.
    u2: predicted are (PERSON, lovelace), as `<PERSON> ada` is opened anew, and (WHEN, eighteen forty), as DATE drops
        the ORG that it opens in; NORP is empty, LAW never closed.
    u3: FAC is discarded on both sides; London is not london. u4: CITY is no label. u5: ORDINAL and CARDINAL are QUANT.

    (tp, gold, predicted): PLACE 1 3 2 · WHEN 2 2 3 · PERSON 0 1 1 · ORG 0 1 0 · QUANT 1 1 1 · LAW 0 1 0 · CITY 0 0 1;
    together 4 9 8, so P = 4/8, R = 4/9, F1 = 8/17. Macro over 7 labels: P = (1/2 + 2/3 + 1) / 7,
    R = (1/3 + 1 + 1) / 7, F1 = (0.4 + 0.8 + 1) / 7.
    Labels alone: PLACE 2 3 2 · PERSON 1 1 1, else the same; together 6 9 8.
    """
    found = score_entity_files(GOLDEN / "ner_gold.jsonl", GOLDEN / "ner_pred.jsonl").to_json()
    assert found["f1"]["micro"] == approx(1 / 2, 4 / 9, 8 / 17)
    assert found["f1"]["macro"] == approx((1 / 2 + 2 / 3 + 1) / 7, (1 / 3 + 2) / 7, 2.2 / 7)
    assert found["label_f1"]["micro"] == approx(3 / 4, 6 / 9, 12 / 17)
    assert found["label_f1"]["macro"] == approx((1 + 2 / 3 + 2) / 7, (2 / 3 + 3) / 7, 3.6 / 7)
    zero = {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert found["f1"]["per_label"] == {
        "CITY": zero,
        "LAW": zero,
        "ORG": zero,
        "PERSON": zero,
        "PLACE": approx(1 / 2, 1 / 3, 0.4),
        "QUANT": approx(1, 1, 1),
        "WHEN": approx(2 / 3, 1, 0.8),
    }
    assert found["label_f1"]["per_label"]["PERSON"] == approx(1, 1, 1)


def test_counts_of_utterances_sum_to_micro():
    found = score_entity_files(GOLDEN / "ner_gold.jsonl", GOLDEN / "ner_pred.jsonl").f1
    assert found.counts == {
        "u1": Counts(2, 3, 3),
        "u2": Counts(1, 3, 2),
        "u3": Counts(0, 1, 1),
        "u4": Counts(0, 0, 1),
        "u5": Counts(1, 2, 1),
    }
    assert found.label_counts["WHEN"] == Counts(2, 2, 3)
    table = [(c.tp, c.gold, c.predicted) for c in found.counts.values()]
    assert micro_f1(np.sum(table, axis=0)) == pytest.approx(found.micro.f1, abs=1e-15)


def write(path, lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def test_reads_texts_and_lists(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        [
            {"id": "a", "text": "in <PLACE> rome </>"},
            "",
            {"id": 7, "entities": [["GPE", "rome"]], "text": "<ORG> eu </>", "speaker": "x"},
            {"id": "b", "text": "no ! tag"},
        ],
    )
    found = read_mentions(path)
    assert found == {"a": [("PLACE", "rome")], "7": [("GPE", "rome")], "b": []}
    assert list(found) == ["a", "7", "b"]


def test_reads_characters_of_slue_toolkit(tmp_path):
    """`)` is NORP, which combined labels write as `@`: all texts of the file are of raw labels."""
    path = write(tmp_path / "a.jsonl", [{"id": "a", "text": "the ) finns ]"}, {"id": "b", "text": "! two ] @ may ]"}])
    assert read_mentions(path) == {"a": [("NORP", "finns")], "b": [("CARDINAL", "two"), ("DATE", "may")]}
    assert read_mentions(path, tags="combined")["b"] == [("LAW", "two"), ("NORP", "may")]


def test_asks_which_characters_they_are(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"id": "a", "text": "@ today ]"}])
    with pytest.raises(FormatError, match="Say which they are: --tags raw or --tags combined"):
        read_mentions(path)
    assert read_mentions(path, tags="raw") == {"a": [("DATE", "today")]}
    assert read_mentions(path, tags="combined") == {"a": [("NORP", "today")]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"a\.jsonl:2: not a line of JSON"),
        ("[]", r"a\.jsonl:2: expected an object, found list"),
        ({"entities": []}, r"a\.jsonl:2: an item has an 'id', a string; found None"),
        ({"id": "a", "entities": []}, r"a\.jsonl:2: id 'a' stands already on .*a\.jsonl:1"),
        ({"id": "b"}, r"a\.jsonl:2: expected 'entities', .* found the keys 'id'"),
        ({"id": "b", "text": None}, "expected 'entities'"),
        ({"id": "b", "entities": None}, r"'entities' is a list of \[label, phrase\]; found None"),
        ({"id": "b", "entities": [["GPE"]]}, r"an entity is \[label, phrase\], two strings; found \['GPE'\]"),
        ({"id": "b", "entities": [["GPE", 3, 6]]}, r"an entity is \[label, phrase\]"),
        ({"id": "b", "entities": [[None, "rome"]]}, r"an entity is \[label, phrase\]"),
    ],
)
def test_refuses_a_line(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", [{"id": "a", "entities": []}, line])
    with pytest.raises(FormatError, match=message):
        read_mentions(path)


def test_refuses_a_file_without_items(tmp_path):
    with pytest.raises(FormatError, match="holds no items"):
        read_mentions(write(tmp_path / "a.jsonl", [""]))
    with pytest.raises(FormatError, match="There is no file"):
        read_mentions(tmp_path / "b.jsonl")


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


# --- sentiment --------------------------------------------------------------------------------------------------------


def test_files(tmp_path):
    for name, labels in (("gold", GOLD), ("predicted", PREDICTED)):
        lines = [json.dumps({"id": i, "label": label, "more": 1}) for i, label in named(labels).items()]
        (tmp_path / name).write_text("\n".join(lines), "utf-8")
    found = score_sentiment_files(tmp_path / "gold", tmp_path / "predicted")
    assert found.to_json() == classification_scores(named(GOLD), named(PREDICTED), SENTIMENTS).to_json()
    (tmp_path / "bad").write_text('{"id": "u0", "sentiment": "Neutral"}')
    with pytest.raises(FormatError, match=r"bad:1: an item has a 'label'; found the keys 'id', 'sentiment'"):
        score_sentiment_files(tmp_path / "gold", tmp_path / "bad")


@pytest.mark.parametrize("label", ["<mixed>", "Disagreement"])
def test_dropped_labels_are_no_gold(tmp_path, label):
    gold, predicted = (
        write(tmp_path / name, [{"id": "u0", "label": text}]) for name, text in (("g", label), ("p", "Neutral"))
    )
    with pytest.raises(FormatError, match=rf"'{label}' for 'u0', which is none of Negative, .* Drop such rows"):
        score_sentiment_files(gold, predicted)


# --- repetition -------------------------------------------------------------------------------------------------------


def test_outputs_of_a_file(tmp_path):
    records = [{"id": "1", "text": "The cat the CAT"}, {"id": "2", "text": "the cat", "n": 1}]
    assert score_repetition_file(write(tmp_path / "o.jsonl", records)) == score(records)


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (["no json"], FormatError, r"o\.jsonl:1: not a line of JSON"),
        ([{"id": "1", "text": "a b"}, {"id": "2"}], FormatError, r"o\.jsonl:2: an output has a 'text'"),
        ([{"id": None, "text": "a b"}], FormatError, r"o\.jsonl:1: an item has an 'id'"),
        (["[]"], FormatError, r"o\.jsonl:1: expected an object"),
        ([{"id": "1", "text": "a b"}] * 2, FormatError, r"id '1' stands already on"),
        ([""], FormatError, "holds no items"),
        ([{"id": "1", "text": "a b"}], InputError, "found 1 in all"),
    ],
)
def test_a_file_without_outputs_is_refused_with_its_line(tmp_path, lines, error, message):
    with pytest.raises(error, match=message):
        score_repetition_file(write(tmp_path / "o.jsonl", lines))
