import json

import pytest

from harness.corpora.corpus import open_corpus, prepare_corpus, prepared_splits
from harness.corpora.librispeech import CORPUS, OFFICIAL, normalize_text
from harness.corpora.manifest import Word
from harness.corpora.show import check_manifest
from harness.errors import AudioError, CorpusError, ManifestError

CHAPTER = {"1272-7-0000": "WE SAW PARIS", "1272-7-0001": "IT'S  LATE", "1272-7-0002": "NO"}


@pytest.fixture
def chapter(tmp_path, empty_home, write_audio):
    """The folder of one chapter of dev-clean, laid out as distributed."""
    folder = tmp_path / "data" / "LibriSpeech" / "dev-clean" / "1272" / "7"
    for index, utterance in enumerate(CHAPTER):
        write_audio(folder / f"{utterance}.flac", seconds=1.0 + index / 8)
    transcribe(folder, CHAPTER)
    return folder


def transcribe(folder, texts):
    name = f"{folder.parent.name}-{folder.name}.trans.txt"
    (folder / name).write_text("".join(f"{i} {t}\n" for i, t in texts.items()), "utf-8")


def root_of(chapter):
    return chapter.parents[3]


def open_prepared(root, split="dev-clean"):
    prepare_corpus("librispeech", root)
    return open_corpus("librispeech", split)


def test_reads_the_official_layout(chapter):
    corpus = open_prepared(root_of(chapter))
    assert [(u.id, u.text, u.seconds) for u in corpus.utterances] == [
        ("1272-7-0000", "we saw paris", 1.0),
        ("1272-7-0001", "it's late", 1.125),
        ("1272-7-0002", "no", 1.25),
    ]
    assert {(u.speaker, u.split, u.sample_rate, u.words) for u in corpus.utterances} == {
        ("1272", "dev-clean", 16000, None)
    }
    assert all(corpus.audio_path(u) == chapter / f"{u.id}.flac" for u in corpus.utterances)
    check_manifest(prepared_splits("librispeech")["dev-clean"].manifest)


def test_the_library_folder_itself_gives_the_same_manifest(chapter):
    assert open_prepared(root_of(chapter)).digest == open_prepared(root_of(chapter) / "LibriSpeech").digest


def test_pairs_by_id_and_not_by_order(chapter):
    transcribe(chapter, dict(reversed(CHAPTER.items())))
    corpus = open_prepared(root_of(chapter))
    assert {u.id: u.text for u in corpus.utterances} == {i: normalize_text(t) for i, t in CHAPTER.items()}


def test_an_incomplete_split_is_noted(chapter):
    open_prepared(root_of(chapter))
    assert prepared_splits("librispeech")["dev-clean"].notes == (
        "3 of 2703 utterances",
        "word times for 0 of 3 utterances",
    )


def test_a_complete_split_with_words_has_no_notes(chapter, write_textgrid, monkeypatch):
    monkeypatch.setitem(OFFICIAL, "dev-clean", 3)
    for utterance, text in CHAPTER.items():
        words = [(w.lower(), i / 4, (i + 1) / 4) for i, w in enumerate(text.split())]
        write_textgrid(root_of(chapter) / "alignments" / "dev-clean" / f"{utterance}.TextGrid", words)
    corpus = open_prepared(root_of(chapter))
    assert prepared_splits("librispeech")["dev-clean"].notes == ()
    assert corpus.utterances[1].words == (Word("it's", 0.0, 0.25), Word("late", 0.25, 0.5))


def test_an_alignment_that_does_not_fit_is_left_out_and_noted(chapter):
    (chapter / "1272-7.alignment.txt").write_text(
        '1272-7-0000 ",WE,SAW,PARIS" "0.1,0.2,0.5,0.9"\n1272-7-0001 "IT\'S,," "0.2,0.5,0.6"\n', "utf-8"
    )
    corpus = open_prepared(root_of(chapter))
    assert corpus.utterances[0].words == (Word("we", 0.1, 0.2), Word("saw", 0.2, 0.5), Word("paris", 0.5, 0.9))
    assert [u.words for u in corpus.utterances[1:]] == [None, None]
    assert prepared_splits("librispeech")["dev-clean"].notes[1:] == (
        "word times for 1 of 3 utterances",
        "left out the word times of 1 utterances, whose alignment does not fit transcript and audio: 1272-7-0001",
    )


