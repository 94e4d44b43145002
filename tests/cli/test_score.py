"""`harness score`: scorers alone, on files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NER = ["score", "slue_ner", "--gold", str(GOLDEN / "ner_gold.jsonl"), "--pred", str(GOLDEN / "ner_pred.jsonl")]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return str(path)


def answered(capsys, *argv):
    assert main(argv) == 0
    return capsys.readouterr().out


def test_entities_as_json(capsys):
    """The numbers are worked out in `tests/metrics/test_ner.py`."""
    found = json.loads(answered(capsys, *NER, "--json"))
    assert list(found) == ["f1", "label_f1"]
    for scores in found.values():
        assert list(scores) == ["micro", "macro", "per_label"]
        for row in (scores["micro"], scores["macro"], *scores["per_label"].values()):
            assert list(row) == ["precision", "recall", "f1"]
    assert found["f1"]["micro"]["f1"] == pytest.approx(8 / 17)
    assert found["label_f1"]["micro"]["f1"] == pytest.approx(12 / 17)


def test_entities_as_a_table(capsys):
    lines = answered(capsys, *NER).splitlines()
    assert lines[0].startswith("slue_ner, 5 utterances")
    assert lines[2].split() == ["micro", "0.5000", "0.4444", "0.4706", "0.7500", "0.6667", "0.7059", "9", "8"]
    assert [line.split()[0] for line in lines[3:]] == [
        "macro",
        "CITY",
        "LAW",
        "ORG",
        "PERSON",
        "PLACE",
        "QUANT",
        "WHEN",
    ]


def test_tags_are_recognized_or_named(tmp_path, capsys):
    gold = write(tmp_path / "gold", [{"id": "a", "entities": [["NORP", "finns"]]}])
    texts = write(tmp_path / "texts", [{"id": "a", "text": "the @ finns ]"}])
    argv = ["score", "slue_ner", "--gold", gold, "--pred", texts]
    assert json.loads(answered(capsys, *argv, "--tags", "combined", "--json"))["f1"]["micro"]["f1"] == 1
    assert json.loads(answered(capsys, *argv, "--tags", "raw", "--json"))["f1"]["micro"]["f1"] == 0
    assert main(argv) == 2
    assert "Say which they are: --tags raw or --tags combined" in capsys.readouterr().err


def test_sentiment(tmp_path, capsys):
    """Neutral 1 of 2, Positive 1 of 1, one is unparsable: F1 = 0, 2/3, 1, macro 5/9."""
    gold = write(
        tmp_path / "g", [{"id": i, "label": lb} for i, lb in {"a": "Neutral", "b": "Neutral", "c": "Positive"}.items()]
    )
    pred = write(
        tmp_path / "p", [{"id": i, "label": lb} for i, lb in {"c": "Positive", "a": "Neutral", "b": "dunno"}.items()]
    )
    argv = ["score", "slue_sa", "--gold", gold, "--pred", pred]
    found = json.loads(answered(capsys, *argv, "--json"))
    assert list(found) == ["macro_f1", "macro_precision", "macro_recall", "accuracy", "per_class", "unparsable"]
    assert found["macro_f1"] == pytest.approx(500 / 9)
    assert found["unparsable"] == found["accuracy"] / 2 == pytest.approx(100 / 3)
    lines = answered(capsys, *argv).splitlines()
    assert lines[0] == "slue_sa, in per cent: accuracy 66.67, unparsable 33.33"
    assert lines[-1].split() == ["Positive", "100.00", "100.00", "100.00", "1"]


def test_repetition(tmp_path, capsys):
    outputs = write(tmp_path / "o", [{"id": "a", "text": "to be or not to be"}, {"id": "b", "text": "to be or not"}])
    found = json.loads(answered(capsys, "score", "repetition", "--outputs", outputs, "--json"))
    assert found["self_bleu"] > found["auto_bleu"] > 0
    assert f"{found['vert']:.4f}" in answered(capsys, "score", "repetition", "--outputs", outputs)


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        ([{"id": "u1", "entities": []}], "4 of gold have no prediction (u2, u3, u4, …)"),
        ([{"id": "u1", "labels": []}], ":1: expected 'entities'"),
    ],
)
def test_bad_input_is_named(tmp_path, capsys, pred, message):
    assert main([*NER[:-1], write(tmp_path / "p", pred)]) == 2
    assert message in capsys.readouterr().err


def test_scoring_imports_no_giant():
    code = (
        f"import sys\nfrom harness.cli.main import main\nmain({[*NER, '--json']!r})\n"
        "print(sorted({'torch', 'mlflow', 'sklearn', 'transformers', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
