import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.corpora.manifest import Entity, Utterance, Word, iter_manifest, read_manifest, write_manifest
from harness.errors import ManifestError
from tests.characters import CHARACTERS

LINE = {
    "id": "a-1",
    "audio": "wav/a-1.flac",
    "sample_rate": 16000,
    "seconds": 2.0,
    "text": "we saw paris",
    "speaker": "a",
    "split": "test",
    "words": [
        {"word": "we", "start": 0.1, "end": 0.4},
        {"word": "saw", "start": 0.4, "end": 0.9},
        {"word": "paris", "start": 1.0, "end": 1.9},
    ],
    "labels": {"sentiment": "Neutral", "entities": [{"label": "GPE", "start": 7, "length": 5}]},
}


def put(tmp_path, *lines):
    path = tmp_path / "test.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def words(*rows):
    return {"words": [{"word": w, "start": s, "end": e} for w, s, e in rows]}


def entities(*rows):
    return {"labels": {"entities": [{"label": label, "start": s, "length": n} for label, s, n in rows]}}


def test_reads_every_part(tmp_path):
    (utterance,) = read_manifest(put(tmp_path, LINE))
    assert utterance.words == (Word("we", 0.1, 0.4), Word("saw", 0.4, 0.9), Word("paris", 1.0, 1.9))
    assert utterance.sentiment == "Neutral"
    assert utterance.entities == (Entity("GPE", 7, 5),)
    assert utterance.text[7 : 7 + 5] == "paris"


def test_optional_parts_may_be_absent_or_null(tmp_path):
    bare = {key: value for key, value in LINE.items() if key not in ("words", "labels")}
    null = bare | {"id": "a-2", "words": None, "labels": None}
    for utterance in read_manifest(put(tmp_path, bare, null)):
        assert (utterance.words, utterance.sentiment, utterance.entities) == (None, None, None)


def test_no_entities_is_not_unlabeled(tmp_path):
    (utterance,) = read_manifest(put(tmp_path, LINE | entities()))
    assert utterance.entities == ()


def test_blank_lines_are_skipped_and_counted(tmp_path):
    path = put(tmp_path, "", LINE, "  ", LINE | {"id": "a-2"})
    assert [number for number, _ in iter_manifest(path)] == [2, 4]


def test_entities_come_sorted(tmp_path):
    (utterance,) = read_manifest(put(tmp_path, LINE | entities(("B", 7, 5), ("A", 0, 2))))
    assert utterance.entities == (Entity("A", 0, 2), Entity("B", 7, 5))


def test_whole_seconds_are_a_float(tmp_path):
    (utterance,) = read_manifest(put(tmp_path, LINE | {"seconds": 2}))
    assert isinstance(utterance.seconds, float)


def test_rounding_of_aligners_is_accepted(tmp_path):
    """A word may begin 50 ms before the one before ends and end 50 ms after the audio, no more."""
    read_manifest(put(tmp_path, LINE | words(("we", 0.0, 1.04), ("saw", 1.0, 2.05))))
    with pytest.raises(ManifestError, match="does not follow"):
        read_manifest(put(tmp_path, LINE | words(("we", 0.0, 2.06))))


