import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.corpora.content import read_header
from harness.corpora.corpus import (
    CorpusInfo,
    Prepared,
    corpus_registry,
    open_corpus,
    prepare_corpus,
    prepared_folder,
    prepared_splits,
)
from harness.corpora.manifest import Utterance, Word, write_manifest
from harness.corpora.show import check_manifest, describe_corpus
from harness.errors import AudioError, CorpusError, ManifestError, UnknownNameError

ONE = Utterance("a-1", "a.wav", 16000, 1.0, "we saw", "a", "test")


@pytest.fixture
def manifest(tmp_path, write_audio):
    """A manifest of two splits beside its audio, under no corpus's name."""
    for name in "ab":
        write_audio(tmp_path / "mine" / f"{name}.wav")
    words = (Word("we", 0.0, 0.2), Word("saw", 0.2, 0.9))
    path = tmp_path / "mine" / "mine.jsonl"
    labeled = replace(ONE, id="b-1", audio="b.wav", speaker="b", split="dev", sentiment="Neutral", entities=())
    write_manifest(path, [replace(ONE, words=words), replace(ONE, id="a-2"), labeled])
    return path


class FakeCorpus:
    """A generated corpus that counts how often it is asked to."""

    info = CorpusInfo("fake", "for tests", ("train", "test"), "CC0", "here")
    generated = True

    def __init__(self):
        self.asked = []
        self.notes = ()
        self.utterance = ONE

    def prepare(self, root, out, splits):
        self.asked.append(tuple(splits))
        for split in splits or self.info.splits:
            write_manifest(out / f"{split}.jsonl", [replace(self.utterance, split=split)])
        return Prepared(out, dict.fromkeys(splits, self.notes)) if self.notes else out


@pytest.fixture
def fake(monkeypatch, empty_home):
    adapter = FakeCorpus()
    monkeypatch.setattr("harness.registry.Registry.load", lambda self, name: adapter)
    return adapter


def test_the_registry_knows_adapters_only():
    names = set(corpus_registry().sources())
    assert {"librispeech", "ljspeech", "demo"} <= names
    assert not names & {"alignments", "corpus", "distribution", "manifest", "show", "slue"}


@pytest.mark.parametrize("name", ["librispeech", "ljspeech", "slue-voxceleb", "slue-voxpopuli"])
def test_adapters_say_what_they_are(name):
    adapter = corpus_registry().load(name)
    assert adapter.info.name == name
    assert not adapter.generated
    assert all((adapter.info.description, adapter.info.splits, adapter.info.license, adapter.info.source))


def test_opens_a_manifest_by_path(manifest):
    corpus = open_corpus(str(manifest), "test")
    assert (corpus.name, corpus.split, [u.id for u in corpus.utterances]) == ("mine", "test", ["a-1", "a-2"])
    assert corpus.audio_path(corpus.utterances[0]) == manifest.parent / "a.wav"
    assert open_corpus(str(manifest), "dev").listing == corpus.listing


def test_refuses_a_split_that_the_manifest_lacks(manifest):
    with pytest.raises(CorpusError, match=r"mine\.jsonl holds no utterance of split 'train'; it holds: dev, test\."):
        open_corpus(str(manifest), "train")
    with pytest.raises(CorpusError, match=r"mine\.jsonl holds no utterance of split 'train'; it holds: test, dev\."):
        describe_corpus(str(manifest), "train")


def test_refuses_an_unknown_corpus(empty_home):
    with pytest.raises(UnknownNameError, match="The nearest is 'librispeech'"):
        open_corpus("librispech", "dev-clean")


@pytest.mark.parametrize("ask", [open_corpus, describe_corpus])
def test_refuses_an_unknown_split(empty_home, ask):
    with pytest.raises(CorpusError, match=r"Corpus 'ljspeech' has no split 'eval'; it has: train, dev, test\."):
        ask("ljspeech", "eval")
    with pytest.raises(CorpusError, match="has no split 'eval'"):
        prepare_corpus("ljspeech", None, ["train", "eval"])


