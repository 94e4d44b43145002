import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.config import build
from harness.corpora.corpus import Corpus, open_corpus
from harness.corpora.manifest import Utterance, Word
from harness.errors import ConfigError, CorpusError, InputError
from harness.results import Item
from harness.segments import DIRECTIONS, AudioSpan, Speech, Text
from harness.task import Loglikelihoods, Unscorable, task_registry
from harness.testing import OracleModel, measure

BOTH = frozenset({"speech", "text"})


@pytest.fixture(scope="module")
def cra():
    return task_registry().load("cra")


def options_of(cra, **settings):
    return build(cra.Options, settings, where="cra")


def utterance(id_, text, starts=None, seconds=None, speaker="ann"):
    words = text.split()
    starts = [0.5 * i for i in range(len(words))] if starts is None else starts
    seconds = starts[-1] + 0.5 if seconds is None else seconds
    timed = tuple(Word(w, a, b) for w, a, b in zip(words, starts, [*starts[1:], seconds], strict=True))
    return Utterance(id_, f"{id_}.wav", 16_000, seconds, text, speaker, "test", timed)


def corpus_of(*utterances):
    return Corpus("toy", "test", Path("/audio"), "0" * 64, utterances)


def numbered(count, speakers=("ann",)):
    """Utterances `u00`, `u01`, … whose second halves last 1, 1.1, 1.2, … seconds."""
    return corpus_of(
        *(
            utterance(f"u{i:02}", f"a b c{i} d{i}", [0.0, 0.5, 2.0, 2.5], 3.0 + i / 10, speakers[i % len(speakers)])
            for i in range(count)
        )
    )


def without_times(corpus):
    return replace(corpus, utterances=tuple(replace(u, words=None) for u in corpus.utterances))


@pytest.fixture
def draw(cra):
    """The examples that CRA draws from a corpus."""

    def examples(corpus, *, limit=None, seed=0, **settings):
        return cra.examples(corpus, options_of(cra, **settings), limit=limit, seed=seed)

    return examples


# --- cutting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("starts", "seconds", "first"),
    [
        ([0.0, 0.4, 1.1, 1.5], 2.0, "one two"),  # 1.1 s is nearest to 1.0 s
        ([0.0, 0.9, 1.5, 1.8], 2.0, "one"),
        ([1.0, 1.7, 1.8, 1.9], 2.0, "one"),  # not before the first word, which starts in the very middle
        ([0.0, 0.5, 1.5, 1.8], 2.0, "one"),  # a draw goes to the earlier
        ([0.0, 0.1, 0.2, 0.3], 2.0, "one two three"),
    ],
)
def test_cuts_at_the_word_boundary_nearest_the_middle(draw, starts, seconds, first):
    cut = utterance("a", "one two three four", starts, seconds)
    example = draw(corpus_of(cut, utterance("b", "five six seven eight")))[0]
    at, second = starts[len(first.split())], "one two three four".removeprefix(first).strip()
    audio = Path("/audio/a.wav")
    assert example.prompt == {"text": Text(first), "speech": Speech(AudioSpan(audio, 0.0, at))}
    assert example.continuation == {"text": Text(second), "speech": Speech(AudioSpan(audio, at, None))}
    assert example.seconds == pytest.approx(seconds - at)
    assert (example.id, example.speaker) == ("a", "ann")
    assert (example.extent("text"), example.extent("speech")) == (len(second), example.seconds)


def test_text_alone_is_cut_in_the_middle_of_its_words(draw):
    examples = draw(without_times(numbered(3)), directions=["t2t"])
    assert [e.prompt for e in examples] == [{"text": Text("a b")}] * 3
    assert examples[2].continuation == {"text": Text("c2 d2")}


@pytest.mark.parametrize(
    "settings",
    [{}, {"directions": ["t2t", "u2t"]}, {"directions": ["t2t"], "negatives": "length_matched", "num_candidates": 2}],
)
def test_speech_without_word_times_cannot_be_cut(draw, settings):
    with pytest.raises(CorpusError, match=r"'u00' of toy:test has no word times.*cra.directions=\[t2t\]"):
        draw(without_times(numbered(3)), **settings)


