import pytest

from harness.cli.main import main
from harness.corpora.corpus import corpus_registry, open_corpus, prepare_corpus, prepared_splits
from harness.corpora.manifest import Entity
from harness.corpora.show import check_manifest
from harness.corpora.slue_voxpopuli import CORPUS, DISTRIBUTION, read_entities
from harness.errors import CorpusError

COLUMNS = ("id", "raw_text", "normalized_text", "speaker_id", "split", "raw_ner", "normalized_ner")
FIRST, SECOND, THIRD = (f"20130101-0900-PLENARY-3-en_20130101-09:00:0{k}_{k}" for k in (1, 2, 3))
ROWS = {
    "fine-tune": [
        (
            SECOND,
            '"Madam President, the Commission\'s ""plan"""',
            "madam president, the commission's plan for greece.",
            "4711",
            "fine-tune",
            "[]",
            "[['GPE', 43, 6], ['ORG', 17, 14]]",
        ),
        (FIRST, "", "thank you.", "None", "fine-tune", "[]", "None"),
    ],
    "dev": [(THIRD, "", "this is so", "4711", "dev", "[]", "[]")],
}


def write_table(folder, split, rows, columns=COLUMNS):
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(row) for row in (columns, *rows)]
    (folder / f"slue-voxpopuli_{split}.tsv").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture
def root(tmp_path, empty_home, write_audio):
    """SLUE-VoxPopuli laid out as distributed, three utterances of it and a test set without labels."""
    folder = tmp_path / "data" / "slue-voxpopuli"
    for split, rows in ROWS.items():
        write_table(folder, split, rows)
        for row in rows:
            write_audio(folder / split / f"{row[0]}.ogg")
    write_table(folder, "test_blind", [("a_1", "", "yes", "4711", "test")], COLUMNS[:5])
    return tmp_path / "data"


def test_reads_the_official_layout(root):
    """`president,` loses its comma and `commission's` gains a space: the entities after them move with their words."""
    prepare_corpus("slue-voxpopuli", root)
    corpus = open_corpus("slue-voxpopuli", "fine-tune")
    first, second = corpus.utterances
    assert (first.id, first.text, first.entities) == (FIRST, "thank you", ())
    assert (second.id, second.text) == (SECOND, "madam president the commission 's plan for greece")
    assert second.entities == (Entity("ORG", 16, 14), Entity("GPE", 43, 6))
    assert [second.text[e.start : e.start + e.length] for e in second.entities] == ["the commission", "greece"]
    assert corpus.audio_path(second) == root / "slue-voxpopuli" / "fine-tune" / f"{SECOND}.ogg"
    assert (second.sample_rate, second.seconds) == (16000, 1.0)
    assert check_manifest(prepared_splits("slue-voxpopuli")["fine-tune"].manifest, root / "slue-voxpopuli")
    blind = "test is left out: slue-voxpopuli_test_blind.tsv has no labels"
    assert {split: prepared.notes for split, prepared in prepared_splits("slue-voxpopuli").items()} == {
        "fine-tune": ("2 of 5000 utterances", blind, "word times for 0 of 2 utterances"),
        "dev": ("1 of 1753 utterances", blind, "word times for 0 of 1 utterances"),
    }


def test_speakers_without_a_name_go_by_their_speech(root):
    prepare_corpus("slue-voxpopuli", root)
    assert [u.speaker for u in open_corpus("slue-voxpopuli", "fine-tune").utterances] == [FIRST[:-2], "4711"]


def test_the_inner_folder_gives_the_same_manifest(root):
    prepare_corpus("slue-voxpopuli", root)
    digest = open_corpus("slue-voxpopuli", "fine-tune").digest
    prepare_corpus("slue-voxpopuli", root / "slue-voxpopuli")
    assert open_corpus("slue-voxpopuli", "fine-tune").digest == digest


def test_word_times_are_taken_from_alignments(root, write_textgrid):
    words = [("thank", 0.1, 0.4), ("you", 0.4, 0.8)]
    write_textgrid(root / "slue-voxpopuli" / "alignments" / f"{FIRST}.TextGrid", words)
    prepare_corpus("slue-voxpopuli", root)
    first = open_corpus("slue-voxpopuli", "fine-tune").utterances[0]
    assert first.words is not None
    assert [(w.word, w.start, w.end) for w in first.words] == words