def test_says_how_to_prepare(empty_home):
    with pytest.raises(CorpusError, match=r"'dev' of corpus 'ljspeech' is not prepared .*data prepare ljspeech --root"):
        open_corpus("ljspeech", "dev")


def test_a_generated_corpus_is_made_once(fake):
    assert open_corpus("fake", "test").utterances == (ONE,)
    open_corpus("fake", "test")
    assert fake.asked == [("test",)]
    assert prepared_splits("fake")["test"].root == prepared_folder("fake")


def test_many_who_need_a_split_at_once_make_it_once(fake):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: open_corpus("fake", "test").digest, range(8)))
    assert len(set(found)) == 1
    assert fake.asked == [("test",)]


def test_an_interrupted_preparation_does_not_count(fake):
    """A manifest without its entry in corpus.json may lie beside half its audio."""
    write_manifest(prepared_folder("fake") / "test.jsonl", [ONE])
    open_corpus("fake", "test")
    assert fake.asked == [("test",)]


def test_a_plain_folder_stands_for_every_split(fake):
    prepare_corpus("fake", None)
    assert list(prepared_splits("fake")) == ["train", "test"]


def renewed(fake):
    """The same adapter at its next version, which says other things."""
    fake.info = replace(fake.info, version=fake.info.version + 1)
    fake.utterance = replace(ONE, text="we saw more")
    return fake


def test_what_an_older_adapter_generated_is_generated_again_once(fake):
    old = open_corpus("fake", "test")
    renewed(fake)
    new = open_corpus("fake", "test")
    assert (old.utterances[0].text, new.utterances[0].text) == ("we saw", "we saw more")
    assert old.digest != new.digest
    assert open_corpus("fake", "test").digest == new.digest
    assert fake.asked == [("test",), ("test",)]
    assert prepared_splits("fake")["test"].version == 2


def test_only_the_split_that_is_asked_for_is_generated_again(fake):
    prepare_corpus("fake", None)
    renewed(fake)
    open_corpus("fake", "test")
    assert {split: prepared.version for split, prepared in prepared_splits("fake").items()} == {"train": 1, "test": 2}


def test_many_who_meet_an_older_split_at_once_renew_it_once(fake):
    open_corpus("fake", "test")
    renewed(fake)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: open_corpus("fake", "test").digest, range(8)))
    assert len(set(found)) == 1
    assert fake.asked == [("test",), ("test",)]


def test_what_an_older_adapter_prepared_from_a_local_copy_is_refused_with_the_command(fake):
    prepare_corpus("fake", None, ["test"])
    renewed(fake).generated = False
    with pytest.raises(
        CorpusError,
        match=r"Split 'test' of corpus 'fake' was prepared by version 1 of its adapter; this is version 2\. "
        r"Run: harness data prepare fake --root DIR",
    ):
        open_corpus("fake", "test")
    prepare_corpus("fake", None, ["test"])
    assert open_corpus("fake", "test").utterances[0].text == "we saw more"


def test_a_corpus_file_from_before_versions_is_of_version_1(fake):
    folder = prepare_corpus("fake", None, ["test"])
    facts = json.loads((folder / "corpus.json").read_text())
    assert facts["splits"]["test"].pop("version") == 1
    (folder / "corpus.json").write_text(json.dumps(facts))
    assert prepared_splits("fake")["test"].version == 1
    open_corpus("fake", "test")
    assert fake.asked == [("test",)]


def test_an_older_split_is_not_described_as_prepared(fake):
    prepare_corpus("fake", None, ["test"])
    renewed(fake)
    assert describe_corpus("fake", "test")["splits"]["test"] == {"prepared": False}


def test_without_a_split_the_default_one_is_opened(fake, manifest):
    assert open_corpus("fake").split == "test"
    fake.info = replace(fake.info, default_split="train")
    assert open_corpus("fake").split == "train"
    assert open_corpus(str(manifest)).split == "test"


