"""Figures of tasks as SVG: for pages, where runs share axes and shades, and as files of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.figures import Bars, ConfusionMatrix, Curve, Figure, HeatMap, Scatter
from harness.files import new_folder
from harness.report import svg, tables
from harness.results import Metric, RunResult, TaskResult
from harness.task import AnyTask, TaskFigures

F = TypeVar("F", HeatMap, ConfusionMatrix, Curve, Bars, Scatter)
#: Metrics by key, and figures, of one run.
_Metrics = Mapping[str, Metric]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, drawn.

    Attributes:
        name: the figure's name, unique within a task for each run.
        group: what it stands under.
        caption: how it is read.
        drawing: the figure.
        folded: whether its group is closed at first.
        legend: whether runs are told apart by color, so that a legend is needed.
    """

    name: str
    group: str
    caption: str
    drawing: svg.Svg
    folded: bool = False
    legend: bool = False


def figures_of(task: AnyTask | None, result: TaskResult) -> Sequence[Figure]:
    """What the task wants drawn of a run; nothing where it is not installed, or the run is of another version."""
    if not isinstance(task, TaskFigures) or result.protocol.get("version") != task.info.version:
        return ()
    return task.figures([item for item in result.items if item.failed is None], result.metrics)


def write_figures(result: RunResult, tasks: Mapping[str, AnyTask], folder: Path) -> None:
    """Writes `figures/<task>.<name>.svg` in a results folder, in place of earlier ones; folded figures are left out."""
    with new_folder(folder / "figures") as part:
        for name, task in result.tasks.items():
            shown = [figure for figure in figures_of(tasks.get(name), task) if not figure.folded]
            for drawn in drawings({str(result.model["name"]): (shown, task.metrics)}):
                path = part / f"{name}.{drawn.name}.svg"
                path.write_text(drawn.drawing.standalone(drawn.caption), "utf-8")


def drawings(runs: Mapping[str, tuple[Sequence[Figure], _Metrics]]) -> list[Drawing]:
    """The figures of runs, by label, with their metrics: figures of one name are drawn together.

    Heat maps and confusion matrices are drawn for each run, with the same shades; the others hold all runs.
    """
    by_name: dict[str, dict[str, Figure]] = {}
    for label, (figures, _) in runs.items():
        for figure in figures:
            by_name.setdefault(figure.name, {})[label] = figure
    metrics = {label: own for label, (_, own) in runs.items()}
    highest: dict[str, float] = {}
    for figure in (f for own in by_name.values() for f in own.values()):
        if isinstance(figure, Bars):
            highest[figure.heading] = max([highest.get(figure.heading, 0.0), *figure.values.values()])
    return [drawn for own in by_name.values() for drawn in _together(own, metrics, highest)]


def _together(
    figures: Mapping[str, Figure], metrics: Mapping[str, _Metrics], highest: Mapping[str, float]
) -> Iterator[Drawing]:
    """One figure of several runs, by label; series keep the run's color where a run lacks the figure."""
    first = next(iter(figures.values()))
    if isinstance(first, HeatMap):
        yield from _heat_maps(_alike(first, figures), metrics)
    elif isinstance(first, ConfusionMatrix):
        yield from _confusion_matrices(_alike(first, figures))
    elif isinstance(first, Curve):
        yield _drawing(first, _curves(first, _alike(first, figures), list(metrics)), legend=True)
    elif isinstance(first, Bars):
        yield _drawing(first, _bars(first, _alike(first, figures), list(metrics), highest), legend=True)
    else:
        yield _drawing(first, _scatter(first, _alike(first, figures), list(metrics)), legend=True)


def _alike(first: F, figures: Mapping[str, Figure]) -> dict[str, F]:
    """Those of the first one's kind."""
    return {label: figure for label, figure in figures.items() if isinstance(figure, type(first))}


def _drawing(figure: Figure, drawing: svg.Svg, *, legend: bool) -> Drawing:
    return Drawing(figure.name, figure.heading, figure.caption, drawing, figure.folded, legend)