def test_audio_without_a_transcript_is_left_out_and_noted(chapter, write_audio):
    write_audio(chapter / "1272-7-0009.flac")
    assert len(open_prepared(root_of(chapter)).utterances) == 3
    assert "left out 1 audio files that no transcript lists: 1272-7-0009.flac" in (
        prepared_splits("librispeech")["dev-clean"].notes
    )


def test_only_named_splits_are_prepared(chapter, write_audio):
    other = chapter.parents[2] / "test-other" / "9" / "8"
    write_audio(other / "9-8-0000.flac")
    transcribe(other, {"9-8-0000": "YES"})
    prepare_corpus("librispeech", root_of(chapter), ["test-other"])
    assert list(prepared_splits("librispeech")) == ["test-other"]
    prepare_corpus("librispeech", root_of(chapter))
    assert sorted(prepared_splits("librispeech")) == ["dev-clean", "test-other"]


def test_splits_may_come_from_different_roots(chapter, write_audio, tmp_path):
    """Each split keeps the folder of its own audio."""
    other = tmp_path / "other" / "LibriSpeech" / "test-other" / "9" / "8"
    write_audio(other / "9-8-0000.flac")
    transcribe(other, {"9-8-0000": "YES"})
    first = open_prepared(root_of(chapter))
    second = open_prepared(tmp_path / "other", "test-other")
    assert open_corpus("librispeech", "dev-clean").root == first.root == root_of(chapter) / "LibriSpeech"
    assert second.root == tmp_path / "other" / "LibriSpeech"


def test_refuses_absent_audio_naming_the_first_few(chapter):
    for path in chapter.glob("*.flac"):
        path.unlink()
    transcribe(chapter, CHAPTER | {"1272-7-0003": "YES"})
    with pytest.raises(
        CorpusError,
        match=r"dev-clean: 4 of 4 listed audio files are absent under .*: dev-clean/1272/7/1272-7-0000\.flac, "
        r"dev-clean/1272/7/1272-7-0001\.flac, dev-clean/1272/7/1272-7-0002\.flac, …\. Unpack the archive again\.",
    ):
        open_prepared(root_of(chapter))
    assert prepared_splits("librispeech") == {}


@pytest.mark.parametrize("texts", [{"1272-8-0000": "YES"}, {"1272-7-0000": ""}, {"YES": "YES"}])
def test_refuses_a_transcript_line(chapter, texts):
    transcribe(chapter, {"1272-7-0001": "NO"} | texts)
    with pytest.raises(CorpusError, match=r"1272-7\.trans\.txt:2: expected '1272-7-NNNN TRANSCRIPT', found '"):
        open_prepared(root_of(chapter))


def test_refuses_an_utterance_transcribed_twice(chapter):
    (chapter / "1272-7.trans.txt").write_text("1272-7-0000 YES\n1272-7-0000 NO\n")
    with pytest.raises(CorpusError, match=r"1272-7\.trans\.txt:2: '1272-7-0000' is transcribed twice"):
        open_prepared(root_of(chapter))


def test_refuses_a_split_without_transcripts(chapter):
    (chapter / "1272-7.trans.txt").unlink()
    with pytest.raises(CorpusError, match=r"dev-clean holds no .*trans\.txt; unpack dev-clean\.tar\.gz again"):
        open_prepared(root_of(chapter))


def test_refuses_damaged_audio_naming_the_file(chapter):
    (chapter / "1272-7-0001.flac").write_bytes(b"not audio")
    with pytest.raises(AudioError, match=r"1272-7-0001\.flac is not readable as audio"):
        open_prepared(root_of(chapter))


