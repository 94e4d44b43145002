"""Numbers on a colored grid."""

from dataclasses import replace

import pytest

from harness.report import heat_map as heat_map_module
from harness.report.heat_map import heat_map
from harness.results import Metric


def metric(value, **changes):
    return replace(Metric(value, n=200, higher_is_better=True, ci95=(0.4, 0.6), chance=0.005), **changes)


class TestHeatMap:
    def texts(self, cells):
        axes = heat_map("cra: R@1", cells).axes[0]
        return axes.get_title(), [text.get_text() for text in axes.texts]

    def test_title_names_the_chance_level(self):
        title, texts = self.texts({"speech": {"text": metric(0.44)}})
        assert title == "cra: R@1\nchance 0.005, n 200"
        assert texts == ["0.44\n0.4 – 0.6"]

    def test_unmeasured_cells_stay_empty_and_unequal_chances_are_a_range(self):
        cells = {"a": {"x": metric(0.5), "y": metric(0.5, chance=0.1)}, "b": {"y": metric(0.25, ci95=None)}, "c": {}}
        title, texts = self.texts(cells)
        assert title == "cra: R@1\nchance 0.005 – 0.1, n 200"
        assert texts == ["0.5\n0.4 – 0.6", "0.5\n0.4 – 0.6", "0.25"]

    @pytest.mark.parametrize(
        ("values", "chance", "expected"),
        [
            ([0.1, 1.0], 0.5, (0, 1)),
            ([29.3, 66.8], 33.3, (0, 100)),
            ([3.0, 4.0], None, (3, 4)),
            ([2.0], None, (1.5, 2.5)),
        ],
    )
    def test_colors_span_the_scale_of_the_metric(self, values, chance, expected):
        assert heat_map_module._color_range([metric(v, chance=chance) for v in values]) == expected
