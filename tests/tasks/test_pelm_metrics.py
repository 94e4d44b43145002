"""Metrics of PELM on items small enough to be worked by hand."""

import math

import pytest

from harness.results import Item
from harness.tasks._pelm_metrics import Summary, values_of, vert_of


def row(name, text="a b c", *, alone=3.0, given=6.0, seed=0, temperature=0.8, self_bleu=0.0, auto_bleu=0.0, **more):
    """An item as judged and measured, of a speaker of its own; nats of its whole text."""
    nll = {"nll": {"alone": alone, "given_prompt": given}} if text else {}
    scores = {"num_words": len(text.split()), "self_bleu": self_bleu, "auto_bleu": auto_bleu, **nll, **more}
    kind = scores.pop("kind", "reference_text")
    extra = {"kind": kind, "seed": seed, "temperature": temperature}
    return Item(name, group=name, output=text, scores=scores, extra=extra)


def judged(*rows):
    summary = Summary("p", rows, seed=0)
    summary.judged()
    return {key.removeprefix("p."): metric for key, metric in summary.metrics.items()}


def test_perplexity_is_of_all_words_together_and_nll_of_each_text_alone():
    found = judged(row("x", "a b", alone=4.0, given=2.0), row("y", "a b c d", alone=2.0, given=8.0), row("z", ""))
    assert found["ppl_corpus"].value == pytest.approx(math.exp(6 / 6))
    assert found["given_prompt.ppl_corpus"].value == pytest.approx(math.exp(10 / 6))
    assert found["nll_mean"].value == pytest.approx((4 / 2 + 2 / 4) / 2)
    assert found["given_prompt.nll_mean"].value == pytest.approx((2 / 2 + 8 / 4) / 2)
    assert found["empty_share"].value == pytest.approx(1 / 3)
    assert (found["ppl_corpus"].n, found["nll_mean"].n, found["empty_share"].n) == (2, 2, 3)


def test_the_median_is_no_mean():
    rows = [row(str(i), "a b", alone=a) for i, a in enumerate((2.0, 4.0, 40.0))]
    assert judged(*rows)["nll_median"].value == 2.0


def test_vert_is_the_geometric_mean_of_what_repeats_among_and_within():
    rows = [row("x", self_bleu=40.0, auto_bleu=0.0), row("y", self_bleu=40.0, auto_bleu=20.0)]
    assert vert_of(rows) == pytest.approx(math.sqrt(40 * 10))
    assert judged(*rows)["vert"].value == pytest.approx(20.0)


def test_distinct_is_within_a_seed():
    """One continuation of each of two seeds: that they are the same is no repetition."""
    assert judged(row("x", "a b c"), row("y", "a b c", seed=1))["distinct_2"].value == 100.0
    assert judged(row("x", "a b c"), row("y", "a b c"))["distinct_2"].value == 50.0


def test_no_bound_of_an_error_rate_lies_below_zero():
    """Two speakers are too few to resample: the interval is by standard errors, which know no least value."""
    rows = [row("x", word_errors=0, reference_words=10), row("y", word_errors=1, reference_words=10)]
    summary = Summary("p", rows, seed=0)
    summary.error_rates()
    wer = summary.metrics["p.wer"]
    assert wer.value == pytest.approx(5.0)
    assert wer.ci95[0] == 0.0 < wer.value < wer.ci95[1]


def at_vert(verts, limit):
    """Of temperatures 1, 2, … with these VERT and 1, 2, … nats per word."""
    rows = [
        row(str(t), "a b", alone=2.0 * t, temperature=float(t), self_bleu=v, auto_bleu=v)
        for t, v in enumerate(verts, 1)
    ]
    summary = Summary("p", rows, seed=0)
    summary.at_vert(rows, limit)
    found = {key.removeprefix("p.at_reference_vert."): metric.value for key, metric in summary.metrics.items()}
    return found.get("ppl_corpus"), found["reached"]


@pytest.mark.parametrize(
    ("verts", "nats"),
    [
        ([30.0, 10.0, 0.0], 1.75),  # three quarters of the way from 30 down to the limit's 15
        ([12.0, 10.0, 0.0], 1.0),  # the lowest temperature is within it
        ([50.0, 40.0, 15.0], 3.0),  # the last one just is
        ([30.0, 40.0, 10.0], 2 + 25 / 30),
    ],
)
def test_perplexity_at_a_vert_is_interpolated_in_nats(verts, nats):
    assert at_vert(verts, 15.0) == (pytest.approx(math.exp(nats)), 1.0)


def test_a_vert_that_no_temperature_has_is_not_reached():
    assert at_vert([50.0, 40.0, 15.1], 15.0) == (None, 0.0)


def test_an_output_has_what_it_is_compared_with_and_copying_only_where_measured():
    more = {"kind": "output", "switched": True, "chrf": 12.0, "retrieved": 1.0, "copied_lcs": 50.0}
    assert values_of(row("x", "a b", alone=4.0, given=2.0, **more)) == {
        "empty_share": 0.0, "auto_bleu": 0.0, "self_bleu": 0.0, "nll_mean": 2.0, "given_prompt.nll_mean": 1.0,
        "switched_share": 1.0, "chrf": 12.0, "retrieval.r_at_1": 1.0, "copied_lcs": 50.0,
    }  # fmt: skip


def test_which_way_is_better():
    """Of some metrics neither way is: how often a model switches says nothing by itself."""
    more = {
        "kind": "output", "switched": False, "chrf": 12.0, "retrieved": 1.0, "copied_lcs": 50.0, "copied_2grams": 0.0,
        "bleu_counts": [2, 1, 0, 0, 4, 3, 2, 1, 4, 4], "word_errors": 1, "reference_words": 3,
    }  # fmt: skip
    summary = Summary("p", [row("x", **more), row("y", **more)], seed=0)
    summary.judged()
    summary.outputs(4)
    summary.at_vert(summary.rows, 0.0)
    higher = {key.removeprefix("p."): metric.higher_is_better for key, metric in summary.metrics.items()}
    assert {key for key, way in higher.items() if way is True} == {
        "distinct_2", "chrf", "bleu", "retrieval.r_at_1", "at_reference_vert.reached",
    }  # fmt: skip
    assert {key for key, way in higher.items() if way is None} == {"switched_share"}
    assert summary.metrics["p.retrieval.r_at_1"].chance == 0.25
