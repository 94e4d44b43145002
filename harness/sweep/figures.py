"""Figures of a sweep: response surfaces on the faces of the simplex, trade-offs, cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.sweep.analysis import Analysis, Optimum, mixtures_of
from harness.sweep.simplex import Floats, lattice
from harness.sweep.trial import TrialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Corners of a triangle: left, right, top.
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_STEPS = 24
_COLORS = 12
#: A part whose share is below this lies on the face without it.
_ON_FACE = 0.06


def surface_figure(analysis: Analysis, optimum: Optimum) -> Figure:
    """The fitted surface of one metric and its standard deviation, on every face of the simplex.

    Circles are trials on the face, colored by their value; the star is the best mixture, shown on the faces it lies
    on; the dashed line bounds the mixtures that are not worse with 95 % confidence. Two parts make a line, three one
    face, four make four faces.
    """
    names = analysis.plan.spec.names
    if len(names) == 2:
        return _line_figure(analysis, optimum)
    faces = _faces(len(names))
    figure = _figure(2.7 * len(faces) + 1.2, 5.2)
    axes = np.array(figure.subplots(2, len(faces), squeeze=False))
    panels = [_panel(analysis, optimum, face) for face in faces]
    levels = _levels([p[1] for p in panels]), _levels([p[2] for p in panels])
    for column, (face, (points, values, deviation, worse)) in enumerate(zip(faces, panels, strict=True)):
        xy = points[:, face] @ _CORNERS
        top, bottom = axes[0, column], axes[1, column]
        shown = _fill(top, xy, values, levels[0], "viridis")
        if (worse > 0).any() and (worse < 0).any():
            top.tricontour(*xy.T, worse, levels=[0], colors="white", linestyles="dashed", linewidths=1.2)
        _scatter(top, analysis, optimum, face, shown.norm)
        spread = _fill(bottom, xy, deviation, levels[1], "magma")
        for axis in (top, bottom):
            _triangle(axis, [names[i] for i in face])
        left_out = [n for i, n in enumerate(names) if i not in face]
        top.set_title(f"without {left_out[0]}" if left_out else "all parts", fontsize=9, pad=2)
    better = "higher" if optimum.higher else "lower"
    for filled, row, label in (
        (shown, axes[0], f"{optimum.key}\n({better} is better)"),
        (spread, axes[1], "its standard deviation"),
    ):
        bar = figure.colorbar(filled, ax=list(row), shrink=0.85, format="%.3g", ticks=_ticks(filled.levels))
        bar.set_label(label, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(f"{optimum.key}: {optimum.surface.name}", fontsize=10)
    return figure


def _faces(k: int) -> list[list[int]]:
    return [[i for i in range(k) if i != out] for out in range(k)] if k > 3 else [list(range(k))]


def _panel(analysis: Analysis, optimum: Optimum, face: Sequence[int]) -> tuple[Floats, Floats, Floats, Floats]:
    """Points of a face, the metric there, its deviation, and whether it is worse than the best beyond doubt (> 0)."""
    k = len(analysis.plan.spec.names)
    points = np.zeros(((_STEPS + 1) * (_STEPS + 2) // 2, k))
    points[:, list(face)] = lattice(3, _STEPS)
    together = np.vstack([points, [optimum.mixture]])
    mean, covariance = optimum.surface.predict(together)
    variance = np.clip(np.diag(covariance), 0, None)
    to_best = np.sqrt(np.clip(variance + variance[-1] - 2 * covariance[:, -1], 0, None))
    worse = (mean - mean[-1]) - 1.645 * to_best
    deviation = np.sqrt(variance[:-1]) * optimum.scale.slope(mean[:-1])
    return points, optimum.values(mean[:-1]), deviation, worse[:-1]


def _levels(arrays: Sequence[Floats]) -> Floats:
    """Bounds of colors, each of which takes about as much area as the next: one bad corner does not hide all the rest.

    Bounds nearer than 1 % of the range are one, so that a flat surface does not look rugged.
    """
    values = np.concatenate(arrays)
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return low + np.linspace(-0.5, 0.5, _COLORS + 1)
    levels = [low]
    for level in [*np.quantile(values, np.linspace(0, 1, _COLORS + 1))[1:-1], high]:
        if level - levels[-1] >= 0.01 * (high - low):
            levels.append(float(level))
    return np.array([*levels[:-1], high])


def _ticks(levels: Floats) -> Floats:
    return np.asarray(levels[np.unique(np.linspace(0, len(levels) - 1, 5).round().astype(int))])


def _fill(axis: Axes, xy: Floats, values: Floats, levels: Floats, colors: str) -> Any:
    from matplotlib.colors import BoundaryNorm

    norm = BoundaryNorm(levels, 256, extend="both")
    return axis.tricontourf(xy[:, 0], xy[:, 1], values, levels=levels, cmap=colors, norm=norm, extend="both")


def _scatter(axis: Axes, analysis: Analysis, optimum: Optimum, face: Sequence[int], norm: Any) -> None:
    swept = analysis.swept()
    mixtures = analysis.mixtures(swept)
    values = np.array([o.metrics[optimum.key].value for o in swept])
    on = mixtures[:, list(face)].sum(axis=1) > 1 - _ON_FACE
    xy = _project(mixtures[on], face)
    style: dict[str, Any] = {"cmap": "viridis", "edgecolors": "black", "linewidths": 0.7, "clip_on": False}
    axis.scatter(xy[:, 0], xy[:, 1], s=28, c=values[on], norm=norm, zorder=3, **style)
    best = np.array([optimum.mixture])
    if best[0, list(face)].sum() > 1 - _ON_FACE:
        ((x, y),) = _project(best, face)
        axis.scatter(x, y, marker="*", s=170, c="red", edgecolors="white", zorder=4, clip_on=False)


def _project(mixtures: Floats, face: Sequence[int]) -> Floats:
    shares = mixtures[:, list(face)]
    return np.asarray(shares / shares.sum(axis=1, keepdims=True) @ _CORNERS)


def _triangle(axis: Axes, names: Sequence[str]) -> None:
    axis.plot(*np.vstack([_CORNERS, _CORNERS[:1]]).T, color="black", linewidth=0.8)
    for (x, y), name, side in zip(_CORNERS, names, ("top", "top", "bottom"), strict=True):
        axis.text(x, y + (0.03 if side == "bottom" else -0.03), name, ha="center", va=side, fontsize=8)
    axis.set(aspect="equal", xlim=(-0.1, 1.1), ylim=(-0.1, 0.96))
    axis.axis("off")


def _line_figure(analysis: Analysis, optimum: Optimum) -> Figure:
    names = analysis.plan.spec.names
    share = np.linspace(0, 1, 101)
    points = np.column_stack([share, 1 - share])
    mean, covariance = optimum.surface.predict(points)
    far = 1.96 * np.sqrt(np.clip(np.diag(covariance), 0, None))
    figure = _figure(6, 4)
    axis = figure.subplots()
    axis.fill_between(share, optimum.values(mean - far), optimum.values(mean + far), alpha=0.25)
    axis.plot(share, optimum.values(mean))
    swept = analysis.swept()
    axis.scatter(
        analysis.mixtures(swept)[:, 0], [o.metrics[optimum.key].value for o in swept], c="black", s=20, zorder=3
    )
    axis.axvline(optimum.mixture[0], color="red", linestyle="dashed")
    axis.set(xlabel=f"share of {names[0]} (the rest is {names[1]})", ylabel=optimum.key)
    return figure


def pareto_figure(analysis: Analysis) -> Figure:
    """All pairs of objectives; trials on the Pareto front of all objectives are filled."""
    from matplotlib.ticker import FixedLocator, StrMethodFormatter

    keys = analysis.plan.spec.objectives
    pairs = [(a, b) for i, a in enumerate(keys) for b in keys[i + 1 :]]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = _figure(3.6 * columns, 3.2 * rows)
    axes = np.array(figure.subplots(rows, columns, squeeze=False)).ravel()
    swept = analysis.swept()
    front = np.array([o.spec.number in analysis.pareto for o in swept])
    for axis, (a, b) in zip(axes, pairs, strict=False):
        x, y = (np.array([o.metrics[key].value for o in swept]) for key in (a, b))
        axis.scatter(x[~front], y[~front], facecolors="none", edgecolors="gray", s=24)
        axis.scatter(x[front], y[front], color="tab:red", s=24)
        uniform = np.abs(analysis.mixtures(swept) - analysis.plan.spec.uniform).max(axis=1) < 1e-6
        axis.scatter(x[uniform], y[uniform], marker="s", facecolors="none", edgecolors="tab:blue", s=70)
        axis.set_xlabel(a, fontsize=8)
        axis.set_ylabel(b, fontsize=8)
        axis.tick_params(labelsize=7)
        # On the plain scale the worst trials would compress all others into a corner.
        axis.set_xscale("function", functions=_stretched(analysis.optima[a]))
        axis.set_yscale("function", functions=_stretched(analysis.optima[b]))
        for side, values in ((axis.xaxis, x), (axis.yaxis, y)):
            side.set_major_locator(FixedLocator(list(np.quantile(values, [0, 0.5, 0.9, 1]))))
            side.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    for axis in axes[len(pairs) :]:
        axis.axis("off")
    figure.suptitle("Pareto front in red; uniform mixture in squares", fontsize=9)
    return figure


def _stretched(optimum: Optimum) -> tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]:
    """From a metric's values to the scale of its surface, as an axis that does not run backwards, and back."""
    sign = -1.0 if optimum.higher else 1.0
    return (
        lambda values: sign * optimum.scale.scaled(sign * values),
        lambda scaled: sign * optimum.scale.losses(sign * scaled),
    )


