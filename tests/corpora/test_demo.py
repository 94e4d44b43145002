"""The demo corpus: sentences that are the same everywhere, labels that fit them, speech whose times fit it."""

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.corpora import _espeak, _lexicon, demo
from harness.corpora.corpus import corpus_registry, open_corpus
from harness.corpora.manifest import SENTIMENTS, Utterance, Word, read_manifest
from harness.errors import CorpusError

SPLITS = ("train", "fine-tune", "dev", "test", "test_heldout_voice")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the first six utterances of `test` and `test_heldout_voice`."""
    out = tmp_path_factory.mktemp("demo")
    for split in ("test", "test_heldout_voice"):
        demo.generate(split, out, limit=6)
    return out


@pytest.fixture(scope="module")
def texts():
    numbers = {"train": 600, "fine-tune": 300, "dev": 200, "test": 200}
    return {split: demo.sentences(split, number) for split, number in numbers.items()}


def words_of(utterance: Utterance) -> tuple[Word, ...]:
    assert utterance.words is not None
    return utterance.words


def halves(sentence):
    """The two halves around the cut nearest half of the words."""
    words = sentence.text.split()
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def test_another_process_writes_the_same_sentences():
    code = "from harness.corpora import demo; print('|'.join(s.text for s in demo.sentences('test', 40)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "|".join(s.text for s in demo.sentences("test", 40))


def test_fewer_sentences_are_the_first_of_more():
    assert demo.sentences("dev", 30) == demo.sentences("dev")[:30]


def test_the_sentences_are_those_of_this_version():
    """A change here changes every number measured on the demo: raise `demo.VERSION` with it."""
    lines = [
        f"{s.sentiment} {s.text} {[(e.label, e.start, e.length) for e in s.entities]}"
        for s in demo.sentences("test", 20)
    ]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert (demo.VERSION, digest) == (4, "b18c9b3593c92845")


def test_splits_share_no_text_and_no_half(texts):
    for a, b in combinations(texts, 2):
        assert not {s.text for s in texts[a]} & {s.text for s in texts[b]}
        for side in (0, 1):
            assert not {halves(s)[side] for s in texts[a]} & {halves(s)[side] for s in texts[b]}


def test_second_halves_of_a_split_are_distinct(texts):
    assert all(len({halves(s)[1] for s in texts[name]}) == len(texts[name]) for name in texts)


def test_text_is_normalized_and_of_the_length_promised(texts):
    for sentence in (s for split in texts.values() for s in split):
        assert set(sentence.text) <= set("abcdefghijklmnopqrstuvwxyz ")
        assert 13 <= len(sentence.text.split()) <= 17
        assert " ".join(sentence.text.split()) == sentence.text


def test_the_middle_falls_between_the_clues_of_the_halves(texts):
    for sentence in (s for split in texts.values() for s in split):
        words = sentence.text.split()
        by_letters = min(range(1, len(words)), key=lambda k: abs(len(" ".join(words[:k])) - len(sentence.text) / 2))
        for cut in (len(words) // 2, -(-len(words) // 2), by_letters):
            assert sentence.cut_low <= cut <= sentence.cut_high


def test_the_middle_of_the_time_does_too(made):
    for utterance, sentence in zip(read_manifest(made / "test.jsonl"), demo.sentences("test", 6), strict=True):
        middle = utterance.seconds / 2
        cut = min(range(1, len(words_of(utterance))), key=lambda k: abs(words_of(utterance)[k].start - middle))
        assert sentence.cut_low <= cut <= sentence.cut_high


def test_person_place_and_topic_stand_in_both_halves(texts):
    topics = [(t.agent, *t.nouns, *t.verbs) for t in _lexicon.TOPICS]
    for sentence in texts["test"]:
        first, second = (set(half.split()) for half in halves(sentence))
        for group in (_lexicon.PEOPLE, _lexicon.PLACES, topics):
            assert any(set(member) & first and set(member) & second for member in group), sentence.text


def test_each_source_of_dependence_has_many_values(texts):
    assert (len(_lexicon.PEOPLE), len(_lexicon.PLACES), len(_lexicon.TOPICS)) == (24, 20, 20)
    assert 400 <= len({word for s in texts["train"] for word in s.text.split()}) <= 500


def test_no_word_tells_two_topics():
    words = Counter(w for t in _lexicon.TOPICS for w in (t.agent, *t.nouns, *t.verbs))
    assert [w for w, n in words.items() if n > 1] == []


def test_entities_are_whole_words_of_their_kind(texts):
    names = {word for person in _lexicon.PEOPLE for word in person}
    places = {word for place in _lexicon.PLACES for word in (place.city, place.country)}
    kinds = {"GPE": places, "NORP": {place.norp for place in _lexicon.PLACES}}
    for sentence in (s for split in texts.values() for s in split):
        assert sentence.entities
        for entity in sentence.entities:
            end = entity.start + entity.length
            phrase = sentence.text[entity.start : end]
            assert f" {sentence.text} "[entity.start] == f" {sentence.text} "[end + 1] == " "
            assert entity.label != "PERSON" or set(phrase.split()) <= names
            assert phrase in kinds.get(entity.label, {phrase})


def test_one_word_has_several_labels(texts):
    labels: dict[str, set[str]] = {}
    for sentence in texts["train"]:
        for entity in sentence.entities:
            labels.setdefault(sentence.text[entity.start : entity.start + entity.length], set()).add(entity.label)
    assert {"PERSON", "GPE"} <= labels["jordan"] & labels["paris"]


def test_all_labels_occur(texts):
    expected = "PERSON GPE LOC NORP ORG DATE TIME CARDINAL ORDINAL MONEY PERCENT LAW EVENT PRODUCT"
    assert {e.label for s in texts["train"] for e in s.entities} == set(expected.split())


def test_sentiment_is_balanced(texts):
    for split in texts.values():
        counts = Counter(s.sentiment for s in split)
        assert set(counts) == set(SENTIMENTS)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_sentiment_follows_the_last_evaluated_clause(texts):
    """Reads the sentences back: the last evaluative word decides, and a "never" that governs it turns it."""
    lists = (_lexicon.VERBS, _lexicon.MOODS, _lexicon.ADJECTIVES)
    value = {word: sign for kind in lists for sign in kind for word in kind[sign]}
    for sentence in (s for split in texts.values() for s in split):
        words = sentence.text.split()
        last = 0
        for i, word in enumerate(words):
            if value.get(word, 0):
                last = -value[word] if _negated(words[:i]) else value[word]
        assert sentence.sentiment == SENTIMENTS[last + 1], sentence.text


def test_the_second_half_mostly_repeats_what_the_first_thinks(texts):
    """So that a language model has to hear it, in whichever modality the first half is."""
    lists = (_lexicon.VERBS, _lexicon.MOODS, _lexicon.ADJECTIVES)
    words = {word for kind in lists for sign in kind for word in kind[sign]}
    told = [[words & set(half.split()) for half in halves(s)] for s in texts["train"]]
    first = [pair for pair in told if pair[0]]
    assert len(first) > 0.7 * len(told)
    assert np.mean([bool(a & b) for a, b in first]) > 0.7


def _negated(before):
    """Whether the words end as in "never VERB", "never seemed ADJECTIVE", "never found the NORP NOUN ADJECTIVE"."""
    return before[-1:] == ["never"] or before[-2:] == ["never", "seemed"] or before[-5:-3] == ["never", "found"]


def test_counting_evaluative_words_does_not_solve_the_sentiment(texts):
    """The sign of (positive words - negative words) is wrong for more than a tenth: contrast and "never" matter."""
    lists = (_lexicon.VERBS, _lexicon.MOODS, _lexicon.ADJECTIVES)
    value = {word: sign for kind in lists for sign in kind for word in kind[sign]}
    found = [np.sign(sum(value.get(word, 0) for word in s.text.split())) for s in texts["train"]]
    right = [SENTIMENTS[int(sign) + 1] == s.sentiment for sign, s in zip(found, texts["train"], strict=True)]
    assert np.mean(right) < 0.9


def test_manifest_and_audio_fit(made):
    found = read_manifest(made / "test.jsonl")
    assert [u.text for u in found] == [s.text for s in demo.sentences("test", 6)]
    for utterance in found:
        info = soundfile.info(made / utterance.audio)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (22050, 1, "WAV", "PCM_16")
        assert utterance.sample_rate == 22050
        assert utterance.seconds == pytest.approx(info.frames / 22050, abs=1e-5)
        assert 3 < utterance.seconds < 10


def test_words_are_those_of_the_text_at_rising_times(made):
    for utterance in read_manifest(made / "test.jsonl"):
        assert [w.word for w in words_of(utterance)] == utterance.text.split()
        assert all(w.start < w.end for w in words_of(utterance))
        assert all(a.end == b.start for a, b in pairwise(words_of(utterance)))
        assert words_of(utterance)[0].start >= 0
        assert words_of(utterance)[-1].end <= utterance.seconds + 0.001


def test_the_last_word_ends_with_the_sound(made):
    for utterance in read_manifest(made / "test.jsonl"):
        samples, rate = soundfile.read(made / utterance.audio)
        end = round(words_of(utterance)[-1].end * rate)
        # A millisecond of grace for the rounding of times.
        assert np.abs(samples[end + 22 :]).max(initial=0) <= 0.01 * np.abs(samples).max()
        assert np.abs(samples[end - 44 :]).max() > 0.01 * np.abs(samples).max()


def test_ids_carry_split_and_version(made):
    assert [u.id for u in read_manifest(made / "test.jsonl")][:2] == ["demo4-test-0000", "demo4-test-0001"]


def test_heldout_voice_speaks_the_test_sentences(made):
    heldout, plain = (read_manifest(made / f"{name}.jsonl") for name in ("test_heldout_voice", "test"))
    assert [u.text for u in heldout] == [u.text for u in plain]
    assert not set(demo.HELDOUT_VOICES) & set(demo.TRAINING_VOICES)
    assert not {s.name for s in demo.speakers("test_heldout_voice")} & {s.name for s in demo.speakers("train")}
    assert len(demo.speakers("test_heldout_voice")) == 6


def test_dev_and_test_have_the_training_speakers():
    assert demo.speakers("train") == demo.speakers("dev") == demo.speakers("test")
    assert len({s.name for s in demo.speakers("train")}) == 24


@pytest.mark.parametrize("split", ["dev", "test"])
def test_speakers_are_balanced_and_independent_of_the_sentiment(split):
    plans = demo._plan(split, None)
    counts = Counter(p.speaker.name for p in plans)
    assert set(counts.values()) <= {8, 9}
    assert all(len({p.sentence.sentiment for p in plans if p.speaker.name == name}) > 1 for name in counts)


def test_same_bytes_again_in_any_order_and_number_of_workers(made, tmp_path):
    for split, workers in (("test_heldout_voice", 1), ("test", 3)):
        demo.generate(split, tmp_path, limit=6, workers=workers)
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (made / f"{split}.jsonl").read_bytes()
        for utterance in read_manifest(made / f"{split}.jsonl"):
            assert (tmp_path / utterance.audio).read_bytes() == (made / utterance.audio).read_bytes()


def test_nothing_temporary_stays_behind(made):
    assert sorted(p.name for p in made.iterdir()) == ["audio", "test.jsonl", "test_heldout_voice.jsonl"]


def say(text, voice="en-us"):
    return _espeak.synthesize(text, voice=voice, rate=170, pitch=50)[0]


def test_samples_depend_neither_on_what_was_spoken_before_nor_on_the_clock():
    alone = say("the harbor was quiet", "en-us+f3")
    say("somebody whistled in the distance", "en-gb-scotland+m3")
    # eSpeak seeds its noise from the clock, in seconds.
    time.sleep(1.1)
    assert say("the harbor was quiet", "en-us+f3").tobytes() == alone.tobytes()


def test_voices_differ_in_sound():
    """Spectra of one sentence in 16 bands, scaled to length 1: no two voices are near each other."""
    spectra = []
    for voice in (*demo.TRAINING_VOICES, *demo.HELDOUT_VOICES):
        spectrum = np.abs(np.fft.rfft(say("the portuguese baker admired seven lemons", voice).astype(float)))
        # Equal shares of the frequencies up to about 5 kHz, whatever the length.
        bands = np.array([part.mean() for part in np.array_split(spectrum[: len(spectrum) * 5 // 11], 16)])
        spectra.append(bands / np.linalg.norm(bands))
    for i, one in enumerate(spectra):
        assert all(np.linalg.norm(one - other) > 0.05 for other in spectra[:i])


@pytest.mark.parametrize(("voice", "message"), [("en-us+zzz", "no variant 'zzz'"), ("en-zzz", "no voice 'en-zzz'")])
def test_unknown_voices_are_refused(voice, message):
    with pytest.raises(CorpusError, match=message):
        say("hello", voice)


def test_a_failing_worker_is_an_error_with_its_message(tmp_path):
    job = _espeak.SpeechJob("hello", "en-us+zzz", 170, 50, str(tmp_path / "a.wav"))
    with pytest.raises(CorpusError, match="no variant 'zzz'"):
        _espeak.speak([job])


def test_merged_words_share_their_time_by_letters():
    """ "of a boat" has events for "of" at 1 s and "boat" at 1.3 s: "of" has 2 of 3 letters, hence 1.0-1.2 s."""
    times = _espeak.word_times("top of a boat", [(0, 0), (4, 1000), (9, 1300)], 2.0)
    assert times == ((0.0, 1.0), (1.0, 1.2), (1.2, 1.3), (1.3, 2.0))


def test_a_missing_last_event_shares_the_end():
    assert _espeak.word_times("go in", [(0, 0)], 1.0) == ((0.0, 0.5), (0.5, 1.0))


def test_a_killed_run_leaves_no_manifest_and_is_redone(tmp_path, monkeypatch):
    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_espeak, "speak", killed)
        with pytest.raises(KeyboardInterrupt):
            demo.generate("test", tmp_path, limit=3)
    assert not (tmp_path / "test.jsonl").exists()
    demo.generate("test", tmp_path, limit=3)
    assert len(read_manifest(tmp_path / "test.jsonl")) == 3


def test_two_runs_at_once_write_one_whole_corpus(tmp_path):
    code = "import pathlib; from harness.corpora import demo; demo.generate('dev', pathlib.Path('.'), limit=4)"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    runs = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) for _ in range(2)]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert all((tmp_path / u.audio).is_file() for u in read_manifest(tmp_path / "dev.jsonl"))


def test_an_unguarded_script_can_generate(tmp_path):
    """`multiprocessing` would run the script again in each worker."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib\nfrom harness.corpora import demo\n"
        "demo.generate('dev', pathlib.Path(__file__).parent, limit=2, workers=2)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, str(script)], check=True, env=os.environ | {"PYTHONPATH": str(root)})
    assert len(read_manifest(tmp_path / "dev.jsonl")) == 2


def test_a_root_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="is generated and reads no folder"):
        demo.CORPUS.prepare(tmp_path, tmp_path, ("test",))


def test_an_absent_library_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(CorpusError, match="pip install espeakng-loader"):
        demo.generate("test", tmp_path, limit=1)


def test_opening_generates_once_and_keeps_what_is_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    monkeypatch.setattr(demo, "SIZES", dict.fromkeys(SPLITS, 3))
    corpus = open_corpus("demo", "test")
    assert len(corpus.utterances) == 3
    assert all(corpus.audio_path(u).is_file() for u in corpus.utterances)
    folder = tmp_path / "corpora" / "demo"
    assert not (folder / "train.jsonl").exists()
    before = (folder / "test.jsonl").stat().st_mtime_ns
    demo.CORPUS.prepare(None, folder, ("test",))
    assert (folder / "test.jsonl").stat().st_mtime_ns == before
    corpus.audio_path(corpus.utterances[1]).unlink()
    demo.CORPUS.prepare(None, folder, ("test",))
    assert corpus.audio_path(corpus.utterances[1]).is_file()


def test_the_registry_knows_it():
    adapter = corpus_registry().load("demo")
    assert adapter.generated
    assert adapter.info.splits == SPLITS