def test_short_utterances_are_left_out(draw):
    corpus = corpus_of(utterance("a", "one two three"), *numbered(2).utterances)
    assert [e.id for e in draw(corpus)] == ["u00", "u01"]
    assert [e.id for e in draw(corpus, min_words=3)] == ["a", "u00", "u01"]


def test_a_second_half_that_occurs_twice_competes_once(draw):
    twins = [utterance(i, f"{i} {i} same end") for i in ("b", "a")]
    assert [e.id for e in draw(corpus_of(*twins, *numbered(2).utterances))] == ["a", "u00", "u01"]


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_draws_by_seed_as_many_as_asked_for(draw):
    corpus = numbered(30)
    ids = [e.id for e in draw(corpus, limit=8, seed=1)]
    assert len(ids) == 8
    assert ids == sorted(ids)
    assert ids == [e.id for e in draw(corpus, n=8, seed=1)]
    assert ids != [e.id for e in draw(corpus, limit=8, seed=2)]
    assert len(draw(corpus, limit=99)) == 30


def test_every_continuation_competes_unless_told_otherwise(draw):
    for i, example in enumerate(draw(numbered(5))):
        assert example.candidates == (0, 1, 2, 3, 4)
        assert example.gold == i


@pytest.mark.parametrize("negatives", ["random", "same_speaker", "length_matched"])
def test_candidates_are_as_many_as_asked_for_with_the_gold_among_them(draw, negatives):
    examples = draw(numbered(20, ("ann", "bob")), negatives=negatives, num_candidates=4)
    for i, example in enumerate(examples):
        assert len(set(example.candidates)) == 4
        assert example.candidates[example.gold] == i
        assert list(example.candidates) == sorted(example.candidates)


def test_random_candidates_follow_from_the_seed_and_differ_between_prompts(draw):
    corpus, settings = numbered(20), {"num_candidates": 4}
    drawn = [e.candidates for e in draw(corpus, seed=1, **settings)]
    assert drawn == [e.candidates for e in draw(corpus, seed=1, **settings)]
    assert drawn != [e.candidates for e in draw(corpus, seed=2, **settings)]
    assert len(set(drawn)) > 10


def test_the_order_of_the_manifest_changes_no_candidate(draw):
    corpus = numbered(20)
    turned = replace(corpus, utterances=corpus.utterances[::-1])
    for settings in ({"num_candidates": 4}, {"n": 9}, {"control": "shuffled_prompt"}):
        assert draw(corpus, **settings) == draw(turned, **settings)


def test_same_speaker_takes_the_golds_speaker(draw):
    examples = draw(numbered(12, ("ann", "bob", "eve")), negatives="same_speaker")
    assert {len(e.candidates) for e in examples} == {4}
    for example in examples:
        assert {examples[i].speaker for i in example.candidates} == {example.speaker}


def test_length_matched_takes_the_closest_in_seconds(draw):
    """Second halves last 1.0 … 2.9 s in steps of 0.1; of u05 (1.5 s) the closest are 1.4 and 1.6, then 1.3."""
    examples = draw(numbered(20), negatives="length_matched", num_candidates=4)
    assert examples[5].candidates == (3, 4, 5, 6)
    assert examples[0].candidates == (0, 1, 2, 3)
    for example in examples:
        distance = [abs(e.seconds - example.seconds) for e in examples]
        furthest = max(distance[i] for i in example.candidates)
        assert sum(d < furthest - 1e-9 for d in distance) <= 3


def test_too_few_negatives_are_an_error_that_says_how_many_there_are(draw):
    with pytest.raises(CorpusError, match=r"'u00' has 1 negatives of kind same_speaker, 3 were asked for; lower"):
        draw(numbered(4, ("ann", "bob")), negatives="same_speaker", num_candidates=4)
    with pytest.raises(CorpusError, match=r"has 0 negatives of kind same_speaker, 1 were asked for"):
        draw(numbered(2, ("ann", "bob")), negatives="same_speaker")


def test_the_control_gives_every_prompt_the_end_of_another(draw):
    examples = draw(numbered(9), control="shuffled_prompt")
    golds = [e.candidates[e.gold] for e in examples]
    assert sorted(golds) == list(range(9))
    for i, example in enumerate(examples):
        assert golds[i] != i
        assert set(example.candidates) == set(range(9)) - {i}
    assert golds != [e.candidates[e.gold] for e in draw(numbered(9), control="shuffled_prompt", seed=1)]


