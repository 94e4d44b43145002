import pytest

from harness.corpora.corpus import open_corpus, prepare_corpus, prepared_splits
from harness.corpora.ljspeech import OFFICIAL, normalize_text, split_of
from harness.corpora.manifest import Word
from harness.corpora.show import check_manifest
from harness.errors import CorpusError

ROWS = {
    "LJ001-0007": ("the earliest 42-line", 'the earliest, "forty-two line"'),
    "LJ049-0001": ("Don't", "Don't."),
    "LJ050-0002": ("N|o", "Never!"),
}


@pytest.fixture
def root(tmp_path, empty_home, write_audio):
    """LJ Speech laid out as distributed, three utterances of it."""
    folder = tmp_path / "data" / "LJSpeech-1.1"
    for utterance in ROWS:
        write_audio(folder / "wavs" / f"{utterance}.wav", rate=22050)
    write_rows(tmp_path / "data", {i: (raw.replace("|", ""), text) for i, (raw, text) in ROWS.items()})
    return tmp_path / "data"


def write_rows(root, rows):
    text = "".join("|".join((i, *fields)) + "\n" for i, fields in rows.items())
    (root / "LJSpeech-1.1" / "metadata.csv").write_text(text, "utf-8")


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ('the Gutenberg, or "forty-two line Bible" of fourteen fifty-five,', "the gutenberg or forty two line bible of"
         " fourteen fifty five"),
        ("don't say 'no'; the prisoners' governor's", "don't say no the prisoners governor's"),
        ("a three hours’ rise [Marina] “sponge,”", "a three hours rise marina sponge"),
        ("raison d'être, bric-à-brac", "raison d'être bric à brac"),
        ("caf" + "e\u0301", "café"),
        ("half-past -- nine_ten", "half past nine ten"),
        ("...", ""),
    ],
)  # fmt: skip
def test_normalize_text(text, normalized):
    assert normalize_text(text) == normalized
    assert normalize_text(normalized) == normalized


def test_splits_go_by_chapter():
    assert [split_of(f"LJ{n}-0001") for n in ("001", "048", "049", "050")] == ["train", "train", "dev", "test"]
    assert sum(OFFICIAL.values()) == 13100
    with pytest.raises(CorpusError, match=r"'LJ1-1' is not an id of LJ Speech"):
        split_of("LJ1-1")


def test_reads_the_official_layout(root):
    """The third column is the text; a quotation mark in it quotes nothing."""
    prepare_corpus("ljspeech", root)
    read = {s: open_corpus("ljspeech", s) for s in ("train", "dev", "test")}
    assert {s: [(u.id, u.text) for u in c.utterances] for s, c in read.items()} == {
        "train": [("LJ001-0007", "the earliest forty two line")],
        "dev": [("LJ049-0001", "don't")],
        "test": [("LJ050-0002", "never")],
    }
    (utterance,) = read["dev"].utterances
    assert (utterance.speaker, utterance.sample_rate, utterance.seconds) == ("LJ", 22050, 1.0)
    assert read["dev"].audio_path(utterance) == root / "LJSpeech-1.1" / "wavs" / "LJ049-0001.wav"
    assert prepared_splits("ljspeech")["dev"].notes == ("1 of 229 utterances", "word times for 0 of 1 utterances")


def test_the_inner_folder_gives_the_same_manifest(root):
    prepare_corpus("ljspeech", root)
    digest = open_corpus("ljspeech", "train").digest
    prepare_corpus("ljspeech", root / "LJSpeech-1.1")
    assert open_corpus("ljspeech", "train").digest == digest


