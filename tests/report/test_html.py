"""The report page: one file, no network, small, escaped, everything in it that runs have to say."""

import re
from dataclasses import replace

import pytest

from harness.errors import InputError
from harness.report.compare import compare
from harness.report.html import command, comparison_page, leaderboard_page
from harness.report.leaderboard import leaderboard
from tests.report.pages import TASKS, Page, page, unbroken
from tests.runs import drawn


@pytest.fixture(scope="module")
def runs():
    return [drawn(name, skill=skill) for name, skill in (("bad", 0.1), ("good", 0.9))]


@pytest.fixture(scope="module")
def text(runs):
    return page(runs)


class TestReport:
    def test_nothing_is_fetched(self, text):
        found = Page(text)
        links = [v for _, name, v in found.attributes if name in ("src", "href", "action", "data")]
        assert all(v.startswith(("#", "data:")) for v in links)
        assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", text)

    def test_it_shows_numbers_figures_items_protocol_and_command(self, runs, text):
        found = Page(text)
        for id_ in ("summary", "figures-cra", "items", "protocol", "reproduce"):
            assert ("section", "id", id_) in found.attributes
        assert "cra.u2t.pmi.r_at_1" in unbroken(text)
        assert "<strong>" in text
        assert runs[0].tasks["cra"].signature in text
        assert "harness run --model good --tasks cra --seed 0" in text
        assert "corrected by Holm&#39;s method over the table&#39;s" in text

    def test_figures_have_names_and_captions(self, text):
        found = Page(text)
        figures = found.tags.count("figure")
        # Two heat maps (one a run); R@k and ranks for 4 scores x 2 directions.
        assert figures == found.tags.count("figcaption") == 2 + 4 * 2 * 2
        named = [v for tag, name, v in found.attributes if (tag, name) == ("svg", "aria-label")]
        assert len(named) == figures == len(set(named))

    def test_other_protocols_are_refused_or_marked(self, runs):
        mixed = [runs[0], drawn("other", skill=0.5, seed=1)]
        with pytest.raises(InputError, match=r"cra\.seed is 1, not 0"):
            page(mixed)
        assert "other †" in page(mixed, force=True)

    def test_too_many_runs_cannot_be_told_apart(self, runs):
        with pytest.raises(InputError, match="has colors for 8 runs; found 9"):
            page([runs[0]] * 9)

    def test_the_same_runs_give_the_same_bytes(self, runs, text):
        assert page(runs) == text


class TestOtherPages:
    def test_a_comparison_is_a_page(self, runs):
        text = comparison_page(compare(runs, ("bad", "good"), tasks=TASKS, num_resamples=50))
        assert Page(text).tags.count("table") == 1
        assert "cra.t2u.sum.r_at_1" in unbroken(text)

    def test_a_leaderboard_is_a_page(self, runs):
        text = leaderboard_page(leaderboard([(r, 1.0) for r in runs], tasks=TASKS), "sutlm")
        assert "Leaderboard of sutlm" in text
        assert text.index(">good<") > 0
        Page(text)

    def test_the_command_asks_the_same_again(self, runs):
        asked = {
            "tasks": ["cra"],
            "corpus": None,
            "split": "test",
            "limit": 20,
            "seed": 3,
            "settings": {"cra": {"n": 5, "directions": ["u2t"]}},
        }
        one = replace(runs[0], protocol={**runs[0].protocol, "run": asked})
        assert command(one) == (
            "harness run --model bad --tasks cra --split test --limit 20 --seed 3 --set cra.n=5 --set "
            "'cra.directions=[\"u2t\"]'"
        )