@pytest.mark.parametrize(
    ("count", "limit", "message"), [(1, None, "offers 1, asked for 100"), (5, 1, "offers 5, asked for 1")]
)
def test_one_candidate_is_no_choice(draw, count, limit, message):
    with pytest.raises(CorpusError, match=rf"at least 2 utterances of 4 words or more; toy:test {message}"):
        draw(numbered(count), limit=limit)


def test_two_prompts_leave_the_control_no_negatives(draw):
    with pytest.raises(CorpusError, match="has 0 negatives"):
        draw(numbered(2), control="shuffled_prompt")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n": 1}, InputError, "at least 2 candidates; found n=1"),
        ({"num_candidates": 1}, InputError, "at least 2 candidates; found n=100, num_candidates=1"),
        ({"n": 30_000}, InputError, r"30000 prompts means 9e\+08 pairs; set num_candidates"),
        ({"min_words": 1}, InputError, "one word has no two halves"),
        ({"negatives": "length_matched"}, InputError, "say how many with cra.num_candidates"),
        ({"directions": ["s2t"]}, ConfigError, r"cra: 'directions.0'.*found 's2t'"),
        ({"negative": "random"}, ConfigError, "unknown key 'negative'. Did you mean 'negatives'"),
    ],
)
def test_options_that_make_no_sense_are_refused(cra, settings, error, message):
    with pytest.raises(error, match=message):
        options_of(cra, **settings)


def test_many_prompts_may_have_few_candidates_each(cra):
    assert options_of(cra, n=30_000, num_candidates=10).n == 30_000


# --- asking -----------------------------------------------------------------------------------------------------------


def test_asks_for_every_direction_without_a_prompt_first(cra, draw):
    examples, options = draw(numbered(3)), options_of(cra)
    requests = cra.requests(examples, options, modalities=BOTH)
    assert [r.id for r in requests] == [f"{d}/{name}" for d in DIRECTIONS for name in ("prior", "u00", "u01", "u02")]
    prior, first = requests[4:6]
    assert (prior.prompt, prior.source, prior.target, prior.chosen) == ((), "speech", "text", (0, 1, 2))
    assert first.prompt == (examples[0].prompt["speech"],)
    assert first.pool is prior.pool
    assert first.pool == tuple(e.continuation["text"] for e in examples)


def test_a_model_of_one_modality_is_asked_in_its_own(cra, draw):
    examples, options = draw(numbered(3)), options_of(cra)
    requests = cra.requests(examples, options, modalities=frozenset({"text"}))
    assert {r.id.partition("/")[0] for r in requests} == {"t2t"}
    with pytest.raises(InputError, match="A model of text has none of the directions u2t, t2u"):
        cra.requests(examples, options_of(cra, directions=["u2t", "t2u"]), modalities=frozenset({"text"}))


# --- scoring ----------------------------------------------------------------------------------------------------------

PRIOR = [-6.0, -2.0, -9.0]
#: Given the prompts of rows. Continuations "ab", "abcd", "abcdefgh" have 2, 4, 8 characters and 1, 2, 3 tokens.
GIVEN = [[-4.0, -3.0, -9.0], [-7.0, -3.0, -3.0], [-7.0, -3.0, -6.0]]
TOKENS = [1, 2, 3]


@pytest.fixture
def three(cra, draw):
    """Examples and answers to work out by hand."""
    texts = ("w x y ab", "w x y abcd", "w x y abcdefgh")
    corpus = corpus_of(*(utterance(f"u{i}", t, [0.0, 0.5, 0.6, 2.0], 4.0) for i, t in enumerate(texts)))
    examples = draw(corpus, directions=["t2t"])
    rows = {"t2t/prior": PRIOR} | {f"t2t/u{i}": row for i, row in enumerate(GIVEN)}
    return examples, {k: Loglikelihoods(np.array(v), np.array(TOKENS)) for k, v in rows.items()}


