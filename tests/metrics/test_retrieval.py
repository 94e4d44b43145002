"""Ranks, their tie credit against every order of the ties, scores and chance levels."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from scipy.stats import rankdata

from harness.errors import InputError
from harness.metrics.retrieval import (
    Ranks,
    chance_cross_entropy,
    chance_rank,
    chance_recall_at,
    chance_reciprocal_rank,
    gold_cross_entropy,
    median_rank,
    normalize,
    rank_of_gold,
)

#: Few distinct values, so that ties are common.
ROWS = st.lists(st.integers(-3, 0), min_size=1, max_size=6).flatmap(
    lambda row: st.tuples(st.just([float(x) for x in row]), st.integers(0, len(row) - 1))
)


def every_order(scores, gold):
    """The rank of the gold in every ordering of the candidates that agrees with their scores: slow, obvious."""
    orders = itertools.permutations(range(len(scores)))
    agreeing = [o for o in orders if all(scores[i] >= scores[j] for i, j in itertools.pairwise(o))]
    return [order.index(gold) + 1 for order in agreeing]


def test_the_best_candidate_has_rank_one():
    """The gold (−1) beats −2 and −3: rank 1, R@1 = 1, 1/rank = 1."""
    ranks = rank_of_gold([-2.0, -1.0, -3.0], 1)
    assert ranks == Ranks(better=0, tied=1, num_candidates=3)
    assert (ranks.recall_at(1), ranks.recall_at(5), ranks.reciprocal, ranks.mid) == (1, 1, 1, 1)


def test_the_worst_candidate_is_last():
    """The gold (−9) is fourth of four: R@3 = 0, R@4 = 1, 1/rank = 1/4."""
    ranks = rank_of_gold([-2.0, -1.0, -3.0, -9.0], 3)
    assert (ranks.recall_at(3), ranks.recall_at(4), ranks.reciprocal, ranks.mid) == (0, 1, 0.25, 4)


def test_ties_share_the_credit():
    """One candidate is better, the gold ties with two others: ranks 2, 3, 4 with probability 1/3 each.

    R@1 = 0, R@2 = 1/3, R@3 = 2/3, R@4 = 1; expected 1/rank = (1/2 + 1/3 + 1/4) / 3 = 13/36; expected rank = 3.
    """
    ranks = rank_of_gold([-1.0, -2.0, -2.0, -2.0, -5.0], 2)
    assert (ranks.better, ranks.tied) == (1, 3)
    assert [ranks.recall_at(k) for k in (1, 2, 3, 4, 5)] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert ranks.reciprocal == pytest.approx(13 / 36)
    assert ranks.mid == 3


@given(ROWS)
def test_tie_credit_is_the_mean_over_every_order(case):
    scores, gold = case
    ranks, places = rank_of_gold(scores, gold), every_order(scores, gold)
    for k in range(1, len(scores) + 2):
        assert ranks.recall_at(k) == pytest.approx(np.mean([place <= k for place in places]))
    assert ranks.reciprocal == pytest.approx(np.mean([1 / place for place in places]))
    assert ranks.mid == pytest.approx(np.mean(places))


@given(ROWS)
def test_mid_rank_is_that_of_scipy(case):
    scores, gold = case
    assert rank_of_gold(scores, gold).mid == rankdata([-x for x in scores])[gold]


@given(ROWS, st.randoms(use_true_random=False))
def test_order_of_candidates_changes_nothing(case, random):
    scores, gold = case
    order = list(range(len(scores)))
    random.shuffle(order)
    shuffled = [scores[i] for i in order]
    assert rank_of_gold(shuffled, order.index(gold)) == rank_of_gold(scores, gold)
    assert gold_cross_entropy(shuffled, order.index(gold)) == pytest.approx(gold_cross_entropy(scores, gold))


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_equal_scores_are_at_chance(n):
    ranks = rank_of_gold(np.full(n, -3.5), n // 2)
    for k in (1, 5, 10):
        assert ranks.recall_at(k) == pytest.approx(chance_recall_at(k, n))
    assert ranks.reciprocal == pytest.approx(chance_reciprocal_rank(n))
    assert ranks.mid == chance_rank(n)
    assert gold_cross_entropy(np.full(n, -3.5), n // 2) == pytest.approx(chance_cross_entropy(n))


def test_chance_of_four_candidates():
    """R@1 = 1/4; H_4 / 4 = (1 + 1/2 + 1/3 + 1/4) / 4 = 25/48; (4 + 1) / 2 = 2.5; R@5 cannot exceed 1; log 4."""
    assert chance_recall_at(1, 4) == 0.25
    assert chance_recall_at(5, 4) == 1
    assert chance_reciprocal_rank(4) == pytest.approx(25 / 48)
    assert chance_rank(4) == 2.5
    assert chance_cross_entropy(4) == math.log(4)


def test_random_scores_are_at_chance():
    """20 candidates, 4,000 random rows: each mean within five of its standard errors (at most 0.5 / √4000)."""
    scores = np.random.default_rng(0).normal(size=(4000, 20))
    ranks = [rank_of_gold(row, i % 20) for i, row in enumerate(scores)]
    error = 5 * 0.5 / math.sqrt(4000)
    assert np.mean([r.recall_at(5) for r in ranks]) == pytest.approx(0.25, abs=error)
    assert np.mean([r.reciprocal for r in ranks]) == pytest.approx(chance_reciprocal_rank(20), abs=error)
    assert median_rank(ranks) == pytest.approx(10.5, abs=1)


def test_median_rank():
    """Ranks 1, 2 and 7: the median is 2. With a fourth, 3: (2 + 3) / 2 = 2.5."""
    ranks = [Ranks(0, 1, 9), Ranks(1, 1, 9), Ranks(6, 1, 9)]
    assert median_rank(ranks) == 2
    assert median_rank([*ranks, Ranks(2, 1, 9)]) == 2.5


def test_tolerance_makes_ties_of_rounding_only():
    """The first score is 1e-7 above the gold's: better exactly, tied within 1e-6. The last, 1e-3 below, never ties."""
    scores = [-1.0 + 1e-7, -1.0, -1.001]
    assert rank_of_gold(scores, 1) == Ranks(1, 1, 3)
    assert rank_of_gold(scores, 1, tolerance=1e-6) == Ranks(0, 2, 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_an_error(bad):
    with pytest.raises(InputError, match=r"finite number; found .* at \[1\], 1 such"):
        rank_of_gold([-1.0, bad, -2.0], 0)
    with pytest.raises(InputError, match="finite number"):
        gold_cross_entropy([-1.0, bad], 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank_of_gold([], 0), "vector of ≥ 1 scores"),
        (lambda: rank_of_gold([[1.0, 2.0]], 0), r"shape \(1, 2\)"),
        (lambda: rank_of_gold([-1.0, -2.0], 2), "index 2, but there are 2 candidates"),
        (lambda: rank_of_gold([-1.0, -2.0], -1), "index -1"),
        (lambda: rank_of_gold([-1.0], 0, tolerance=math.nan), "tolerance of ties"),
        (lambda: rank_of_gold([-1.0], 0).recall_at(0), "k ≥ 1; found 0"),
        (lambda: Ranks(better=0, tied=0, num_candidates=1), "ties with itself"),
        (lambda: Ranks(better=3, tied=2, num_candidates=4), "better = 3, tied = 2, num_candidates = 4"),
        (lambda: median_rank([]), "no items"),
        (lambda: chance_recall_at(1, 0), "≥ 1 candidate; found 0"),
        (lambda: chance_reciprocal_rank(0), "≥ 1 candidate"),
        (lambda: chance_rank(0), "≥ 1 candidate"),
        (lambda: chance_cross_entropy(0), "≥ 1 candidate"),
    ],
)
def test_nothing_to_rank_is_an_error(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_cross_entropy_of_two_candidates():
    """Log-likelihoods log 0.3 (gold) and log 0.1: the gold's share is 0.3 / 0.4 = 3/4, −log 3/4 = 0.2877 nats."""
    assert gold_cross_entropy([math.log(0.3), math.log(0.1)], 0) == pytest.approx(math.log(4 / 3))


def test_a_single_candidate_leaves_no_doubt():
    assert gold_cross_entropy([-7.0], 0) == 0.0


@given(ROWS, st.sampled_from([1.0, 100.0, 1e5]))
def test_cross_entropy_is_that_of_scipy(case, scale):
    scores, gold = case
    row = np.array(scores) * scale
    assert gold_cross_entropy(row, gold) == pytest.approx(-log_softmax(row)[gold], abs=1e-12)


def test_the_four_scores():
    """Candidates of −6 and −8 nats, 3 and 2 tokens, 2 s and 4 s, −5 and −12 nats without the prompt.

    Per token −6/3 = −2 and −8/2 = −4; per second −6/2 = −3 and −8/4 = −2; PMI −6 + 5 = −1 and −8 + 12 = 4.
    """
    loglik = [-6.0, -8.0]
    given_all: dict[str, Any] = {"num_tokens": [3, 2], "extent": [2.0, 4.0], "prior": [-5.0, -12.0]}
    assert normalize(loglik, "sum", **given_all).tolist() == [-6, -8]
    assert normalize(loglik, "token_norm", **given_all).tolist() == [-2, -4]
    assert normalize(loglik, "extent_norm", **given_all).tolist() == [-3, -2]
    assert normalize(loglik, "pmi", **given_all).tolist() == [-1, 4]


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**16))
def test_a_matrix_is_its_rows(num_prompts, num_candidates, seed):
    draw = np.random.default_rng(seed)
    loglik, prior = -draw.exponential(size=(num_prompts, num_candidates)), -draw.exponential(size=num_candidates)
    tokens, extent = draw.integers(1, 9, num_candidates), draw.exponential(size=num_candidates) + 0.1
    for score in ("sum", "token_norm", "extent_norm", "pmi"):
        whole = normalize(loglik, score, num_tokens=tokens, extent=extent, prior=prior)
        for i, j in np.ndindex(loglik.shape):
            slow = {
                "sum": loglik[i, j],
                "token_norm": loglik[i, j] / int(tokens[j]),
                "extent_norm": loglik[i, j] / extent[j],
                "pmi": loglik[i, j] - prior[j],
            }
            assert whole[i, j] == slow[score]


