import json

import pytest

from harness.corpora.alignments import (
    Alignments,
    alignment_folders,
    find_alignments,
    fit_words,
    read_alignment_list,
    read_ctm,
    read_textgrid,
)
from harness.corpora.manifest import Word
from harness.errors import CorpusError

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0.0
xmax = 2.0
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0.0
        xmax = 2.0
        intervals: size = 4
            intervals [1]:
                xmin = 0.000
                xmax = 0.500
                text = "say"
            intervals [2]:
                xmin = 0.500
                xmax = 0.700
                text = ""
            intervals [3]:
                xmin = 0.700
                xmax = 1.500
                text = "the ""3.5"" word"
            intervals [4]:
                xmin = 1.500
                xmax = 2.000
                text = "sil"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0.0
        xmax = 2.0
        points: size = 1
            points [1]:
                number = 1.1
                mark = "click"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
2
"IntervalTier"
"words"
0
2
4
0
0.5
"say"
0.5
0.7
""
0.7
1.5
"the ""3.5"" word"
1.5
2
"sil"
"TextTier"
"clicks"
0
2
1
1.1
"click"
"""
WORDS = [Word("say", 0.0, 0.5), Word('the "3.5" word', 0.7, 1.5)]


def put(tmp_path, text, name="a.TextGrid", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("text", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_both_formats_hold_the_same_words(tmp_path, text, encoding):
    assert read_textgrid(put(tmp_path, text, encoding=encoding)) == WORDS


def test_windows_line_ends(tmp_path):
    assert read_textgrid(put(tmp_path, LONG.replace("\n", "\r\n"))) == WORDS


def test_accents_survive_utf_16(tmp_path):
    assert read_textgrid(put(tmp_path, LONG.replace("say", "café"), encoding="utf-16"))[0].word == "café"


def test_a_tier_named_by_speaker_counts(tmp_path):
    assert read_textgrid(put(tmp_path, LONG.replace('"words"', '"LJ - words"'))) == WORDS


@pytest.mark.parametrize("silence", ["", " ", "sil", "SIL", "sp", "spn", "<eps>"])
def test_silences_are_dropped(tmp_path, silence):
    assert read_textgrid(put(tmp_path, LONG.replace('"say"', f'"{silence}"'))) == WORDS[1:]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (LONG, "hello", r":1: the file ends where a text should follow"),
        ('"ooTextFile"', '"Pitch"', r":1: not a TextGrid"),
        ('"TextGrid"', '"Pitch 1"', r":1: not a TextGrid"),
        ('name = "words"', 'name = "phones"', r":\d+: 0 tiers called 'words', expected one; tiers: 'phones', 'clicks'"),
        ('name = "clicks"', 'name = "Words"', r":\d+: 2 tiers called 'words'"),
        ('class = "TextTier"', 'class = "Sound"', r":35: 'Sound' is not a kind of tier"),
        ("intervals: size = 4", "intervals: size = 5", r":32: expected a number, found a text: \"TextTier\""),
        ("intervals: size = 4", "intervals: size = 4.5", r":14: expected a count, found '4.5'"),
        ("xmin = 0.500", "xmin = half", r":22: expected a number, found a text: \"\""),
        ("xmin = 0.700", "xmin = 1.700", r":25: 1\.7-1\.5 s is not a span of time"),
        ('text = "sil"', 'text = "sil', r":\d+: expected a number, found a quotation mark that is never closed"),
        ('mark = "click"', 'mark = "click', r":39: expected a text, found a quotation mark that is never closed"),
        ('                mark = "click"\n', "", r":39: the file ends where a text should follow"),
        ("<exists>", "<absent>", r":6: 0 tiers called 'words', expected one; tiers: none"),
        ("tiers? <exists>\n", "", r":6: expected a flag, found a number: 2"),
    ],
)
def test_refuses_a_textgrid(tmp_path, old, new, message):
    with pytest.raises(CorpusError, match=r"a\.TextGrid" + message):
        read_textgrid(put(tmp_path, LONG.replace(old, new, 1)))


def test_refuses_text_that_is_not_utf_8(tmp_path):
    with pytest.raises(CorpusError, match=r"a\.TextGrid:18: not utf-8-sig text .*save it as UTF-8"):
        read_textgrid(put(tmp_path, LONG.replace("say", "café"), encoding="latin-1"))


def test_real_textgrids_hold_the_words_of_the_excerpt(shared_data):
    """The excerpt's `words` were read of the same files by other code, which cut them to the audio's rounded length."""
    folder = shared_data / "ljspeech"
    for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        words = read_textgrid(folder / "textgrid" / f"{row['id']}.TextGrid")
        assert [w.word for w in words] == [w["word"] for w in row["words"]]
        times = [time for w in row["words"] for time in (w["start"], w["end"])]
        assert [time for w in words for time in (w.start, w.end)] == pytest.approx(times, abs=1e-3)


def test_ctm(tmp_path):
    path = put(tmp_path, ";; made by hand\na-1 1 0.5 0.25 we 0.9\na-1 1 0.8 0.1 <eps>\n\na-2 A 0 1 saw\n", "x.ctm")
    assert read_ctm(path) == {"a-1": [Word("we", 0.5, 0.75)], "a-2": [Word("saw", 0.0, 1.0)]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a-1 1 0.5 we", r"expected 'id channel start duration word \[confidence\]', found 'a-1 1 0.5 we'"),
        ("a-1 1 zero 0.5 we", "expected 'id channel start duration word"),
        ("a-1 1 0 inf we", "expected 'id channel start duration word"),
        ("a-1 1 0.5 -0.1 we", r"0\.5-0\.4 s is not a span of time"),
    ],
)
def test_refuses_a_ctm_line(tmp_path, line, message):
    with pytest.raises(CorpusError, match=rf"x\.ctm:2: {message}"):
        read_ctm(put(tmp_path, f"a-0 1 0 1 so\n{line}\n", "x.ctm"))


def test_alignment_list(tmp_path):
    """Labels and the time at which each ends: silence to 0.49, GO to 0.89, silence to 1.09, DO to 1.38."""
    path = put(tmp_path, '84-1-0000 ",GO,,DO," "0.490,0.890,1.090,1.380,2.09"\n', "84-1.alignment.txt")
    assert read_alignment_list(path) == {"84-1-0000": [Word("GO", 0.49, 0.89), Word("DO", 1.09, 1.38)]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('a-2 ",GO" "0.5"', "with as many ends as words"),
        ("a-2 GO 0.5", "expected 'id"),
        ('a-2 "GO" "soon"', "'soon' is not a list of times"),
        ('a-2 "GO,ON" "1.0,0.5"', r"1\.0-0\.5 s is not a span of time"),
        ('a-1 "GO" "1.0"', "the utterance 'a-1' occurs twice"),
    ],
)
def test_refuses_an_alignment_list_line(tmp_path, line, message):
    with pytest.raises(CorpusError, match=rf"a\.alignment\.txt:2: .*{message}"):
        read_alignment_list(put(tmp_path, f'a-1 "SO" "1.0"\n{line}\n', "a.alignment.txt"))


def test_finds_files_however_deep(tmp_path, write_textgrid):
    write_textgrid(tmp_path / "TextGrid" / "dev" / "1" / "a-1.TextGrid", [("we", 0, 1)])
    (tmp_path / "alignments").mkdir()
    put(tmp_path / "alignments", "a-2 1 0 1 saw\n", "all.ctm")
    (tmp_path / "audio").mkdir()
    folders = alignment_folders(tmp_path)
    assert [f.name for f in folders] == ["TextGrid", "alignments"]
    found = find_alignments(folders)
    assert found.words("a-1") == [Word("we", 0.0, 1.0)]
    assert found.words("a-2") == [Word("saw", 0.0, 1.0)]
    assert found.words("a-3") is None
    assert Alignments().words("a-1") is None


def test_textgrid_goes_before_ctm_before_list(tmp_path, write_textgrid):
    put(tmp_path, 'a-1 "LIST" "1.0"\na-2 "LIST" "1.0"\na-3 "LIST" "1.0"\n', "a.alignment.txt")
    put(tmp_path, "a-1 1 0 1 ctm\na-2 1 0 1 ctm\n", "a.ctm")
    write_textgrid(tmp_path / "a-1.TextGrid", [("textgrid", 0, 1)])
    found = find_alignments([tmp_path])
    assert [found.words(i)[0].word for i in ("a-1", "a-2", "a-3")] == ["textgrid", "ctm", "LIST"]  # type: ignore[index]


def test_refuses_two_files_for_one_utterance(tmp_path, write_textgrid):
    write_textgrid(tmp_path / "one" / "a-1.TextGrid", [("we", 0, 1)])
    write_textgrid(tmp_path / "two" / "a-1.TextGrid", [("we", 0, 1)])
    with pytest.raises(CorpusError, match=r"Two alignments claim the utterance 'a-1': .*one.* and .*two"):
        find_alignments([tmp_path])
    assert find_alignments([tmp_path / "one", tmp_path / "one"]).words("a-1") is not None


def fit(*rows, text="we saw", seconds=2.0):
    return fit_words([Word(*row) for row in rows], text, seconds=seconds, normalize=str.lower)


def test_words_are_spelled_as_in_the_transcript():
    assert fit(("WE", 0.0, 0.5), ("Saw", 0.5, 1.0)) == (Word("we", 0.0, 0.5), Word("saw", 0.5, 1.0))


def test_an_unknown_word_is_the_one_in_its_place():
    assert fit(("we", 0.0, 0.5), ("<unk>", 0.5, 1.0)) == (Word("we", 0.0, 0.5), Word("saw", 0.5, 1.0))


def test_a_rounded_end_is_cut_to_the_audio():
    assert fit(("we", 0.0, 0.5), ("saw", 0.5, 2.04)) == (Word("we", 0.0, 0.5), Word("saw", 0.5, 2.0))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("we", 0.0, 0.5)],
        [("<unk>", 0.0, 0.5)],
        [("we", 0.0, 0.5), ("see", 0.5, 1.0)],
        [("saw", 0.0, 0.5), ("we", 0.5, 1.0)],
        [("we", 0.0, 0.5), ("saw", 0.5, 1.0), ("it", 1.0, 1.5)],
        [("we", 1.0, 1.5), ("saw", 0.0, 0.5)],
        [("we", 0.0, 0.5), ("saw", 0.5, 2.1)],
    ],
    ids=["none", "dropped", "unknown and dropped", "other word", "other order", "added", "backwards", "past the audio"],
)
def test_words_that_do_not_fit(rows):
    assert fit(*rows) is None