@pytest.mark.parametrize(
    ("cell", "entities"),
    [
        ("None", ()),
        ("[]", ()),
        ("", ()),
        ("[['LAW', 86, 18]]", (Entity("LAW", 86, 18),)),
        ("[['GPE', '9', 6], ['DATE', 2, 3]]", (Entity("DATE", 2, 3), Entity("GPE", 9, 6))),
    ],
)
def test_entities_of_a_cell(cell, entities):
    assert read_entities(cell) == entities


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("[['LAW', 0]]", r"expected a list such as \[\['LAW', 86, 18\]\], found"),
        ("__import__('os')", "expected a list such as"),
        ("[['LAW', 0, 4", "expected a list such as"),
        ("7", "expected a list such as"),
        ("[['LAW', 'x', 4]]", "expected a list such as"),
        ("[['PLACE', 0, 4]]", "the label 'PLACE' is none of CARDINAL"),
        ("[['LAW', 5, 30]]", "lies outside a text of 10 characters. Do the offsets belong to another version"),
        ("[['LAW', 4, 4]]", "with a space at its end"),
        ("[['LAW', 0, 4], ['ORG', 0, 7]]", "the LAW at character 0 overlaps the ORG"),
    ],
)
def test_refuses_entities(root, cell, message):
    write_table(root / "slue-voxpopuli", "dev", [(THIRD, "", "this is so", "4711", "dev", "[]", cell)])
    with pytest.raises(CorpusError, match=rf"dev\.tsv:2: '.*_3': .*{message}"):
        prepare_corpus("slue-voxpopuli", root, ["dev"])


def test_entities_inside_words_are_noted(root):
    write_table(root / "slue-voxpopuli", "dev", [(THIRD, "", "the eurozone", "4711", "dev", "[]", "[['LOC', 4, 4]]")])
    prepare_corpus("slue-voxpopuli", root, ["dev"])
    assert open_corpus("slue-voxpopuli", "dev").utterances[0].text == "the euro zone"
    note = f"split words in which entities begin or end in 1 utterances: {THIRD}"
    assert prepared_splits("slue-voxpopuli")["dev"].notes[1] == note


def test_refuses_more_rows_than_there_are(root):
    rows = [(f"u_{k}", "", "a", "4711", "dev", "[]", "[]") for k in range(1753)]
    write_table(root / "slue-voxpopuli", "dev", rows)
    with pytest.raises(CorpusError, match="dev: 1753 of 1753 listed audio files are absent"):
        prepare_corpus("slue-voxpopuli", root, ["dev"])
    write_table(root / "slue-voxpopuli", "dev", [*rows, ("u_1753", *rows[0][1:])])
    with pytest.raises(CorpusError, match=r"1754 rows, but the official table of dev has 1753 in version 0\.2\."):
        prepare_corpus("slue-voxpopuli", root, ["dev"])


def test_the_blind_test_set_has_no_labels(root):
    with pytest.raises(
        CorpusError, match=r"test_blind\.tsv has no labels \(normalized_ner\): .* --splits fine-tune,dev"
    ):
        prepare_corpus("slue-voxpopuli", root, ["test"])


def test_refuses_absent_audio(root):
    (root / "slue-voxpopuli" / "fine-tune" / f"{FIRST}.ogg").unlink()
    with pytest.raises(CorpusError, match="fine-tune: 1 of 2 listed audio files are absent"):
        prepare_corpus("slue-voxpopuli", root)


def test_refuses_an_absent_split(root):
    (root / "slue-voxpopuli" / "slue-voxpopuli_dev.tsv").unlink()
    with pytest.raises(CorpusError, match=r"There is no slue-voxpopuli_dev\.tsv in .*Download slue-voxpopuli_v0\.2"):
        prepare_corpus("slue-voxpopuli", root, ["fine-tune", "dev"])


def test_refuses_a_page_instead_of_a_table(root):
    (root / "slue-voxpopuli" / "slue-voxpopuli_dev.tsv").write_text("<!DOCTYPE html>\n<p>Log in</p>\n")
    with pytest.raises(CorpusError, match=r"slue-voxpopuli_dev\.tsv is a web page, .* log in where it asks you to"):
        prepare_corpus("slue-voxpopuli", root)


def test_a_missing_folder_is_bad_usage(tmp_path, empty_home, capsys):
    assert main(["data", "prepare", "slue-voxpopuli", "--root", str(tmp_path / "missing-folder")]) == 2
    told = capsys.readouterr().err
    for part in ("There is no SLUE-VoxPopuli in", "slue-voxpopuli_v0.2_blind.zip", "fine-tune/<id>.ogg", "--root DIR"):
        assert part in told


def test_official_numbers():
    """Shon et al. 2022, table 1."""
    assert DISTRIBUTION.rows == {"fine-tune": 5000, "dev": 1753, "test": 1842}
    assert CORPUS.info.splits == tuple(DISTRIBUTION.rows)


def test_the_registry_writes_hyphens():
    assert {"slue-voxceleb", "slue-voxpopuli"} <= set(corpus_registry().sources())
    assert "slue_voxpopuli" not in corpus_registry().sources()
    assert corpus_registry().load("slue-voxpopuli") is CORPUS
    assert corpus_registry().first_line("slue-voxpopuli").startswith("SLUE-VoxPopuli: ")