def test_ranks_worked_out_by_hand(cra, three):
    """Each prompt's scores of the three continuations, the gold's in brackets.

    u0: sum [-4] -3 -9: rank 2. token [-4] -1.5 -3: rank 3. second (per character) [-2] -0.75 -1.125: rank 3.
    pmi [2] -1 0: rank 1.
    u1: sum -7 [-3] -3: tied first, 1.5. token -7 [-1.5] -1: 2. second -3.5 [-0.75] -0.375: 2. pmi -1 [-1] 6: 2.5.
    u2: sum -7 -3 [-6]: 2. token -7 -1.5 [-2]: 2. second -3.5 -0.75 [-0.75]: 1.5. pmi -1 -1 [3]: 1.
    """
    items = cra.score(three[0], options_of(cra, directions=["t2t"], full_scores=True), three[1])
    ranks = [[item.scores["ranks"][s]["rank"] for s in ("sum", "token_norm", "extent_norm", "pmi")] for item in items]
    assert ranks == [[2, 3, 3, 1], [1.5, 2, 2, 2.5], [2, 2, 1.5, 1]]
    first = items[0]
    assert (first.id, first.prompt, first.reference, first.output) == ("t2t/u0", "w x y", "ab", "ab")
    found = first.scores
    assert (found["gold_loglikelihood"], found["gold_tokens"], found["gold_extent"]) == (-4.0, 1, 2.0)
    assert (found["gold_nll"], found["gold_pmi"]) == (2.0, 2.0)
    assert found["candidate_ce"]["pmi"] == pytest.approx(math.log(1 + math.exp(-3) + math.exp(-2)))
    assert found["candidate_ce"]["sum"] == pytest.approx(math.log(1 + math.exp(1) + math.exp(-5)))
    assert items[1].output == "abcdefgh"


def test_metrics_worked_out_by_hand(cra, three):
    """R@1 by sum: 0, 1/2 (two share the first place), 0. MRR by pmi: 1, (1/2 + 1/3) / 2, 1."""
    options = options_of(cra, directions=["t2t"], full_scores=True)
    metrics = cra.summarize(cra.score(three[0], options, three[1]), options, seed=0)
    found = {k.removeprefix("cra.t2t."): m.value for k, m in metrics.items()}
    assert found["sum.r_at_1"] == pytest.approx(1 / 6)
    assert found["pmi.mrr"] == pytest.approx((2 + 5 / 12) / 3)
    assert found["sum.median_rank"] == 2
    assert found["pmi.r_at_5"] == 1.0
    assert found["gold_nll"] == pytest.approx((4 / 2 + 3 / 4 + 6 / 8) / 3)
    assert found["gold_pmi"] == pytest.approx((2 - 1 + 3) / 3)
    assert metrics["cra.t2t.sum.r_at_1"].chance == 1 / 3
    assert metrics["cra.t2t.sum.mrr"].chance == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert metrics["cra.t2t.pmi.candidate_ce"].chance == pytest.approx(math.log(3))
    assert metrics["cra.t2t.sum.median_rank"].chance == 2
    assert {k for k, m in metrics.items() if m.higher_is_better} == {
        f"cra.t2t.{key}"
        for key in [
            "gold_pmi",
            *(f"{s}.{m}" for s in ("sum", "token_norm", "extent_norm", "pmi") for m in ("r_at_1", "r_at_5", "mrr")),
        ]
    }


def test_only_the_scores_asked_for_are_ranked(cra, three):
    options = options_of(cra, directions=["t2t"], scores=["token_norm", "sum"])
    items = cra.score(three[0], options, three[1])
    assert [list(item.scores["ranks"]) for item in items] == [["token_norm", "sum"]] * 3
    assert items[0].scores["ranks"]["sum"]["rank"] == 2
    assert items[0].output == "abcd"  # by the first of them
    found = {key.split(".")[2] for key in cra.summarize(items, options, seed=0)}
    assert found == {"token_norm", "sum", "gold_nll", "gold_pmi"}
    assert {key.split(".")[2] for key in cra.item_values(items, options)} == found
    [_, request, *_] = cra.requests(three[0], options, modalities=BOTH)
    assert [s.divisor for s in request.ranking.scores] == ["tokens", None]
    for scores in [[], ["sum", "sum"]]:
        with pytest.raises((ConfigError, InputError), match="names at least one score, each once"):
            options_of(cra, scores=scores)


