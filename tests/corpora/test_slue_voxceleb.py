import numpy as np
import pytest
import soundfile

from harness.cli.main import main
from harness.corpora.corpus import open_corpus, prepare_corpus, prepared_splits
from harness.corpora.show import check_manifest
from harness.corpora.slue_voxceleb import CLEAR, CORPUS, DISTRIBUTION
from harness.errors import AudioError, CorpusError

COLUMNS = ("id", "normalized_text", "speaker_id", "split", "sentiment", "start_second", "end_second")
ROWS = {
    "fine-tune": [
        ("id10_a_00001", "i don't know, really", "id10", "fine-tune", "Negative", "0.0", "0.75"),
        ("id10_a_00002", "it was", "id10", "fine-tune", "<mixed>", "0.0", "1.0"),
        ("id11_b_00001", "we had the best day", "id11", "fine-tune", "Positive", "0.25", "1.0"),
        ("id12_c_00001", "mm", "id12", "fine-tune", "Disagreement", "0.0", "1.0"),
        ("id12_c_00002", "so i went", "id12", "fine-tune", "Neutral", "0.123456", "0.876543"),
    ],
    "dev": [("id13_d_00001", "that's that", "id13", "dev", "Neutral", "0.5", "0.9")],
}


def write_table(folder, split, rows, columns=COLUMNS):
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(row) for row in (columns, *rows)]
    (folder / f"slue-voxceleb_{split}.tsv").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture
def root(tmp_path, empty_home, write_audio):
    """SLUE-VoxCeleb laid out as distributed: audio of the rows that are kept, and a test set without labels."""
    folder = tmp_path / "data" / "slue-voxceleb"
    for split, rows in ROWS.items():
        write_table(folder, split, rows)
        for row in rows:
            if row[4] in ("Negative", "Neutral", "Positive"):
                write_audio(folder / f"{split}_raw" / f"{row[0]}.flac")
    blind = ("id", "speaker_id", "split", "start_second", "end_second")
    write_table(folder, "test_blind", [("id14_e_00001", "id14", "test", "0.0", "1.0")], blind)
    return tmp_path / "data"


def test_reads_the_official_layout(root):
    prepare_corpus("slue-voxceleb", root)
    corpus = open_corpus("slue-voxceleb", "fine-tune")
    assert [(u.id, u.text, u.speaker, u.sentiment) for u in corpus.utterances] == [
        ("id10_a_00001", "i don 't know really", "id10", "Negative"),
        ("id11_b_00001", "we had the best day", "id11", "Positive"),
        ("id12_c_00002", "so i went", "id12", "Neutral"),
    ]
    assert [u.seconds for u in corpus.utterances] == [0.75, 0.75, (14024 - 1975) / 16000]
    assert open_corpus("slue-voxceleb", "dev").utterances[0].text == "that 's that"
    blind = "test is left out: slue-voxceleb_test_blind.tsv has no labels"
    words = "word times for 0 of {} utterances"
    assert {split: prepared.notes for split, prepared in prepared_splits("slue-voxceleb").items()} == {
        "fine-tune": (
            "3 of 5729 utterances",
            "left out 2 rows without a clear sentiment: <mixed> 1, Disagreement 1",
            blind,
            words.format(3),
        ),
        "dev": ("1 of 1437 utterances", blind, words.format(1)),
    }


def test_audio_is_cut_without_loss(root):
    """Of 0.123456 to 0.876543 s at 16 kHz, samples int(1975.296) = 1975 up to int(14024.688) = 14024, exclusive."""
    folder = prepare_corpus("slue-voxceleb", root)
    corpus = open_corpus("slue-voxceleb", "fine-tune")
    utterance = corpus.utterances[2]
    cut, rate = soundfile.read(corpus.audio_path(utterance), dtype="int16")
    whole, _ = soundfile.read(root / "slue-voxceleb" / "fine-tune_raw" / "id12_c_00002.flac", dtype="int16")
    assert rate == 16000
    assert np.array_equal(cut, whole[1975:14024])
    assert corpus.audio_path(utterance).is_relative_to(folder)
    assert check_manifest(prepared_splits("slue-voxceleb")["fine-tune"].manifest)["utterances"] == 3


def test_audio_of_24_bits_stays_so(root):
    """A third of a step of 16 bits is kept."""
    source = root / "slue-voxceleb" / "dev_raw" / "id13_d_00001.flac"
    soundfile.write(source, np.full((16000, 2), 85 << 8, "int32"), 16000, subtype="PCM_24")
    prepare_corpus("slue-voxceleb", root, ["dev"])
    corpus = open_corpus("slue-voxceleb", "dev")
    cut, _ = soundfile.read(corpus.audio_path(corpus.utterances[0]), dtype="int32")
    assert cut.shape == (6400, 2)
    assert (cut == 85 << 8).all()