def test_a_prompt_that_says_nothing_has_no_pmi():
    """Likelihoods that do not depend on the prompt tie all candidates, whatever their priors: chance."""
    prior = np.array([-3.0, -1.0, -20.0])
    assert rank_of_gold(normalize(prior, "pmi", prior=prior), 2).recall_at(1) == pytest.approx(1 / 3)


def test_the_input_is_left_alone():
    loglik = np.array([-1.0, -2.0])
    normalize(loglik, "sum")[0] = 5
    assert loglik.tolist() == [-1, -2]


@pytest.mark.parametrize(
    ("score", "given", "message"),
    [
        ("token_norm", {}, "'token_norm' needs `num_tokens`"),
        ("extent_norm", {}, "'extent_norm' needs `extent`"),
        ("pmi", {"num_tokens": [1, 1]}, "'pmi' needs `prior`"),
        ("token_norm", {"num_tokens": [3, 0]}, "must be > 0; found 0.0 for candidate 1. An empty continuation"),
        ("extent_norm", {"extent": [0.0, 1.0]}, "`extent` must be > 0"),
        ("extent_norm", {"extent": [1.0, math.nan]}, "Every extent must be a finite number"),
        ("token_norm", {"num_tokens": [3]}, r"shape \(1,\); 2 candidates"),
        ("pmi", {"prior": [[-1.0, -2.0]]}, r"shape \(1, 2\); 2 candidates"),
        ("pmi", {"prior": [5.0, -1.0]}, "found 5.0. Did you supply the nll"),
        ("pmi", {"prior": [-math.inf, -1.0]}, "Every prior must be a finite number"),
        ("mean", {}, "no score 'mean'. Known: sum, token_norm, extent_norm, pmi"),
    ],
)
def test_what_a_score_needs(score, given, message):
    with pytest.raises(InputError, match=message):
        normalize([-6.0, -8.0], score, **given)


def test_log_likelihoods_are_not_positive():
    with pytest.raises(InputError, match="Did you supply the nll"):
        normalize([6.0, 8.0], "sum")
    with pytest.raises(InputError, match="Every log-likelihood must be a finite number"):
        normalize([-math.inf, -8.0], "sum")
    with pytest.raises(InputError, match="found a single number"):
        normalize(-6.0, "sum")
    assert normalize([1e-6], "sum").tolist() == [1e-6]  # rounding of a sure continuation