NOT_A_LINE = "not a line of JSON in UTF-8"
REFUSALS = {
    "broken JSON": ('{"id": ', NOT_A_LINE),
    "key given twice": ('{"id": "a", "id": "b"}', "the key 'id' is given twice"),
    "number of 5,000 digits": ('{"seconds": ' + "9" * 5000 + "}", NOT_A_LINE),
    "nested 100,000 deep": ("[" * 100_000, NOT_A_LINE),
    "a list": ([1, 2], "expected an object, found list"),
    "unknown key": (LINE | {"gender": "F"}, r"unknown key 'gender'; known: id, audio, .*, labels, words\."),
    "text is a number": (LINE | {"text": 3}, "'text' has the wrong type: 3"),
    "rate is true": (LINE | {"sample_rate": True}, "'sample_rate' has the wrong type: True"),
    "rate is a fraction": (LINE | {"sample_rate": 16000.5}, "'sample_rate' has the wrong type"),
    "rate is zero": (LINE | {"sample_rate": 0}, r"'sample_rate' must be positive \(Hz\); found 0"),
    "no length": (LINE | {"seconds": 0}, "'seconds' must be positive; found 0"),
    "length is NaN": (LINE | {"seconds": math.nan}, "'seconds' must be positive; found nan"),
    "length is infinite": (LINE | {"seconds": math.inf}, "'seconds' must be positive; found inf"),
    "length is huge": (LINE | {"seconds": 10**400}, "'seconds' must be positive"),
    "id is blank": (LINE | {"id": " "}, "'id' is empty"),
    "speaker is blank": (LINE | {"speaker": ""}, "'speaker' is empty"),
    "split is blank": (LINE | {"split": ""}, "'split' is empty"),
    "audio is absolute": (LINE | {"audio": "/etc/passwd"}, "'audio' must stay inside the corpus root"),
    "audio climbs out": (LINE | {"audio": "a/../../b.wav"}, r"inside the corpus root; found 'a/\.\./\.\./b\.wav'"),
    "audio is blank": (LINE | {"audio": ""}, "'audio' must stay inside the corpus root"),
    "audio with backslash": (LINE | {"audio": "..\\b.wav"}, "'audio' is written with '/'"),
    "words are no list": (LINE | {"words": {"word": "we", "start": 0, "end": 1}}, "'words' is a list"),
    "word is a string": (LINE | {"words": ["we"]}, "a word is {'word', 'start', 'end'}; found 'we'"),
    "word has more keys": (LINE | {"words": [{"word": "we", "start": 0, "end": 1, "p": 1}]}, "a word is"),
    "word is blank": (LINE | words((" ", 0, 1)), "a word needs a string and two times"),
    "word starts at true": (LINE | words(("we", True, 1.5)), "a word needs a string and two times"),
    "word ends at NaN": (LINE | words(("we", 0, math.nan)), "a word needs a string and two times"),
    "word before the audio": (LINE | words(("we", -0.01, 0.5)), "'we' spans -0.01-0.5 s"),
    "word backwards": (LINE | words(("we", 0.5, 0.4)), "'we' spans 0.5-0.4 s"),
    "words out of order": (LINE | words(("we", 1.0, 1.5), ("saw", 0.5, 0.9)), "does not follow 1.5 s"),
    "word after the audio": (LINE | words(("we", 0, 3)), r"inside an audio of 2\.0 s\.$"),
    "times in milliseconds": (LINE | words(("we", 100, 400)), r"\(milliseconds\? times are in seconds\)"),
    "labels are a list": (LINE | {"labels": []}, "'labels' holds 'sentiment' and 'entities' only; found \\[\\]"),
    "unknown label": (LINE | {"labels": {"emotion": "joy"}}, "'labels' holds 'sentiment' and 'entities' only"),
    "unknown sentiment": (LINE | {"labels": {"sentiment": "Mixed"}}, "'Mixed' is not one of Negative, Neutral"),
    "sentiment is a list": (LINE | {"labels": {"sentiment": ["Neutral"]}}, "is not one of"),
    "entities are no list": (LINE | {"labels": {"entities": "GPE"}}, "'entities' is a list"),
    "entity is a list": (LINE | {"labels": {"entities": [["GPE", 7, 5]]}}, "an entity is {'label', 'start', 'length'}"),
    "entity without label": (LINE | entities(("", 7, 5)), "an entity needs a label and two whole numbers"),
    "entity label is a number": (LINE | entities((1, 7, 5)), "an entity needs a label and two whole numbers"),
    "entity starts at true": (LINE | entities(("GPE", True, 5)), "an entity needs a label and two whole numbers"),
    "entity past the text": (LINE | entities(("GPE", 7, 6)), "lies outside the text of 12 characters"),
    "entity before the text": (LINE | entities(("GPE", -1, 3)), "lies outside the text"),
    "entity of no length": (LINE | entities(("GPE", 7, 0)), "lies outside the text"),
}