def test_every_corpus_has_its_default_split():
    infos = {name: corpus_registry().load(name).info for name in corpus_registry().sources()}
    assert all(info.default_split in info.splits for info in infos.values())
    assert infos["librispeech"].default_split == "test-clean"


def test_a_split_that_is_not_there_is_answered_with_those_that_are(fake, manifest):
    with pytest.raises(CorpusError, match=r"'fake' has no split 'tset'; it has: train, test\. Choose one with --split"):
        open_corpus("fake", "tset")
    with pytest.raises(CorpusError, match=r"no utterance of split 'train'; it holds: dev, test\. Choose one with --sp"):
        open_corpus(str(manifest), "train")


def test_notes_are_kept(fake):
    fake.notes = ("2 of 3 utterances", "a second — note")
    prepare_corpus("fake", None, ["test"])
    assert prepared_splits("fake")["test"].notes == fake.notes
    assert describe_corpus("fake", "test")["splits"]["test"]["notes"] == list(fake.notes)


def test_generated_audio_moves_with_its_folder(fake, empty_home, tmp_path, monkeypatch):
    open_corpus("fake", "test")
    monkeypatch.setenv("HARNESS_HOME", str(empty_home.rename(tmp_path / "moved")))
    assert open_corpus("fake", "test").root.is_relative_to(tmp_path / "moved")
    assert fake.asked == [("test",)]


def test_refuses_what_an_adapter_wrote_wrong(fake):
    fake.utterance = replace(ONE, seconds=-1.0)
    with pytest.raises(ManifestError, match=r"test\.jsonl:1: 'seconds' must be positive"):
        prepare_corpus("fake", None, ["test"])
    assert prepared_splits("fake") == {}


def test_refuses_a_manifest_of_two_splits(fake):
    folder = prepare_corpus("fake", None, ["test"])
    write_manifest(folder / "test.jsonl", [ONE, replace(ONE, id="a-2", split="dev")])
    with pytest.raises(CorpusError, match=r"test\.jsonl holds 'a-2' of split 'dev'; a manifest has one split"):
        open_corpus("fake", "test")


def test_refuses_audio_that_is_gone(fake, tmp_path):
    folder = prepare_corpus("fake", None, ["test"])
    facts = {"name": "fake", "splits": {"test": {"root": str(tmp_path / "gone"), "notes": []}}}
    (folder / "corpus.json").write_text(json.dumps(facts))
    with pytest.raises(CorpusError, match=r"The audio of corpus 'fake' \(test\) is no longer in .*gone\. Run: harness"):
        open_corpus("fake", "test")


@pytest.mark.parametrize("text", ["", "[]", '{"name": "fake"}', '{"splits": 3}', '{"splits": {"test": "here"}}'])
def test_refuses_a_damaged_corpus_file(fake, text):
    folder = prepare_corpus("fake", None, ["test"])
    (folder / "corpus.json").write_text(text)
    with pytest.raises(CorpusError, match=r"corpus\.json is damaged; delete it and prepare the corpus again"):
        open_corpus("fake", "test")


def test_an_adapter_by_path_goes_by_its_own_name(tmp_path, empty_home):
    file = tmp_path / "mine.py"
    file.write_text(
        "from harness.corpora.corpus import CorpusInfo\n"
        "from harness.corpora.manifest import Utterance, write_manifest\n"
        "class Mine:\n"
        "    info = CorpusInfo('mine', 'd', ('test',), 'l', 's')\n"
        "    generated = True\n"
        "    def prepare(self, root, out, splits):\n"
        "        write_manifest(out / 'test.jsonl', [Utterance('a', 'a.wav', 16000, 1.0, 't', 'a', 'test')])\n"
        "        return out\n"
        "CORPUS = Mine()\n"
    )
    assert open_corpus(f"{file}:CORPUS", "test").name == "mine"
    assert [p.name for p in (empty_home / "corpora").iterdir()] == ["mine"]