def test_says_what_to_download_when_nothing_is_there(tmp_path, empty_home):
    with pytest.raises(
        CorpusError,
        match=r"There is no LibriSpeech in .*Download dev-clean\.tar\.gz, .*train-other-500\.tar\.gz from "
        r"https://www\.openslr\.org/12, .*--root DIR",
    ):
        prepare_corpus("librispeech", tmp_path)


@pytest.mark.parametrize("root", [None, "absent"])
def test_says_how_to_name_the_folder(tmp_path, empty_home, root):
    with pytest.raises(CorpusError, match=r"There is no LibriSpeech test-clean .*Download test-clean\.tar\.gz from"):
        prepare_corpus("librispeech", root and tmp_path / root, ["test-clean"])


def test_says_which_archive_is_missing(chapter):
    with pytest.raises(CorpusError, match=r"There is no LibriSpeech test-clean in .*Download test-clean\.tar\.gz from"):
        prepare_corpus("librispeech", root_of(chapter), ["dev-clean", "test-clean"])


@pytest.fixture
def excerpt(tmp_path, empty_home, write_audio):
    """Writes an excerpt of one utterance, its line changed as asked, and returns the root."""

    def write(**changes):
        root = tmp_path / "excerpt"
        write_audio(root / "a.flac", seconds=1.0)
        line = {"id": "1-2-0000", "audio": "a.flac", "sample_rate": 16000, "seconds": 1.0, "text": "Yes we do"}
        line |= {"speaker": "1", "split": "dev-clean", "gender": "F"} | changes
        (root / "manifest.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
        return root

    return write


def test_reads_an_excerpt(excerpt):
    words = [{"word": "YES", "start": 0, "end": 0.2}, {"word": "we", "start": 0.2, "end": 0.4}]
    root = excerpt(words=[*words, {"word": "do", "start": 0.4, "end": 0.9}])
    corpus = open_prepared(root)
    assert corpus.root == root
    assert corpus.utterances[0].text == "yes we do"
    assert corpus.utterances[0].words == (Word("yes", 0.0, 0.2), Word("we", 0.2, 0.4), Word("do", 0.4, 0.9))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"split": "dev"}, CorpusError, r"manifest\.jsonl:1: 'dev' is not a split of LibriSpeech; it has: dev-clean"),
        ({"seconds": 1.02}, CorpusError, r"a\.flac lasts 1\.000 s, but '1-2-0000' is listed with 1\.02 s"),
        ({"audio": "b.flac"}, CorpusError, r"1 of 1 listed audio files are absent under .*: b\.flac"),
        ({"seconds": -1}, ManifestError, r"manifest\.jsonl:1: 'seconds' must be positive"),
    ],
)
def test_refuses_an_excerpt(excerpt, changes, error, message):
    with pytest.raises(error, match=message):
        open_prepared(excerpt(**changes))


def test_refuses_a_split_that_the_excerpt_lacks(excerpt):
    with pytest.raises(CorpusError, match=r"holds no utterance of test-clean; it holds: dev-clean\."):
        prepare_corpus("librispeech", excerpt(), ["test-clean"])


def test_real_excerpt(shared_data, empty_home):
    prepare_corpus("librispeech", shared_data / "librispeech")
    prepared = prepared_splits("librispeech")
    assert {split: p.notes[0] for split, p in prepared.items()} == {
        "dev-clean": "4 of 2703 utterances",
        "test-other": "60 of 2939 utterances",
        "train-clean-100": "30 of 28539 utterances",
    }
    checked = {split: check_manifest(p.manifest) for split, p in prepared.items()}
    assert sum(c["utterances"] for c in checked.values()) == 94
    assert sum(round(c["utterances"] * c["share_with_word_times"]) for c in checked.values()) == 80
    for split in prepared:
        for utterance in open_corpus("librispeech", split).utterances:
            assert utterance.words is None or " ".join(w.word for w in utterance.words) == utterance.text


def test_official_numbers():
    """Utterances of the 960 h of training and of all, as in Panayotov et al. (2015)."""
    assert sum(OFFICIAL[s] for s in OFFICIAL if s.startswith("train")) == 281241
    assert sum(OFFICIAL.values()) == 292367
    assert CORPUS.info.splits == tuple(OFFICIAL)
