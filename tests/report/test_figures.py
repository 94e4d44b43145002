"""Figures of tasks, drawn: one run or several, on a page or as files."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from harness.figures import Bars, ConfusionMatrix, Curve, HeatMap, Scatter
from harness.report.figures import drawings, figures_of, write_figures
from harness.results import Metric
from harness.tasks.cra import TASK
from tests.runs import drawn, item, run


def html(drawing):
    return drawing.drawing.__html__()


def metric(value, **more):
    return Metric(value, 10, True, ci95=(value - 1, value + 1), **more)


MATRIX = HeatMap(name="m", title="transfer", keys={"train: a": {"test: b": "sa.a.b.f1", "test: c": "sa.a.c.f1"}})


def test_a_heat_map_shows_values_and_intervals_and_leaves_open_what_is_not_there():
    [found] = drawings({"one": ([MATRIX], {"sa.a.b.f1": metric(50.0, chance=33.3)})})
    assert (found.name, found.group, found.legend) == ("m", "transfer", False)
    assert "train: a, test: b: 50.0\n49.0 – 51.0" in html(found)
    assert html(found).count('class="empty"') == 0  # a column that no run has is left out
    assert found.caption == "one: value and 95 % interval; chance 33.3"


def test_runs_share_the_shades_of_a_heat_map():
    """Of two runs with 10 and 50, the first is the palest and the second the darkest."""
    found = drawings({label: ([MATRIX], {"sa.a.b.f1": metric(v)}) for label, v in (("a", 10.0), ("b", 50.0))})
    shades = [re.findall(r'<rect[^>]*fill="(#\w+)"', html(d)) for d in found]
    assert shades == [["#f7fbff"], ["#08306b"]]
    assert [d.drawing.title for d in found] == ["transfer of a", "transfer of b"]


def test_a_heat_map_of_metrics_that_nobody_has_is_left_out():
    assert drawings({"one": ([MATRIX], {})}) == []


def test_confusion_matrices_count_labels():
    """Neutral twice right, once taken for Positive; Positive right."""
    pairs = [("Neutral", "Neutral"), ("Neutral", "Neutral"), ("Neutral", "Positive"), ("Positive", "Positive")]
    counts = ConfusionMatrix.count(pairs)
    assert counts == {"Neutral": {"Neutral": 2, "Positive": 1}, "Positive": {"Neutral": 0, "Positive": 1}}
    [found] = drawings({"m": ([ConfusionMatrix(name="c", title="confusion", counts=counts)], {})})
    assert "gold: Neutral, output: Neutral: 2\n67%" in html(found)
    assert "gold: Neutral, output: Positive: 1\n33%" in html(found)
    assert "gold: Positive, output: Neutral: 0\n0%" in html(found)
    assert found.drawing.title == "confusion of m"


def test_bars_of_a_group_share_their_axis_and_runs_keep_their_color():
    def bars(name, **values):
        return Bars(name=name, title=name, group="ranks", x_label="rank", y_label="share", values=values)

    found = drawings({"a": ([bars("x", one=0.9)], {}), "b": ([bars("x", one=0.1, two=0.2), bars("y", one=0.3)], {})})
    assert [d.name for d in found] == ["x", "y"]
    for category, share in (("one", "0.900"), ("two", "0.000")):
        assert f"<title>a, {category}: {share}</title>" in html(found[0])
    assert "<title>b, two: 0.200</title>" in html(found[0])
    assert all('text-anchor="end">1</text>' in html(d) for d in found)
    assert re.findall(r'class="bar s1"><title>b, one: 0.300', html(found[1]))


def test_curves_of_runs_lie_in_one_drawing_with_the_level_of_chance():
    curve = Curve(
        name="r", title="R@k", x_label="k", y_label="R@k", points=[(1, 0.5), (2, 1)], chance=[(1, 0.5), (2, 1)]
    )
    [found] = drawings({label: ([curve], {}) for label in ("a", "b")})
    assert found.legend
    for title in ("a", "b", "chance"):
        assert f"<title>{title}</title>" in html(found)


def test_points_of_any_size_share_a_logarithmic_axis():
    points = {"u2t": (20.0, 10.0), "t2t": (10.0, 1000.0)}
    scatter = Scatter(name="s", title="PELM", x_label="VERT", y_label="PPL", points=points, y_log=True)
    [found] = drawings({"m": ([scatter], {})})
    assert "<title>m, t2t</title>" in html(found)
    assert {"10", "100", "1000"} <= set(re.findall(r'text-anchor="end">(\d+)</text>', html(found)))


def test_figures_of_another_kind_under_one_name_are_not_drawn_together():
    bars = Bars(name="m", title="t", x_label="x", y_label="y", values={"a": 1.0})
    found = drawings({"a": ([MATRIX], {"sa.a.b.f1": metric(1.0)}), "b": ([bars], {})})
    assert [d.drawing.title for d in found] == ["transfer of a"]


def test_a_task_that_is_not_here_or_has_another_version_draws_nothing():
    result = run("r", [item(0, "u2t", 1, n=10)]).tasks["cra"]
    assert figures_of(TASK, result)
    assert figures_of(None, result) == ()
    assert figures_of(TASK, replace(result, protocol={**result.protocol, "version": 99})) == ()


def test_files_are_whole_drawings_and_replace_earlier_ones(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_text("old")
    result = drawn("m", skill=0.5)
    write_figures(result, {"cra": TASK}, tmp_path)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    directions = ("u2t", "t2u")
    assert names == {"cra.r_at_1.svg", *(f"cra.{k}.pmi.{d}.svg" for k in ("r_at_k", "ranks") for d in directions)}
    for path in (tmp_path / "figures").iterdir():
        assert ET.fromstring(path.read_bytes()).get("role") == "img"


def test_a_run_of_tasks_without_figures_has_an_empty_folder(tmp_path):
    write_figures(drawn("m", skill=0.5), {}, tmp_path)
    assert list((tmp_path / "figures").iterdir()) == []


@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_every_figure_of_a_run_can_be_drawn(skill):
    result = drawn("m", skill=skill).tasks["cra"]
    figures = figures_of(TASK, result)
    assert len(drawings({"m": (figures, result.metrics)})) == len(figures) == 1 + 4 * 2 * 2
