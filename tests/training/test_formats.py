import re
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
import pytest
from scipy import stats

from harness.errors import CorpusError
from harness.segments import UnitSpan
from harness.training.formats import Formatter, PairedUtterance, draw_run, draw_spans
from harness.training.mixture import MixtureStream
from harness.training.recipe import Mixture
from harness.training.vocabulary import EOS, T2U, T_EN, U2T, U_EN
from tests.training.toy import VOCABULARY, formatter, letters, span, utterances

# Ten frames of 0.1 s with centers 0.05, 0.15, …: "ab" gets frames 0-3 (its own and the silence before it), "c" 4-6,
# "de" 7-9. Units 1 2 3 4 are ids 7 8 9 10, letters a b c d e are ids 16 … 20.
UTTERANCE = PairedUtterance("u", span(1, 1, 2, 2, 2, 3, 3, 3, 4, 4), ("ab", "c", "de"), (0.1, 0.4, 0.7))
SPEECH, TEXT = [7, 8, 9, 10], [16, 17, 18, 19, 20]


def all_formats(kind: str, *, max_span_words: int = 1, utterance: PairedUtterance = UTTERANCE) -> set[tuple[int, ...]]:
    made = formatter(max_span_words)
    return {tuple(made.format(utterance, kind, np.random.default_rng(seed))) for seed in range(40)}


def test_speech_is_start_units_end():
    assert all_formats("speech") == {(2, 7, 8, 9, 10, 1)} == {(U_EN, *SPEECH, EOS)}


def test_text_is_start_subwords_end():
    assert all_formats("text") == {(3, 16, 17, 18, 19, 20, 1)} == {(T_EN, *TEXT, EOS)}


def test_concatenated_is_one_modality_after_the_other_in_either_order():
    assert all_formats("cst") == {(U_EN, *SPEECH, U2T, *TEXT, EOS), (T_EN, *TEXT, T2U, *SPEECH, EOS)}


@pytest.mark.parametrize(
    ("direction", "expected"),
    [("u2t", (U_EN, *SPEECH, U2T, *TEXT, EOS)), ("t2u", (T_EN, *TEXT, T2U, *SPEECH, EOS))],
)
def test_concatenated_keeps_to_a_direction_that_is_asked_for(direction, expected):
    made = Formatter(VOCABULARY, lambda s: list(s.units), letters, max_span_words=1, cst_direction=direction)
    assert {tuple(made.format(UTTERANCE, "cst", np.random.default_rng(s))) for s in range(20)} == {expected}
    watching = made.keeping_beginnings()
    assert {tuple(watching.format(UTTERANCE, "cst", np.random.default_rng(s))) for s in range(20)} == {expected}


def test_parts_of_utterances_are_the_same_words_in_both_modalities():
    """Of ab, c, de all six runs of words; frames 0-3 are units 1 2, frames 4-6 units 2 3, frames 7-9 units 3 4."""
    made = Formatter(VOCABULARY, lambda s: list(s.units), letters, max_span_words=1, cst_direction="u2t", cst_part=1.0)
    ab, c, de = ([7, 8], [16, 17]), ([8, 9], [18]), ([9, 10], [19, 20])
    runs = [ab, c, de, ([7, 8, 9], [16, 17, 18]), ([8, 9, 10], [18, 19, 20]), (SPEECH, TEXT)]
    assert {tuple(made.format(UTTERANCE, "cst", np.random.default_rng(s))) for s in range(80)} == {
        (U_EN, *spoken, U2T, *written, EOS) for spoken, written in runs
    }
    bare = replace(UTTERANCE, starts_s=())
    assert made.format(bare, "cst", np.random.default_rng(0)) == [U_EN, *SPEECH, U2T, *TEXT, EOS]


def test_runs_of_words_are_equally_likely_and_half_of_them_the_last():
    """Of 4 words there are 10 runs, 1 in 20 each, of which 4 reach the end and have another 1 in 8."""
    draws = np.random.default_rng(0)
    counts: dict[tuple[int, int], int] = {}
    for _ in range(2000):
        run = draw_run(4, draws)
        counts[run] = counts.get(run, 0) + 1
    expected = {(i, j): 2000 * (1 / 20 + (j == 4) / 8) for i in range(4) for j in range(i + 1, 5)}
    assert set(counts) == set(expected)
    assert stats.chisquare([counts[run] for run in expected], list(expected.values())).pvalue > 0.001