def test_speech_is_normalized_by_its_seconds(cra, three):
    examples = [replace(e, seconds=s) for e, s in zip(three[0], (2.0, 0.5, 1.0), strict=True)]
    answers = {k.replace("t2t", "t2u"): v for k, v in three[1].items()}
    items = cra.score(examples, options_of(cra, directions=["t2u"]), answers)
    assert [i.scores["gold_nll"] for i in items] == [4 / 2, 3 / 0.5, 6 / 1]
    assert items[0].scores["ranks"]["extent_norm"]["rank"] == 1  # -4 / 2 against -3 / 0.5 and -9 / 1


def test_rounding_makes_no_rank(cra, three):
    examples, answers = three
    values = np.array([-4.0, -4.0 + 0.5e-4, -9.0])
    items = cra.score(
        examples, options_of(cra, directions=["t2t"]), answers | {"t2t/u0": Loglikelihoods(values, np.array(TOKENS))}
    )
    assert items[0].scores["ranks"]["sum"] == {"rank": 1.5, "better": 0, "tied": 2}


def test_an_item_without_an_answer_fails_with_its_reason(cra, three):
    examples, answers = three
    options = options_of(cra, directions=["t2t"])
    items = cra.score(examples, options, answers | {"t2t/u1": Unscorable("too long")})
    assert items[1] == Item("t2t/u1", group="ann", failed="too long", extra={"direction": "t2t"})
    assert [bool(i.failed) for i in items] == [False, True, False]
    items = cra.score(examples, options, answers | {"t2t/prior": Unscorable("no tokens")})
    assert {i.failed for i in items} == {"no tokens"}


def test_a_direction_that_was_not_asked_is_left_out(cra, three):
    options = options_of(cra)
    items = cra.score(*(three[0], options, three[1]))
    assert {i.extra["direction"] for i in items} == {"t2t"}
    assert {k.split(".")[1] for k in cra.summarize(items, options, seed=0)} == {"t2t"}


# --- the control ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", ["none", "shuffled_prompt"])
def test_the_control_takes_all_ability_away(cra, draw, control):
    """Scores that favor every prompt's own end find it always; with shuffled prompts they are at chance.

    The mean of 1/rank over 5 * 80 prompts has a standard error of about 0.13 / 20; 4 of them are 0.026.
    """
    reciprocals = []
    for seed in range(5):
        settings = {"directions": ["t2t"], "control": control}
        examples = draw(numbered(80), seed=seed, **settings)
        values = np.random.default_rng(seed).normal(-100, 10, (80, 80)) + 60 * np.eye(80)
        answers = {"t2t/prior": loglikelihoods([-100.0] * 80)}
        answers |= {f"t2t/{e.id}": loglikelihoods(values[i, list(e.candidates)]) for i, e in enumerate(examples)}
        items = cra.score(examples, options_of(cra, **settings), answers)
        reciprocals += [1 / item.scores["ranks"]["pmi"]["rank"] for item in items]
    chance = sum(1 / rank for rank in range(1, 80)) / 79
    assert np.mean(reciprocals) == (1.0 if control == "none" else pytest.approx(chance, abs=0.026))


def loglikelihoods(values):
    return Loglikelihoods(np.asarray(values), np.ones(len(values), dtype=np.int64))


def test_candidates_that_stop_early_change_no_number(cra, harness_home):
    corpus = open_corpus("demo", "test")
    corpus = replace(corpus, utterances=corpus.utterances[:5])
    examples = cra.examples(corpus, options_of(cra), limit=None, seed=0)
    oracle = OracleModel(((e.prompt["text"],), e.continuation["text"]) for e in examples[::2])
    full, early = (
        measure(cra, oracle, corpus, options_of(cra, directions=["t2t"], full_scores=full)) for full in (True, False)
    )
    assert set(full.metrics) - set(early.metrics) == {"cra.t2t.sum.candidate_ce", "cra.t2t.pmi.candidate_ce"}
    for key, metric in early.metrics.items():
        assert full.metrics[key].value == pytest.approx(metric.value, abs=1e-9)
