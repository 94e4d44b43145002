import random
import subprocess
import sys
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import CheckpointError, TokenizerError
from harness.speech.units import MAX_UNITS, SubwordKind, UnitSubwords, char_to_unit, unit_to_char

N_UNITS = 30


def sequences(number: int = 300) -> list[list[int]]:
    """ "Words" of 2 to 5 units in random order, without repeats; unit 29 never occurs."""
    rng = random.Random(0)
    words = [[rng.randrange(N_UNITS - 1) for _ in range(rng.randint(2, 5))] for _ in range(40)]
    drawn = [[unit for _ in range(12) for unit in rng.choice(words)] for _ in range(number)]
    return [[unit for unit, _ in groupby(row)] for row in drawn]


def trained(kind: SubwordKind) -> UnitSubwords:
    return UnitSubwords.train(sequences(), n_units=N_UNITS, vocab_size=60, kind=kind)


UNIGRAM, BPE, NONE = trained("unigram"), trained("bpe"), UnitSubwords(N_UNITS)


@pytest.mark.parametrize("unit", [0, 1, 20_991, 20_992, MAX_UNITS - 1])
def test_code_points_come_back(unit):
    assert char_to_unit(unit_to_char(unit)) == unit
    assert len(unit_to_char(unit)) == 1


@pytest.mark.parametrize("subwords", [UNIGRAM, BPE, NONE], ids=["unigram", "bpe", "none"])
@given(units=st.lists(st.integers(0, N_UNITS - 1), max_size=80))
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_units_comes_back(subwords, units):
    ids = subwords.encode(units)
    assert subwords.decode(ids) == units
    assert sum(subwords.piece_lengths[i] for i in ids) == len(units)
    assert all(0 <= i < subwords.vocab_size for i in ids)


@pytest.mark.parametrize("subwords", [UNIGRAM, BPE], ids=["unigram", "bpe"])
def test_vocabulary_has_the_size_asked_for_and_every_unit(subwords):
    assert subwords.vocab_size == len(subwords.piece_lengths) == 60
    assert {tuple(subwords.decode([i])) for i in range(60)} >= {(unit,) for unit in range(N_UNITS)}
    assert len({tuple(subwords.decode([i])) for i in range(60)}) == 60
    # Recurring words are worth a piece: sequences shrink.
    assert len(subwords.encode(sequences()[0])) < len(sequences()[0])


def test_none_is_the_identity():
    assert NONE.encode([3, 1, 4]) == [3, 1, 4]
    assert NONE.vocab_size == N_UNITS
    assert NONE.piece_lengths == (1,) * N_UNITS
    assert UnitSubwords.train([], n_units=5, kind="none").digest == UnitSubwords(5).digest != UnitSubwords(6).digest


def test_pieces_are_at_most_as_long_as_asked():
    subwords = UnitSubwords.train(sequences(), n_units=N_UNITS, vocab_size=60, kind="bpe", max_piece_units=2)
    assert max(subwords.piece_lengths) == 2
    assert max(BPE.piece_lengths) > 2


def test_long_utterances_are_not_dropped():
    # 6,000 units are 18,000 bytes, over four times SentencePiece's default limit on a sentence.
    subwords = UnitSubwords.train([[0, 1, 2] * 2000], n_units=4, vocab_size=5, kind="bpe")
    assert max(subwords.piece_lengths) == 2


@pytest.mark.parametrize("n_units", [500, 21_500])
def test_large_codebooks(n_units):
    rows = [[(7 * i + 13 * j) % n_units for j in range(20)] for i in range(50)]
    subwords = UnitSubwords.train(rows, n_units=n_units, vocab_size=n_units + 10, kind="bpe")
    edge = [0, n_units - 1, n_units // 2]
    assert subwords.decode(subwords.encode(edge)) == edge


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_training_is_the_same_in_another_process(kind):
    code = (
        "from harness.speech.units import UnitSubwords;"
        "rows = [[(i * j) % 7 for j in range(40)] + [i % 7] for i in range(50)];"
        f"print(UnitSubwords.train(rows, n_units=8, vocab_size=12, kind='{kind}').digest)"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert len(runs) == 1


def test_save_and_load(tmp_path):
    UNIGRAM.save(tmp_path / "units.model")
    loaded = UnitSubwords.load(tmp_path / "units.model", n_units=N_UNITS)
    assert loaded.digest == UNIGRAM.digest
    assert loaded.encode(sequences()[1]) == UNIGRAM.encode(sequences()[1])
    NONE.save(tmp_path / "none.model")
    assert not (tmp_path / "none.model").exists()
    assert UnitSubwords.load(None, n_units=N_UNITS).digest == NONE.digest


def test_models_that_do_not_fit_are_refused(tmp_path):
    BPE.save(tmp_path / "units.model")
    for n_units in (N_UNITS - 1, N_UNITS + 1):
        with pytest.raises(CheckpointError, match=f"do not fit {n_units} units"):
            UnitSubwords.load(tmp_path / "units.model", n_units=n_units)
    with pytest.raises(CheckpointError, match="no unit subword model"):
        UnitSubwords.load(tmp_path / "absent.model", n_units=N_UNITS)
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="cannot be read"):
        UnitSubwords.load(tmp_path / "bad.model", n_units=N_UNITS)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_too_many_pieces_for_the_data_says_how_many_it_supports(kind):
    with pytest.raises(TokenizerError, match=r"do not support 500 .* at most \d+") as caught:
        UnitSubwords.train([[0, 1, 2], [0, 1, 3]], n_units=4, vocab_size=500, kind=kind)
    supported = int(str(caught.value).split("at most ")[1].split(".")[0])
    assert (
        UnitSubwords.train([[0, 1, 2], [0, 1, 3]], n_units=4, vocab_size=supported, kind=kind).vocab_size == supported
    )


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([[0, 1]], {"n_units": 4, "vocab_size": 3}, "at least 4; found 3"),
        ([[0, 1]], {"n_units": 4}, "at least 4; found None"),
        ([[0, 4]], {"n_units": 4, "vocab_size": 6}, "Unit 4 is out of range.*0 to 3"),
        ([[]], {"n_units": 4, "vocab_size": 6}, "no sequences"),
        ([[0]], {"n_units": 4, "vocab_size": 6, "kind": "word"}, "'word' is not a kind"),
        ([[0]], {"n_units": 0, "kind": "none"}, "1 to"),
    ],
)
def test_bad_requests(rows, settings, message):
    with pytest.raises(TokenizerError, match=message):
        UnitSubwords.train(rows, **settings)


@pytest.mark.parametrize("subwords", [UNIGRAM, NONE], ids=["unigram", "none"])
def test_out_of_range(subwords):
    for unit in (-1, N_UNITS):
        with pytest.raises(TokenizerError, match="out of range"):
            subwords.encode([unit])
    for piece in (-1, subwords.vocab_size):
        with pytest.raises(TokenizerError, match="not a unit piece"):
            subwords.decode([piece])
