"""Drawings: escaped, with round ticks, and colors that can be told apart."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from harness.report import svg


class TestDrawing:
    def test_text_in_a_drawing_is_escaped(self):
        drawn_ = svg.heat_map("a < b", {"<i>": {"<c>": (1.0, "<x>")}}, low=0, high=1).__html__()
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
        texts = re.findall(r"<text[^>]*>([^<]+)</text>", svg.heat_map("t", cells, low=0, high=1).__html__())
        assert (texts.count("gold"), texts.count("output"), "gold: c" in texts) == (1, 1, False)
        assert svg._axis(["train: a, test: b", "train: a, test: c"]).name == ""

    def test_a_lower_metric_is_darker_when_low(self):
        two = {"r": {"a": (0.0, "0"), "b": (1.0, "1")}}
        assert re.findall(r'fill="(#\w+)"', svg.heat_map("t", two, low=0, high=1).__html__()) == ["#f7fbff", "#08306b"]
        assert re.findall(r'fill="(#\w+)"', svg.heat_map("t", two, low=0, high=1, reverse=True).__html__()) == [
            "#08306b",
            "#f7fbff",
        ]

    def test_a_file_of_its_own_is_xml_with_title_caption_style_and_no_reference(self):
        drawn = svg.heat_map("R@1 <of> a", {"r": {"c": (0.5, "0.5")}}, low=0, high=1)
        text = drawn.standalone("chance & so on")
        root = ET.fromstring(text.encode())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.get("height")) > drawn.height
        words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
        assert words[:2] == ["R@1 <of> a", "chance & so on"]
        assert "--ink: #16202c" in root.find("{http://www.w3.org/2000/svg}style").text
        assert not re.search(r"url\(|@import|href", text)

    def test_titles_that_are_wider_than_the_drawing_widen_it(self):
        drawn = svg.heat_map("t", {"r": {"c": (0.5, "0.5")}}, low=0, high=1)
        root = ET.fromstring(drawn.standalone("x" * 100).encode())
        assert float(root.get("width")) >= 700 > drawn.width


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
        css = (Path(svg.__file__).parent / "templates" / "figure.css").read_text("utf-8")
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
        drawing = svg.heat_map("t", cells, low=0, high=9).__html__()
        shades, inks = re.findall(r'fill="(#\w+)"', drawing), re.findall(r'style="fill:(#\w+)"', drawing)
        assert len(set(shades)) == len(inks) == 9
        assert all(contrast(a, b) >= 4.5 for a, b in zip(shades, inks, strict=True))