@pytest.mark.parametrize(("line", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refuses(tmp_path, line, message):
    with pytest.raises(ManifestError, match=rf"test\.jsonl:2: .*{message}"):
        read_manifest(put(tmp_path, LINE, line))


@pytest.mark.parametrize("key", ["id", "audio", "sample_rate", "seconds", "text", "speaker", "split"])
def test_refuses_a_line_without(tmp_path, key):
    with pytest.raises(ManifestError, match=rf"test\.jsonl:1: '{key}' is missing"):
        read_manifest(put(tmp_path, {k: v for k, v in LINE.items() if k != key}))


def test_refuses_an_id_given_twice(tmp_path):
    with pytest.raises(ManifestError, match=r"test\.jsonl:4: id 'a-1' is already on line 1; ids are unique"):
        read_manifest(put(tmp_path, LINE, "", LINE | {"id": "a-2"}, LINE))


def test_refuses_an_absent_file(tmp_path):
    with pytest.raises(ManifestError, match=r"There is no manifest .*none\.jsonl.*harness data prepare"):
        read_manifest(tmp_path / "none.jsonl")


def test_refuses_an_empty_file(tmp_path):
    with pytest.raises(ManifestError, match=r"test\.jsonl holds no utterance"):
        read_manifest(put(tmp_path, "", "  "))


def test_refuses_other_encodings(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(ManifestError, match=r"test\.jsonl:1: not a line of JSON in UTF-8 \('utf-8' codec"):
        read_manifest(path)


def test_a_failed_write_leaves_the_old_manifest_alone(tmp_path):
    path = put(tmp_path, LINE)
    before = path.read_bytes()

    def one_then_failure():
        yield from read_manifest(path)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_manifest(path, one_then_failure())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def _utterances():
    name = st.text(CHARACTERS, min_size=1).filter(lambda s: s.strip())
    seconds = st.floats(min_value=1e-3, max_value=1e5)

    @st.composite
    def one(draw):
        length, text = draw(seconds), draw(st.text(CHARACTERS))
        times = sorted(draw(st.lists(st.floats(min_value=0, max_value=length), max_size=6)))
        spans = list(zip(times[::2], times[1::2], strict=False))
        spoken = tuple(Word(draw(name), start, end) for start, end in spans)
        found = []
        if text:
            for _ in range(draw(st.integers(0, 3))):
                start = draw(st.integers(0, len(text) - 1))
                found.append(
                    Entity(draw(st.text(CHARACTERS, min_size=1)), start, draw(st.integers(1, len(text) - start)))
                )
        found.sort(key=lambda e: (e.start, e.length, e.label))
        return Utterance(
            id=draw(name),
            audio=draw(st.sampled_from(["a.wav", "á/b c.flac", "x/y/z.ogg"])),
            sample_rate=draw(st.integers(1, 192000)),
            seconds=length,
            text=text,
            speaker=draw(name),
            split=draw(name),
            words=draw(st.sampled_from([None, spoken])),
            sentiment=draw(st.sampled_from([None, "Negative", "Neutral", "Positive"])),
            entities=draw(st.sampled_from([None, tuple(found)])),
        )

    return st.lists(one(), min_size=1, max_size=4, unique_by=lambda u: u.id)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(utterances=_utterances())
def test_what_is_written_is_read(tmp_path, utterances):
    path = tmp_path / "any.jsonl"
    write_manifest(path, utterances)
    assert read_manifest(path) == utterances
    first = path.read_bytes()
    write_manifest(path, read_manifest(path))
    assert path.read_bytes() == first