def _heat_maps(figures: Mapping[str, HeatMap], metrics: Mapping[str, _Metrics]) -> Iterator[Drawing]:
    grids = {}
    for label, figure in figures.items():
        own = metrics[label]
        cells = {row: {c: own[k] for c, k in keys.items() if k in own} for row, keys in figure.keys.items()}
        if any(cells.values()):
            grids[label] = cells
    found = [m for cells in grids.values() for row in cells.values() for m in row.values()]
    if not found:
        return
    low, high = _shade_range(found)
    digits = tables.decimals(m.value for m in found)
    about = [*(["value and 95 % interval"] if any(m.ci95 for m in found) else [])]
    about += [f"chance {c}" for c in dict.fromkeys(tables.number(m.chance, digits) for m in found if m.chance)]
    reverse = found[0].higher_is_better is False
    for label, cells in grids.items():
        figure = figures[label]
        shown = {row: {c: (m.value, _label(m, digits)) for c, m in own.items()} for row, own in cells.items()}
        drawing = svg.heat_map(f"{figure.title} of {label}", shown, low=low, high=high, reverse=reverse)
        caption = "; ".join([*([figure.caption] if figure.caption else []), *about])
        yield Drawing(figure.name, figure.heading, _captioned(label, caption), drawing, figure.folded)


def _shade_range(metrics: Sequence[Metric]) -> tuple[float, float]:
    """0–1 for shares, 0–100 for per cents that have a level of chance, else from lowest to highest."""
    low, high = min(m.value for m in metrics), max(m.value for m in metrics)
    if metrics[0].chance is not None and low >= 0 and high <= 100:
        return 0.0, 1.0 if high <= 1 else 100.0
    return low, high


def _label(metric: Metric, digits: int) -> str:
    bounds = f"\n{' – '.join(tables.number(x, digits) for x in metric.ci95)}" if metric.ci95 else ""
    return f"{tables.number(metric.value, digits)}{bounds}"


def _captioned(label: str, caption: str) -> str:
    return f"{label}: {caption}" if caption else label


def _confusion_matrices(figures: Mapping[str, ConfusionMatrix]) -> Iterator[Drawing]:
    for label, figure in figures.items():
        cells = {f"gold: {gold}": _shares(row) for gold, row in figure.counts.items() if any(row.values())}
        if cells:
            drawing = svg.heat_map(f"{figure.title} of {label}", cells, low=0.0, high=1.0)
            caption = "; ".join([*([figure.caption] if figure.caption else []), "items and share of the row"])
            yield Drawing(figure.name, figure.heading, _captioned(label, caption), drawing, figure.folded)


def _shares(row: Mapping[str, int]) -> dict[str, tuple[float, str]]:
    total = sum(row.values())
    return {f"output: {output}": (n / total, f"{n}\n{n / total:.0%}") for output, n in row.items()}


def _curves(first: Curve, figures: Mapping[str, Curve], labels: Sequence[str]) -> svg.Svg:
    return svg.lines(
        first.title,
        [svg.Series(label, figures[label].points if label in figures else ()) for label in labels],
        x_label=first.x_label,
        y_label=first.y_label,
        x_log=first.x_log,
        y_range=first.y_range,
        rule=svg.Series("chance", first.chance) if first.chance else None,
    )


def _bars(first: Bars, figures: Mapping[str, Bars], labels: Sequence[str], highest: Mapping[str, float]) -> svg.Svg:
    categories = list(dict.fromkeys(c for figure in figures.values() for c in figure.values))
    values = {label: figures[label].values if label in figures else {} for label in labels}
    series = [(label, [own.get(c, 0.0) for c in categories]) for label, own in values.items()]
    return svg.bars(
        first.title, categories, series, x_label=first.x_label, y_label=first.y_label, y_high=highest[first.heading]
    )


def _scatter(first: Scatter, figures: Mapping[str, Scatter], labels: Sequence[str]) -> svg.Svg:
    series = []
    for label in labels:
        own = figures[label].points if label in figures else {}
        about = [f"{label}, {name}" for name in own]
        series.append(svg.Series(label, list(own.values()), about, list(own)))
    return svg.lines(
        first.title,
        series,
        points=True,
        x_label=first.x_label,
        y_label=first.y_label,
        y_log=first.y_log and all(y > 0 for one in series for _, y in one.points),
    )