def cost_figure(analysis: Analysis) -> Figure:
    """Best value so far of each objective against tokens, FLOPs and seconds, on its surface's scale from 0 to 1."""
    figure = _figure(9, 3)
    swept = sorted(analysis.swept(), key=lambda o: o.spec.number)
    costs = {
        "tokens trained on": [float(o.tokens) for o in swept],
        "training FLOPs": [o.flops for o in swept],
        "seconds of training and evaluation": [o.train_s + o.evaluate_s for o in swept],
    }
    axes = figure.subplots(1, len(costs), sharey=True)
    for axis, (label, each) in zip(axes, costs.items(), strict=True):
        for key in analysis.plan.spec.objectives:
            sign = -1.0 if analysis.plan.higher(key) else 1.0
            losses = sign * np.array([o.metrics[key].value for o in swept])
            losses = analysis.optima[key].scale.scaled(losses)
            spread = float(np.ptp(losses)) or 1.0
            axis.step(np.cumsum(each), (np.minimum.accumulate(losses) - losses.min()) / spread, where="post", label=key)
        axis.set(xlabel=label, xlim=(0, None), ylim=(-0.03, 1.03))
    axes[0].set_ylabel("distance to the best trial,\nscaled (1: the worst one)")
    axes[-1].legend(fontsize=7)
    return figure


def shares_figure(results: Sequence[TrialResult], analysis: Analysis) -> Figure:
    """Requested against realized token shares of every trial and part."""
    names = analysis.plan.spec.names
    figure = _figure(4, 3.6)
    axis = figure.subplots()
    mixtures = mixtures_of(analysis.plan, results)
    for i, name in enumerate(names):
        realized = [o.realized.get(name, {}).get("token_share", 0.0) for o in results]
        axis.scatter(mixtures[:, i], realized, s=14, label=name)
    axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axis.set(xlabel=f"requested share ({analysis.plan.spec.ratio_unit})", ylabel="realized share of tokens")
    axis.legend(fontsize=7)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