def test_check_counts(manifest):
    """3 utterances of 1 s by 2 speakers, 2 words each; one with word times, one with both kinds of label."""
    found = check_manifest(manifest)
    assert found["utterances"] == 3
    assert found["hours"] == pytest.approx(3 / 3600)
    assert (found["speakers"], found["words"]) == (2, 6)
    shares = [found[f"share_with_{part}"] for part in ("word_times", "sentiment", "entities")]
    assert shares == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert found["digests"] == {split: open_corpus(str(manifest), split).digest for split in ("test", "dev")}


def test_check_finds_the_audio_of_a_prepared_split(fake, write_audio):
    folder = prepare_corpus("fake", None, ["test"])
    write_audio(folder / "a.wav")
    assert check_manifest(folder / "test.jsonl")["root"] == str(folder)


def test_check_takes_another_root(manifest, tmp_path, write_audio):
    for name in "ab":
        write_audio(tmp_path / "copy" / f"{name}.wav")
    assert check_manifest(manifest, tmp_path / "copy")["root"] == str(tmp_path / "copy")


@pytest.mark.parametrize(
    ("seconds", "rate", "message"),
    [
        (1.0, 8000, r"mine\.jsonl:3: 'b-1' states 16000 Hz, but b\.wav has 8000 Hz"),
        (1.02, 16000, r"mine\.jsonl:3: 'b-1' states 1\.0 s, but b\.wav lasts 1\.020 s; is it another recording\?"),
        (0.0, 16000, r"mine\.jsonl:3: 'b-1': .*b\.wav holds no samples"),
    ],
)
def test_check_refuses_a_header_that_disagrees(manifest, write_audio, seconds, rate, message):
    write_audio(manifest.parent / "b.wav", seconds=seconds, rate=rate)
    with pytest.raises(ManifestError, match=message):
        check_manifest(manifest)


def test_check_accepts_lengths_rounded_to_a_hundredth(manifest, write_audio):
    write_audio(manifest.parent / "b.wav", seconds=1.009)
    check_manifest(manifest)


def test_check_refuses_absent_and_unreadable_audio(manifest):
    (manifest.parent / "a.wav").write_bytes(b"")
    with pytest.raises(ManifestError, match=r"mine\.jsonl:1: 'a-1': .*a\.wav is not readable as audio"):
        check_manifest(manifest)
    (manifest.parent / "a.wav").unlink()
    with pytest.raises(ManifestError, match=r"mine\.jsonl:1: 'a-1': There is no audio file .*a\.wav"):
        check_manifest(manifest)


def test_check_refuses_a_broken_line(manifest):
    with manifest.open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(ManifestError, match=r"mine\.jsonl:4: 'id' is missing"):
        check_manifest(manifest)


def test_read_header(tmp_path, write_audio):
    assert read_header(write_audio(tmp_path / "a.flac", seconds=0.5, rate=22050)) == (22050, 0.5)
    with pytest.raises(AudioError, match=r"There is no audio file .*b\.flac"):
        read_header(tmp_path / "b.flac")


def test_describe_a_corpus_that_is_not_prepared(empty_home):
    found = describe_corpus("ljspeech")
    assert found["license"] == "public domain"
    assert found["splits"] == {s: {"prepared": False} for s in ("train", "dev", "test")}
    assert list(Path(empty_home).iterdir()) == []


def test_describe_a_prepared_split(fake):
    prepare_corpus("fake", None, ["test"])
    found = describe_corpus("fake")
    assert found["splits"]["train"] == {"prepared": False}
    assert found["splits"]["test"]["utterances"] == 1
    assert found["splits"]["test"]["digest"] == open_corpus("fake", "test").digest
    assert fake.asked == [("test",)]


def test_describe_a_manifest(manifest):
    found = describe_corpus(str(manifest))
    assert {split: facts["utterances"] for split, facts in found["splits"].items()} == {"test": 2, "dev": 1}
    assert list(describe_corpus(str(manifest), "dev")["splits"]) == ["dev"]
