"""The digest of a split follows the bytes of its audio, and nothing else of the files."""

import os
import shutil
from dataclasses import replace

import pytest
import soundfile

from harness.corpora import content
from harness.corpora.content import read_contents, read_contents_anew
from harness.corpora.corpus import Corpus, open_corpus
from harness.corpora.manifest import Utterance, write_manifest
from harness.corpora.show import check_manifest, describe_corpus
from harness.errors import AudioError, ManifestError

LINES = [Utterance(f"{name}-1", f"audio/{name}.wav", 16000, 1.0, "we saw", name, "test") for name in "abc"]


@pytest.fixture
def manifest(tmp_path, empty_home, write_audio, monkeypatch):
    monkeypatch.setattr(content, "_UNSETTLED_NS", 0)  # what was written a moment ago is trusted
    for number, line in enumerate(LINES):
        write_audio(tmp_path / "mine" / line.audio)
        with (tmp_path / "mine" / line.audio).open("r+b") as stream:
            stream.seek(100)
            stream.write(bytes([number]) * 8)
    write_manifest(tmp_path / "mine" / "test.jsonl", LINES)
    return tmp_path / "mine" / "test.jsonl"


def digest_of(manifest):
    return open_corpus(manifest).digest


def change(path):
    """Other samples in a file of the same size."""
    with path.open("r+b") as stream:
        stream.seek(2000)
        stream.write(b"\1\2\3\4")


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that have been hashed."""
    names = []
    real = content.file_digest
    monkeypatch.setattr(content, "file_digest", lambda path: names.append(path.name) or real(path))
    return names


def test_other_samples_are_another_corpus(manifest):
    before = digest_of(manifest)
    assert digest_of(manifest) == before
    change(manifest.parent / "audio" / "b.wav")
    assert digest_of(manifest) != before


def test_other_samples_under_the_old_time_are_another_corpus(manifest):
    """As `cp --preserve` and `rsync --times` leave them."""
    path = manifest.parent / "audio" / "b.wav"
    before, stat = digest_of(manifest), path.stat()
    change(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    assert digest_of(manifest) != before


def test_a_change_right_after_hashing_is_noticed(manifest, monkeypatch):
    """Clocks of file systems tick slowly: a digest of a file just written is not kept."""
    monkeypatch.setattr(content, "_UNSETTLED_NS", 10**12)
    monkeypatch.setattr(content, "_stamps", lambda paths: dict.fromkeys(paths, "0 0 9999999999999999999 0"))
    before = digest_of(manifest)
    change(manifest.parent / "audio" / "b.wav")
    assert digest_of(manifest) != before


def test_times_names_and_places_say_nothing(manifest, tmp_path):
    before = digest_of(manifest)
    os.utime(manifest.parent / "audio" / "a.wav", (1e9, 1e9))
    os.utime(manifest, (1e9, 1e9))
    assert digest_of(manifest) == before
    shutil.copytree(manifest.parent, tmp_path / "elsewhere")
    assert digest_of(tmp_path / "elsewhere" / "test.jsonl") == before


def test_exchanged_files_are_another_corpus(manifest):
    before, folder = digest_of(manifest), manifest.parent / "audio"
    (folder / "a.wav").rename(folder / "x.wav")
    (folder / "b.wav").rename(folder / "a.wav")
    (folder / "x.wav").rename(folder / "b.wav")
    assert digest_of(manifest) != before


@pytest.mark.parametrize("name", ["test.units.jsonl", "units.json"])
def test_units_beside_the_manifest_belong_to_it(manifest, name):
    digests = {digest_of(manifest)}
    for text in ("{}", "{ }"):
        manifest.with_name(name).write_text(text)
        digests.add(digest_of(manifest))
    assert len(digests) == 3


def test_the_manifest_belongs_to_it(manifest):
    before = digest_of(manifest)
    write_manifest(manifest, [replace(LINES[0], text="we see"), *LINES[1:]])
    assert digest_of(manifest) != before


def test_unchanged_files_are_not_read_again(manifest, hashed):
    digest_of(manifest)
    assert sorted(hashed) == ["a.wav", "b.wav", "c.wav"]
    digest_of(manifest)
    assert len(hashed) == 3
    change(manifest.parent / "audio" / "b.wav")
    digest_of(manifest)
    assert hashed[3:] == ["b.wav"]


def test_only_the_files_of_the_split_are_read(manifest, hashed):
    write_manifest(manifest, [*LINES[:2], replace(LINES[2], split="dev")])
    open_corpus(manifest, "dev").read_audio()
    assert hashed == ["c.wav"]


def test_progress_counts_the_files_hashed(manifest):
    told = []
    open_corpus(manifest).read_audio(lambda *step: told.append(step))
    open_corpus(manifest).read_audio(lambda *step: told.append(step))
    assert told == [("audio digests", 3, 3)]


def test_text_can_be_read_without_its_audio(manifest):
    before = digest_of(manifest)
    (manifest.parent / "audio" / "a.wav").unlink()
    without = digest_of(manifest)
    shutil.rmtree(manifest.parent / "audio")
    assert len({before, without, digest_of(manifest)}) == 3


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "rate", "message"),
    [
        (1.0, 8000, r"test:test: 'b-1' states 16000 Hz, but audio/b\.wav has 8000 Hz"),
        (1.02, 16000, r"test:test: 'b-1' states 1\.0 s, but audio/b\.wav lasts 1\.020 s; is it another recording\?"),
    ],
)
def test_audio_that_is_not_as_its_line_says_is_refused(manifest, write_audio, seconds, rate, message):
    digest_of(manifest)
    write_audio(manifest.parent / "audio" / "b.wav", seconds=seconds, rate=rate)
    for _ in range(2):  # hashed now, and known
        with pytest.raises(ManifestError, match=message):
            digest_of(manifest)


def test_what_is_no_audio_is_refused(manifest):
    (manifest.parent / "audio" / "b.wav").write_bytes(b"no audio")
    with pytest.raises(ManifestError, match=r"'b-1': .*b\.wav is not readable as audio"):
        digest_of(manifest)


def test_a_file_that_may_not_be_read_is_named(manifest, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(content, "file_digest", refuse)
    with pytest.raises(AudioError, match=r"a\.wav cannot be read: Permission denied"):
        digest_of(manifest)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_may_not_leave_the_root(manifest, tmp_path, what):
    audio, outside = manifest.parent / "audio", tmp_path / "outside"
    if what == "file":
        shutil.copytree(audio, outside)
        (audio / "b.wav").unlink()
        (audio / "b.wav").symlink_to(outside / "b.wav")
    else:
        audio.rename(outside)
        audio.symlink_to(outside)
    refused = r"audio/[ab]\.wav, leads out of the corpus root .*mine by a symbolic link"
    with pytest.raises(ManifestError, match=refused):
        digest_of(manifest)
    with pytest.raises(ManifestError, match=rf"test\.jsonl:[12]: .*{refused}"):
        check_manifest(manifest)


def test_links_within_the_root_and_to_it_are_followed(manifest, tmp_path):
    before, audio = digest_of(manifest), manifest.parent / "audio"
    (audio / "b.wav").rename(manifest.parent / "kept.wav")
    (audio / "b.wav").symlink_to("../kept.wav")
    assert digest_of(manifest) == before
    (tmp_path / "link").symlink_to(manifest.parent)
    assert digest_of(tmp_path / "link" / "test.jsonl") == before


# --- hashing anew -----------------------------------------------------------------------------------------------------


def test_all_is_hashed_anew_and_what_differs_is_named(manifest, monkeypatch):
    before = check_manifest(manifest, content=True)
    assert before["changed"] == []
    assert before["digests"] == {"test": digest_of(manifest)}
    # A disk that changes bytes moves no time.
    stamps = content._stamps([manifest.parent / line.audio for line in LINES])
    monkeypatch.setattr(content, "_stamps", lambda paths: {path: stamps[path] for path in paths})
    change(manifest.parent / "audio" / "b.wav")
    assert digest_of(manifest) == before["digests"]["test"]
    found = check_manifest(manifest, content=True)
    assert found["changed"] == ["audio/b.wav"]
    assert digest_of(manifest) == found["digests"]["test"] != before["digests"]["test"]
    assert check_manifest(manifest, content=True)["changed"] == []


def test_contents_are_those_of_files_that_are_there(manifest):
    paths = [manifest.parent / line.audio for line in LINES]
    paths[0].unlink()
    found = read_contents([*paths, paths[1]])
    assert found == read_contents_anew(paths)[0]
    assert list(found) == paths[1:]
    assert (found[paths[1]].sample_rate, found[paths[1]].seconds) == (16000, 1.0)


def test_a_corpus_shows_the_digest_of_its_runs(manifest):
    assert describe_corpus(str(manifest))["splits"]["test"]["digest"] == digest_of(manifest)


def test_a_corpus_made_in_memory_has_a_digest(tmp_path, empty_home):
    one, other = (Corpus("toy", "test", tmp_path, listing, tuple(LINES)) for listing in ("0", "1"))
    assert one.digest != other.digest


def test_the_kinds_of_audio_are_told_apart(manifest):
    """The same samples in another format are other bytes: decoders differ in the last bit."""
    samples, rate = soundfile.read(manifest.parent / "audio" / "a.wav", dtype="int16")
    before = digest_of(manifest)
    soundfile.write(manifest.parent / "audio" / "a.wav", samples, rate, format="FLAC")
    assert digest_of(manifest) != before