def test_cuts_only_what_is_not_there(root):
    folder = prepare_corpus("slue-voxceleb", root)
    digest = open_corpus("slue-voxceleb", "fine-tune").digest
    cuts = sorted((folder / "audio").rglob("*.flac"))
    assert len(cuts) == 4
    cuts[0].unlink()
    kept = {path: path.stat().st_mtime_ns for path in cuts[1:]}
    prepare_corpus("slue-voxceleb", root / "slue-voxceleb")
    assert sorted((folder / "audio").rglob("*")) == sorted([*cuts, *{path.parent for path in cuts}])
    assert {path: path.stat().st_mtime_ns for path in cuts[1:]} == kept
    assert open_corpus("slue-voxceleb", "fine-tune").digest == digest


def test_another_span_or_recording_is_cut_anew(root, write_audio):
    prepare_corpus("slue-voxceleb", root, ["dev"])
    source = root / "slue-voxceleb" / "dev_raw" / "id13_d_00001.flac"
    write_table(root / "slue-voxceleb", "dev", [(*ROWS["dev"][0][:5], "0.4", "0.8")])
    soundfile.write(source, np.linspace(0, 0.5, 16000), 16000)
    prepare_corpus("slue-voxceleb", root, ["dev"])
    corpus = open_corpus("slue-voxceleb", "dev")
    cut, _ = soundfile.read(corpus.audio_path(corpus.utterances[0]), dtype="int16")
    assert np.array_equal(cut, soundfile.read(source, dtype="int16")[0][6400:12800])


def test_an_end_beyond_the_recording_is_noted(root):
    write_table(root / "slue-voxceleb", "dev", [(*ROWS["dev"][0][:5], "0.5", "1.5")])
    prepare_corpus("slue-voxceleb", root, ["dev"])
    assert open_corpus("slue-voxceleb", "dev").utterances[0].seconds == 0.5
    assert prepared_splits("slue-voxceleb")["dev"].notes[1] == (
        "1 utterances end after their recording does, and were cut there: id13_d_00001"
    )


def test_a_full_split_has_the_official_number(root):
    """1,454 rows of dev, 17 of them unclear, leave 1,437: it comes to look for their audio, and no further."""
    rows = [(f"u{k}", "a", "s", "dev", "Neutral" if k < 1437 else "<mixed>", "0", "1") for k in range(1454)]
    write_table(root / "slue-voxceleb", "dev", rows)
    with pytest.raises(CorpusError, match="dev: 1437 of 1437 listed audio files are absent"):
        prepare_corpus("slue-voxceleb", root, ["dev"])
    rows[0] = (*rows[0][:4], "Disagreement", "0", "1")
    write_table(root / "slue-voxceleb", "dev", rows)
    with pytest.raises(CorpusError, match=r"1436 of the 1454 rows of dev are .*; in version 0\.2, 1437 are"):
        prepare_corpus("slue-voxceleb", root, ["dev"])


@pytest.mark.parametrize(("split", "number"), [("dev", 955), ("test", 4052)])
def test_refuses_version_0_1(root, split, number):
    write_table(root / "slue-voxceleb", split, [(f"u{k}", "a", "s", split, "Neutral", "0", "1") for k in range(number)])
    with pytest.raises(
        CorpusError, match=rf"{number} rows, but the official .* version 0\.1 had {number}\. .* download"
    ):
        prepare_corpus("slue-voxceleb", root, [split])


def test_the_blind_test_set_has_no_labels(root):
    with pytest.raises(CorpusError, match=r"test_blind\.tsv has no labels \(sentiment\): .* --splits fine-tune,dev"):
        prepare_corpus("slue-voxceleb", root, ["test"])
    blind = root / "slue-voxceleb" / "slue-voxceleb_test_blind.tsv"
    blind.rename(blind.with_name("slue-voxceleb_test.tsv"))
    with pytest.raises(CorpusError, match=r"slue-voxceleb_test\.tsv has no labels \(sentiment\)"):
        prepare_corpus("slue-voxceleb", root)
    write_table(root / "slue-voxceleb", "test", [("u1", "a", "s", "test", "", "0", "1")])
    with pytest.raises(CorpusError, match=r"slue-voxceleb_test\.tsv has no labels \(sentiment\)"):
        prepare_corpus("slue-voxceleb", root)


