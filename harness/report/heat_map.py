"""Numbers with their intervals on a colored grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.results import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heat_map(title: str, cells: Mapping[str, Mapping[str, Metric]]) -> Figure:
    """Numbers with their intervals on a colored grid, the better the brighter; what was not measured stays gray.

    Args:
        title: the chance level and the number of items are added to it.
        cells: metrics by row and column.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    metrics = [metric for row in cells.values() for metric in row.values()]
    values = np.array([[row[c].value if c in row else np.nan for c in columns] for row in cells.values()])
    figure = Figure(figsize=(2.4 + 1.5 * len(columns), 1.6 + 0.9 * len(cells)), layout="constrained")
    axes = figure.add_subplot()
    colors = colormaps["viridis_r" if metrics[0].higher_is_better is False else "viridis"].with_extremes(bad="0.9")
    low, high = _color_range(metrics)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=low, vmax=high, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(cells)), list(cells))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("\n".join([title, _caption(metrics)]), fontsize="medium")
    for i, row in enumerate(cells.values()):
        for j, column in enumerate(columns):
            if column in row:
                red, green, blue, _ = colors((row[column].value - low) / (high - low))
                ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
                axes.text(j, i, _label(row[column]), ha="center", va="center", color=ink, fontsize="small")
    figure.colorbar(image, ax=axes)
    return figure


def _color_range(metrics: Sequence[Metric]) -> tuple[float, float]:
    """0–1 for shares, 0–100 for per cents that have a chance level, else from lowest to highest."""
    low, high = min(m.value for m in metrics), max(m.value for m in metrics)
    if metrics[0].chance is not None and low >= 0 and high <= 100:
        return 0.0, 1.0 if high <= 1 else 100.0
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _caption(metrics: Sequence[Metric]) -> str:
    chances, counts = {m.chance for m in metrics if m.chance is not None}, {m.n for m in metrics}
    words = [f"{word} {_range(values)}" for word, values in (("chance", chances), ("n", counts)) if values]
    return ", ".join(words)


def _range(values: set[float] | set[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} – {high:g}"


def _label(metric: Metric) -> str:
    ci95 = f"\n{metric.ci95[0]:.3g} – {metric.ci95[1]:.3g}" if metric.ci95 else ""
    return f"{metric.value:.3g}{ci95}"