def test_alternating_switches_after_every_word():
    """Frames 0-3 are units 1 1 2 2, frames 4-6 are 2 3 3, frames 7-9 are 3 4 4; a unit that a cut splits is in both."""
    assert all_formats("ast") == {
        (2, 7, 8, 4, 18, 5, 9, 10, 1),  # ab spoken, c written, de spoken
        (3, 16, 17, 5, 8, 9, 4, 19, 20, 1),  # ab written, c spoken, de written
    }


def test_alternating_draws_every_way_to_cut_at_word_boundaries():
    ab, c, de = [7, 8], [8, 9], [9, 10]
    assert all_formats("ast", max_span_words=3) == {
        (U_EN, *SPEECH, EOS), (T_EN, *TEXT, EOS),
        (U_EN, *ab, U2T, 18, 19, 20, EOS), (T_EN, 16, 17, T2U, 8, 9, 10, EOS),
        (U_EN, 7, 8, 9, U2T, 19, 20, EOS), (T_EN, 16, 17, 18, T2U, *de, EOS),
        (U_EN, *ab, U2T, 18, T2U, *de, EOS), (T_EN, 16, 17, T2U, *c, U2T, 19, 20, EOS),
    }  # fmt: skip


def test_prompt_dropout_takes_the_beginning_up_to_a_word_or_the_first_switch():
    """From the second word on frames 4-9 are units 2 3 3 3 4 4, from the third 7-9 are 3 4 4."""

    def dropping(kind: str, utterance: PairedUtterance = UTTERANCE) -> set[tuple[int, ...]]:
        made = formatter(1, prompt_dropout=1.0)
        return {tuple(made.format(utterance, kind, np.random.default_rng(seed))) for seed in range(40)}

    assert dropping("text") == {(T_EN, 18, 19, 20, EOS), (T_EN, 19, 20, EOS)}
    assert dropping("speech") == {(U_EN, 8, 9, 10, EOS), (U_EN, 9, 10, EOS)}
    assert dropping("ast") == {(U_EN, U2T, 18, T2U, 9, 10, EOS), (T_EN, T2U, 8, 9, U2T, 19, 20, EOS)}
    assert dropping("cst") == {
        (U_EN, U2T, 18, 19, 20, EOS), (U_EN, U2T, 19, 20, EOS),
        (T_EN, T2U, 8, 9, 10, EOS), (T_EN, T2U, 9, 10, EOS),
    }  # fmt: skip
    unaligned, single = replace(UTTERANCE, starts_s=()), PairedUtterance("v", span(1, 1, 2), ("ab",), (0.1,))
    assert dropping("speech", unaligned) == all_formats("speech")
    assert dropping("text", unaligned) == dropping("text")
    for kind in ("speech", "text", "ast"):
        assert dropping(kind, single) == all_formats(kind, utterance=single)


def test_prompt_dropout_is_a_share_of_the_documents():
    made = formatter(1, prompt_dropout=0.3)
    cut = [len(made.format(UTTERANCE, "text", np.random.default_rng(seed))) < 7 for seed in range(2000)]
    assert stats.binomtest(sum(cut), len(cut), 0.3).pvalue > 1e-4
    whole = made.keeping_beginnings()
    assert {len(whole.format(UTTERANCE, "text", np.random.default_rng(seed))) for seed in range(50)} == {7}