def test_a_labeled_test_set_is_read(root, write_audio):
    write_table(root / "slue-voxceleb", "test", [("u1", "a", "s", "test", "Positive", "0", "1")])
    write_audio(root / "slue-voxceleb" / "test_raw" / "u1.flac")
    prepare_corpus("slue-voxceleb", root)
    assert list(prepared_splits("slue-voxceleb")) == ["fine-tune", "dev", "test"]
    assert prepared_splits("slue-voxceleb")["test"].notes[0] == "1 of 3553 utterances"


def test_only_a_blind_test_set_is_refused(root):
    for split in ROWS:
        (root / "slue-voxceleb" / f"slue-voxceleb_{split}.tsv").unlink()
    with pytest.raises(CorpusError, match="has no labels"):
        prepare_corpus("slue-voxceleb", root)


def test_refuses_absent_audio_before_it_cuts_any(root):
    (root / "slue-voxceleb" / "dev_raw" / "id13_d_00001.flac").unlink()
    with pytest.raises(CorpusError, match=r"dev: 1 of 1 listed audio files are absent .*: dev_raw/id13_d_00001\.flac"):
        prepare_corpus("slue-voxceleb", root)
    assert prepared_splits("slue-voxceleb") == {}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("Neutral", "0.9", "0.5"), r"dev\.tsv:2: 'u' needs 0 ≤ start_second < end_second; found '0\.9' and '0\.5'"),
        (("Neutral", "-1", "0.5"), "needs 0 ≤ start_second"),
        (("Neutral", "a", "0.5"), "found 'a' and '0.5'"),
        (("Neutral", "0", "nan"), "found '0' and 'nan'"),
        (("Neutral", "0", "inf"), "found '0' and 'inf'"),
        (("<mixed>", "0", "1"), "No row of dev is Negative, Neutral, Positive"),
    ],
)
def test_refuses_a_row(root, write_audio, cells, message):
    write_table(root / "slue-voxceleb", "dev", [("u", "a", "s", "dev", *cells)])
    write_audio(root / "slue-voxceleb" / "dev_raw" / "u.flac")
    with pytest.raises(CorpusError, match=message):
        prepare_corpus("slue-voxceleb", root, ["dev"])


def test_refuses_a_row_without_a_speaker(root):
    write_table(root / "slue-voxceleb", "dev", [("u", "a", " ", "dev", "Neutral", "0", "1")])
    with pytest.raises(CorpusError, match=r"dev\.tsv:2: 'u' has no speaker_id"):
        prepare_corpus("slue-voxceleb", root, ["dev"])


def test_refuses_other_recordings(root):
    source = root / "slue-voxceleb" / "dev_raw" / "id13_d_00001.flac"
    soundfile.write(source, np.zeros(4000), 16000)
    with pytest.raises(AudioError, match=r"id13_d_00001\.flac lasts 0\.25 s, but 'id13_d_00001' is 0\.5-0\.9 s of it"):
        prepare_corpus("slue-voxceleb", root, ["dev"])
    source.write_text("<html>log in</html>")
    with pytest.raises(AudioError, match=r"id13_d_00001\.flac is not readable as FLAC"):
        prepare_corpus("slue-voxceleb", root, ["dev"])


@pytest.mark.parametrize("folder", [None, "absent", "."])
def test_says_what_to_download(tmp_path, empty_home, folder):
    message = (
        r"There is no SLUE-VoxCeleb .* Download slue-voxceleb_v0\.2_blind\.zip.* log in.*slue-voxceleb_fine-tune\.tsv "
        r".*fine-tune_raw/<id>\.flac.* harness data prepare slue-voxceleb --root DIR"
    )
    with pytest.raises(CorpusError, match=message):
        prepare_corpus("slue-voxceleb", folder and tmp_path / folder)


def test_says_to_unpack(tmp_path, empty_home):
    (tmp_path / "slue-voxceleb_v0.2_blind.zip").write_bytes(b"PK")
    with pytest.raises(CorpusError, match="It holds an archive: unpack that first"):
        prepare_corpus("slue-voxceleb", tmp_path)


def test_a_missing_folder_is_bad_usage(tmp_path, empty_home, capsys):
    assert main(["data", "prepare", "slue-voxceleb", "--root", str(tmp_path / "missing-folder")]) == 2
    assert "There is no SLUE-VoxCeleb in" in capsys.readouterr().err


def test_official_numbers():
    """Shon et al. 2022, table 1, in version 0.2, which moved utterances from test to dev."""
    assert DISTRIBUTION.rows == {"fine-tune": 5777, "dev": 1454, "test": 3553}
    assert sum(DISTRIBUTION.older_rows.values()) == DISTRIBUTION.rows["dev"] + DISTRIBUTION.rows["test"]
    assert CLEAR == {"fine-tune": 5729, "dev": 1437}
    assert CORPUS.info.splits == tuple(DISTRIBUTION.rows)
