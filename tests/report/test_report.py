"""The report page: one file, no network, small, escaped, everything in it that runs have to say."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.errors import InputError
from harness.report import figures as svg
from harness.report.compare import compare
from harness.report.html import command, comparison_page, leaderboard_page, report_page
from harness.report.leaderboard import leaderboard
from harness.results import Item, Metric, RunResult, TaskResult
from harness.tasks.cra import TASK
from tests.runs import drawn, item, run, written

TASKS = {"cra": TASK}
HOSTILE = '</script><script>alert(1)</script> \u2028 & "quoted" <b>'
#: Elements without content.
VOID = {"meta", "link", "input", "br", "wbr"}


class Page(HTMLParser):
    """What a page holds, and whether every element that opens also closes."""

    def __init__(self, text):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self._script = False
        self.feed(text)
        assert self._open == []
        [data] = [t for t in self.scripts if t.startswith("{")] or [""]
        self.data = json.loads(data) if data else None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._script = tag == "script"
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self._script = False

    def handle_data(self, data):
        if self._script:
            self.scripts.append(data)


def unbroken(text):
    """Long keys may be broken, where they are shown."""
    return text.replace("<wbr>", "")


def page(results, output=Path("report.html"), folders=None, **more):
    labels = [r.model["name"] for r in results]
    return report_page(
        results, labels, tasks=TASKS, folders=folders or [Path("x")] * len(results), output=output, **more
    )


def other_task(metrics, items, name="other"):
    """A run of a task that is not registered here."""
    base = run("m", [item(0, "u2t", 1), item(1, "u2t", 2)])
    found = {k: Metric(v, 10, True, ci95=(v - 1, v + 1)) for k, v in metrics.items()}
    task = TaskResult(name, f"{name}|v1", found, len(items), len(items), 0, {"task": name}, items)
    return RunResult(base.run_id, base.model, base.corpus, {name: task}, base.protocol)


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

    def test_items_are_joined_by_id_and_shared_where_runs_agree(self, runs, text):
        task = Page(text).data["tasks"][0]
        assert (task["name"], task["total"], len(task["ids"])) == ("cra", 60, 60)
        columns = {c["name"]: c for c in task["columns"]}
        assert columns["prompt"]["shared"]
        assert not columns["output"]["shared"]
        assert task["roles"] == {"prompt": "prompt", "reference": "reference", "output": "output"}
        strings = Page(text).data["strings"]
        place = [strings[i] for i in task["ids"]].index("u2t/utt-0003")
        expected = next(i for i in runs[1].tasks["cra"].items if i.id == "u2t/utt-0003")
        assert columns["ranks.pmi.rank"]["values"][1][place] == expected.scores["ranks"]["pmi"]["rank"]
        assert strings[columns["output"]["values"][1][place]] == expected.output
        assert len(strings) == len(set(strings))

    def test_texts_cannot_leave_their_place(self):
        bad = run(HOSTILE, [item(0, "u2t", 1, prompt=HOSTILE, note=HOSTILE), item(1, "u2t", 2)])
        found = Page(page([bad]))
        assert found.tags.count("script") == 2
        assert "b" not in found.tags
        assert HOSTILE in found.data["strings"]
        assert found.data["runs"] == [HOSTILE]

    def test_items_of_one_run_and_failed_ones_are_told(self, runs):
        items = list(runs[0].tasks["cra"].items)
        items[0] = replace(items[0], output=None, scores={}, failed="too long")
        found = Page(page([run("one", items)])).data
        columns = {c["name"]: c for c in found["tasks"][0]["columns"]}
        assert found["strings"][columns["failed"]["values"][0]] == "too long"
        assert columns["failed"]["values"][1] is None
        assert columns["ranks.pmi.rank"]["values"][0] is None

    def test_four_models_with_two_thousand_items_stay_below_two_megabytes(self):
        many = [drawn(f"model-{k}", skill=0.2 * k, num=1000, draw=k) for k in range(4)]
        whole = page(many)
        assert len(whole.encode()) < 2_000_000
        assert len(Page(whole).data["tasks"][0]["ids"]) == 2000

    def test_what_does_not_fit_is_sampled_evenly_and_said(self):
        long = [item(n, d, 1 + n % 5, prompt=f"{d} {n} " + "word " * 300) for d in ("u2t", "t2u") for n in range(700)]
        whole = page([run("wordy", long)])
        assert len(whole.encode()) < 2_000_000
        task = Page(whole).data["tasks"][0]
        assert task["total"] == 1400
        assert 700 < len(task["ids"]) < 1400
        directions = next(c for c in task["columns"] if c["name"] == "direction")["values"]
        counts = sorted(directions.count(d) for d in set(directions))
        assert counts[1] - counts[0] <= 2

    def test_other_protocols_are_refused_or_marked(self, runs):
        mixed = [runs[0], drawn("other", skill=0.5, seed=1)]
        with pytest.raises(InputError, match=r"cra\.seed is 1, not 0"):
            page(mixed)
        assert "other †" in page(mixed, force=True)

    def test_too_many_runs_cannot_be_told_apart(self, runs):
        with pytest.raises(InputError, match="tells 8 runs apart; found 9"):
            page([runs[0]] * 9)

    def test_the_same_runs_give_the_same_bytes(self, runs, text):
        assert page(runs) == text


class TestAudio:
    @pytest.fixture
    def heard(self, tmp_path):
        """A run whose items name audio of the corpus."""
        (tmp_path / "corpus" / "wav").mkdir(parents=True)
        soundfile.write(tmp_path / "corpus" / "wav" / "a b.wav", np.zeros(800, np.float32), 16_000)
        items = [item(0, "u2t", 1, audio="wav/a b.wav"), item(1, "u2t", 2, audio="wav/gone.wav")]
        made = run("heard", items)
        made.protocol["corpus"]["root"] = str(tmp_path / "corpus")
        return made

    def audio(self, text):
        data = Page(text).data
        column = next(c for c in data["tasks"][0]["columns"] if c["name"] == "audio")
        return [None if v is None else data["strings"][v] for v in column["values"]]

    def test_it_is_linked_relative_to_the_page(self, heard, tmp_path):
        (tmp_path / "out").mkdir()
        text = page([heard], tmp_path / "out" / "report.html")
        assert self.audio(text) == ["../corpus/wav/a%20b.wav", None]

    def test_it_can_be_embedded_or_left_out(self, heard, tmp_path):
        first, absent = self.audio(page([heard], tmp_path / "report.html", audio="embed"))
        assert first.startswith("data:audio/")
        assert len(first) > 1000  # 800 samples of 16 bits, in base64, whole
        assert absent is None
        assert self.audio(page([heard], tmp_path / "report.html", audio="none")) == [None, None]

    def test_generated_audio_lies_in_the_results_folder(self, heard, tmp_path):
        folder = written(heard, tmp_path / "run")
        (folder / "wav").mkdir()
        soundfile.write(folder / "wav" / "gone.wav", np.zeros(800, np.float32), 16_000)
        text = page([heard], tmp_path / "report.html", folders=[folder])
        assert self.audio(text) == ["corpus/wav/a%20b.wav", "run/wav/gone.wav"]


class TestFigures:
    def test_transfer_matrices_are_found_by_their_keys(self):
        metrics = {f"sa.train_{a}.test_{b}.macro_f1": 50.0 for a in ("text", "speech") for b in ("text", "speech")}
        text = report_page([other_task(metrics, [])], ["m"], tasks={}, folders=[Path("x")], output=Path("r.html"))
        assert "transfer: macro_f1" in text
        assert "train: speech, test: text: 50.0" in text

    def test_confusion_matrices_count_labels(self):
        """Neutral twice right, once taken for Positive; Positive right."""
        pairs = [("Neutral", "Neutral"), ("Neutral", "Neutral"), ("Neutral", "Positive"), ("Positive", "Positive")]
        items = [Item(str(n), reference=g, output=p, extra={"train_on": "text"}) for n, (g, p) in enumerate(pairs)]
        text = report_page(
            [other_task({"sa.a.b": 1.0}, items)], ["m"], tasks={}, folders=[Path("x")], output=Path("r.html")
        )
        assert "gold: Neutral, output: Neutral: 2\n67%" in text
        assert "gold: Neutral, output: Positive: 1\n33%" in text
        assert "gold: Positive, output: Neutral: 0\n0%" in text
        assert "confusion of m, train_on text" in text

    def test_perplexity_is_drawn_against_repetition(self):
        metrics = {
            "pelm.u2t.vert": 20.0,
            "pelm.u2t.ppl_corpus": 90.0,
            "pelm.t2t.vert": 10.0,
            "pelm.t2t.ppl_corpus": 50.0,
        }
        text = report_page([other_task(metrics, [])], ["m"], tasks={}, folders=[Path("x")], output=Path("r.html"))
        assert "PELM against VERT" in text
        assert "<title>m, pelm.t2t</title>" in text

    def test_bars_are_shares_of_ranks(self):
        """Ranks 1, 1, 2 and 7 of 10: half in 1, a quarter in 2, none in 3–5, a quarter in 6–10."""
        text = page([run("r", [item(n, "u2t", rank, n=10) for n, rank in enumerate((1, 1, 2, 7))])])
        for category, share in (("1", "0.500"), ("2", "0.250"), ("3–5", "0.000"), ("6–10", "0.250")):
            assert f"<title>r, {category}: {share}</title>" in text

    def test_text_in_a_drawing_is_escaped(self):
        drawn_ = svg.heat_map("a < b", {"<i>": {"<c>": (1.0, "<x>")}}, low=0, high=1)
        assert "<i>" not in drawn_
        assert "&lt;i&gt;" in drawn_

    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 0.037), (-3.0, 12.0), (40.0, 41.0), (1e-9, 2e-9)])
    def test_ticks_are_round_and_inside(self, low, high):
        ticks = svg._ticks(low, high)
        assert 2 <= len(ticks) <= 7
        assert all(low - 1e-9 <= t <= high + 1e-9 for t in ticks)

    @pytest.mark.parametrize(("high", "end"), [(0.55, 0.6), (0.6, 0.6), (1.0, 1.0), (0.037, 0.04), (7.2, 8.0)])
    def test_bars_end_at_a_tick(self, high, end):
        assert svg._round_up(high) == end

    def test_what_all_rows_or_columns_say_is_written_once(self):
        cells = {f"gold: {g}": {f"output: {o}": (1.0, "1") for o in "ab"} for g in "cd"}
        texts = re.findall(r"<text[^>]*>([^<]+)</text>", svg.heat_map("t", cells, low=0, high=1))
        assert (texts.count("gold"), texts.count("output"), "gold: c" in texts) == (1, 1, False)
        assert svg._axis(["train: a, test: b", "train: a, test: c"]).name == ""

    def test_runs_share_the_shades_of_a_figure(self):
        """Of two runs with 10 and 50, the first is the palest and the second the darkest."""
        runs_ = [other_task({"sa.train_a.test_b.f1": v}, [], name="sa") for v in (10.0, 50.0)]
        text = report_page(runs_, ["a", "b"], tasks={}, folders=[Path("x")] * 2, output=Path("r.html"))
        shades = re.findall(r'<title>train: a, test: b: [^<]*</title><rect[^>]*fill="(#\w+)"', text)
        assert shades == ["#f7fbff", "#08306b"]

    def test_perplexities_of_any_size_share_a_logarithmic_axis(self):
        metrics = {
            "pelm.u2t.vert": 20.0,
            "pelm.u2t.ppl_corpus": 10.0,
            "pelm.t2t.vert": 10.0,
            "pelm.t2t.ppl_corpus": 1000.0,
        }
        text = report_page([other_task(metrics, [])], ["m"], tasks={}, folders=[Path("x")], output=Path("r.html"))
        ticks = re.findall(r'text-anchor="end">(\d+)</text>', text)
        assert {"10", "100", "1000"} <= set(ticks)

    def test_a_lower_metric_is_darker_when_low(self):
        two = {"r": {"a": (0.0, "0"), "b": (1.0, "1")}}
        assert re.findall(r'fill="(#\w+)"', svg.heat_map("t", two, low=0, high=1)) == ["#f7fbff", "#08306b"]
        assert re.findall(r'fill="(#\w+)"', svg.heat_map("t", two, low=0, high=1, reverse=True)) == [
            "#08306b",
            "#f7fbff",
        ]


#: What eyes without red or green cones make of linear RGB: Machado, Oliveira & Fernandes 2009, severity 1.
COLOR_VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
#: From linear sRGB to CIE XYZ (IEC 61966-2-1), over the white of D65.
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color):
    """`#rrggbb` in proportion to light."""
    parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(light):
    x, y, z = np.cbrt(np.maximum(XYZ @ np.clip(light, 0, 1) / XYZ.sum(axis=1), 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def luminance(color):
    """WCAG 2.2: relative luminance of `#rrggbb`."""
    return float(XYZ[1] @ linear(color))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


class TestContrast:
    def themes(self):
        css = (Path(svg.__file__).parent / "templates" / "page.css").read_text("utf-8")
        blocks = re.findall(r":root \{([^}]*)\}", css)[:2]
        return [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in blocks]

    def test_black_on_white_by_hand(self):
        assert contrast("#000000", "#ffffff") == pytest.approx(21.0)

    def test_text_can_be_read_and_lines_be_seen_in_both_themes(self):
        light, dark = self.themes()
        for colors in (light, dark):
            for ink in ("ink", "soft", "link"):
                assert contrast(colors[ink], colors["ground"]) >= 4.5
                assert contrast(colors[ink], colors["raised"]) >= 4.5
            assert contrast(colors["ink"], colors["mark"]) >= 4.5
            for n in range(svg.NUM_SERIES):
                assert contrast(colors[f"s{n}"], colors["ground"]) >= 3

    def test_series_are_told_apart_by_those_who_see_no_red_or_no_green(self):
        """CIE76 distances in Lab: 2.3 is just noticeable, 20 is plain."""
        for colors in self.themes():
            for seen in COLOR_VISION.values():
                points = [lab(seen @ linear(colors[f"s{n}"])) for n in range(svg.NUM_SERIES)]
                distances = [np.linalg.norm(a - b) for i, a in enumerate(points) for b in points[:i]]
                assert min(distances) >= 20

    def test_numbers_can_be_read_on_every_shade(self):
        cells = {"r": {str(n): (float(n), f"value {n}") for n in range(9)}}
        drawing = str(svg.heat_map("t", cells, low=0, high=9))
        shades, inks = re.findall(r'fill="(#\w+)"', drawing), re.findall(r'style="fill:(#\w+)"', drawing)
        assert len(set(shades)) == len(inks) == 9
        assert all(contrast(a, b) >= 4.5 for a, b in zip(shades, inks, strict=True))


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