def test_alternating_loses_and_repeats_no_word_and_no_frame():
    for utterance in utterances(20):
        sounds: list[UnitSpan] = []
        spelled: list[str] = []

        def speech(part: UnitSpan, sounds=sounds) -> tuple[int, ...]:
            sounds.append(part)
            return part.units

        def text(words: str, spelled=spelled) -> list[int]:
            spelled.append(words)
            return letters(words)

        watching = Formatter(VOCABULARY, speech, text, max_span_words=2)
        ids = watching.format(utterance, "ast", np.random.default_rng(0))
        cuts = draw_spans(len(utterance.words), 2, skip_one(np.random.default_rng(0)))
        frames = [utterance.cut(first, last).num_frames for first, last in cuts]
        assert sum(frames) == utterance.units.num_frames
        assert frames[(ids[0] == T_EN) :: 2] == [part.num_frames for part in sounds]
        words = [" ".join(utterance.words[first:last]) for first, last in cuts]
        assert words[(ids[0] == U_EN) :: 2] == spelled


def skip_one(rng: np.random.Generator) -> np.random.Generator:
    """The generator after the draw of the first modality."""
    rng.random()
    return rng


def test_modalities_never_follow_each_other_without_a_switch_token():
    for utterance in utterances(20):
        ids = formatter(2).format(utterance, "ast", np.random.default_rng(1))
        runs = [m for m, _ in groupby(VOCABULARY.modality_of(i) for i in ids)]
        assert runs[0] is runs[-1] is None
        assert all((a is None) != (b is None) for a, b in pairwise(runs))
        for before, token, after in zip(ids, ids[1:], ids[2:], strict=False):
            if token in (U2T, T2U):
                assert (VOCABULARY.modality_of(before), VOCABULARY.modality_of(after)) == (
                    ("speech", "text") if token == U2T else ("text", "speech")
                )


def test_span_lengths_are_uniform_from_one_word_to_the_longest():
    spans = draw_spans(40_000, 10, np.random.default_rng(0))
    lengths = [last - first for first, last in spans[:-1]]  # the last one is cut off by the end
    counts = np.bincount(lengths, minlength=11)
    assert counts[0] == 0
    assert len(counts) == 11
    assert stats.chisquare(counts[1:]).pvalue > 0.01
    assert [a for _, a in spans[:-1]] == [b for b, _ in spans[1:]]
    assert (spans[0][0], spans[-1][1]) == (0, 40_000)


@pytest.mark.parametrize("kind", ["cst", "ast"])
def test_either_modality_starts_half_of_the_time(kind):
    made = formatter(2)
    starts = [made.format(UTTERANCE, kind, np.random.default_rng([7, i]))[0] for i in range(600)]
    assert stats.binomtest(starts.count(U_EN), 600).pvalue > 0.01


@pytest.mark.parametrize("kind", ["cst", "ast"])
def test_random_formats_are_redrawn_every_epoch_and_the_same_in_every_run(kind):
    corpus = utterances(12, max_words=12)

    def epochs() -> list[list[tuple[int, ...]]]:
        stream = MixtureStream(
            corpus, formatter(3), Mixture(**{**dict.fromkeys(("speech", "text", "cst", "ast"), 0), kind: 1}),
            ratio_unit="samples", seed=3, max_tokens=999,
        )  # fmt: skip
        return [sorted(next(stream).ids for _ in corpus) for _ in range(3)]

    first, second, third = epochs()
    assert first != second != third != first
    assert epochs() == [first, second, third]


def test_alternating_without_word_times_is_refused_with_the_way_out():
    bare = PairedUtterance("u7", UTTERANCE.units, UTTERANCE.words, ())
    message = "'u7' has no word times, which alternating sequences need; give the corpus alignments"
    with pytest.raises(CorpusError, match=re.escape(message)):
        formatter().format(bare, "ast", np.random.default_rng(0))
    assert formatter().format(bare, "speech", np.random.default_rng(0)) == [U_EN, *SPEECH, EOS]


def test_a_word_too_short_for_a_frame_leaves_no_units():
    """The second word lasts from 0.21 to 0.24 s; frame centers lie at 0.15 and 0.25."""
    short = PairedUtterance("u", span(1, 2, 3, 4), ("a", "b", "c"), (0.0, 0.21, 0.24))
    assert all_formats("ast", utterance=short) == {
        (U_EN, 7, 8, U2T, 17, T2U, 9, 10, EOS),
        (T_EN, 16, T2U, U2T, 18, EOS),
    }