def test_word_times(root, write_textgrid):
    words = [("the", 0, 0.2), ("earliest", 0.2, 0.5), ("forty", 0.5, 0.6), ("two", 0.6, 0.7), ("<unk>", 0.7, 1.0)]
    write_textgrid(root / "TextGrid" / "LJSpeech" / "LJ001-0007.TextGrid", words)
    write_textgrid(root / "TextGrid" / "LJSpeech" / "LJ049-0001.TextGrid", [("do", 0, 0.2), ("n't", 0.2, 0.5)])
    prepare_corpus("ljspeech", root)
    (utterance,) = open_corpus("ljspeech", "train").utterances
    assert utterance.words is not None
    assert utterance.words[-1] == Word("line", 0.7, 1.0)
    assert open_corpus("ljspeech", "dev").utterances[0].words is None
    assert "left out the word times of 1 utterances" in prepared_splits("ljspeech")["dev"].notes[-1]


def test_audio_without_a_line_is_noted(root, write_audio):
    write_audio(root / "LJSpeech-1.1" / "wavs" / "LJ001-0009.wav")
    prepare_corpus("ljspeech", root, ["train"])
    assert list(prepared_splits("ljspeech")) == ["train"]
    assert (
        "left out 1 audio files that no transcript lists: LJ001-0009.wav" in prepared_splits("ljspeech")["train"].notes
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("LJ002-0001", ("only two",)), "expected 'LJ001-0001"),
        (("LJ002-0001", ("one", "two", "three")), "expected 'LJ001-0001"),
        (("XY002-0001", ("Yes", "Yes")), "expected 'LJ001-0001"),
        (("LJ002-0001", ("Yes", "...")), "expected 'LJ001-0001"),
    ],
)
def test_refuses_a_line(root, row, message):
    write_rows(root, {"LJ001-0007": ("a", "a"), row[0]: row[1]})
    with pytest.raises(CorpusError, match=rf"metadata\.csv:2: {message}\|text\|normalized text', found '"):
        prepare_corpus("ljspeech", root)


def test_refuses_an_id_given_twice(root):
    (root / "LJSpeech-1.1" / "metadata.csv").write_text("LJ001-0007|a|a\nLJ001-0007|b|b\n")
    with pytest.raises(CorpusError, match=r"metadata\.csv:2: 'LJ001-0007' occurs twice"):
        prepare_corpus("ljspeech", root)


def test_refuses_absent_audio(root):
    (root / "LJSpeech-1.1" / "wavs" / "LJ001-0007.wav").unlink()
    with pytest.raises(CorpusError, match=r"train: 1 of 1 listed audio files are absent .*: wavs/LJ001-0007\.wav"):
        prepare_corpus("ljspeech", root)


@pytest.mark.parametrize("folder", [None, ".", "absent"])
def test_says_what_to_download(tmp_path, empty_home, folder):
    with pytest.raises(CorpusError, match=r"There is no LJ Speech .*LJSpeech-1\.1\.tar\.bz2 .*--root DIR"):
        prepare_corpus("ljspeech", folder and tmp_path / folder)


def test_refuses_a_split_that_is_not_there(root):
    write_rows(root, {"LJ001-0007": ("a", "a")})
    with pytest.raises(CorpusError, match=r"metadata\.csv holds no utterance of test; it holds: train\."):
        prepare_corpus("ljspeech", root, ["train", "test"])


def test_real_excerpt(shared_data, empty_home):
    prepare_corpus("ljspeech", shared_data / "ljspeech")
    assert prepared_splits("ljspeech")["train"].notes == ("14 of 12593 utterances",)
    corpus = open_corpus("ljspeech", "train")
    assert check_manifest(prepared_splits("ljspeech")["train"].manifest)["share_with_word_times"] == 1.0
    for utterance in corpus.utterances:
        assert utterance.words is not None
        assert " ".join(w.word for w in utterance.words) == utterance.text


def test_refuses_an_excerpt_of_something_else(tmp_path, empty_home, write_audio):
    write_audio(tmp_path / "a.wav")
    (tmp_path / "manifest.jsonl").write_text(
        '{"id": "a", "audio": "a.wav", "sample_rate": 16000, "seconds": 1.0, "text": "a", "speaker": "a"}\n'
    )
    with pytest.raises(CorpusError, match=r"manifest\.jsonl:1: 'a' is not an id of LJ Speech"):
        prepare_corpus("ljspeech", tmp_path)
