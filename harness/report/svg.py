"""Drawing SVG: no library, the colors of a style sheet, every mark named for those who cannot see it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

#: Series are told apart by color, dash and marker; the page's style sheet gives `s0` … `s7` their colors.
NUM_SERIES = 8
#: From pale to dark blue, each with the ink that can be read on it (contrast above 4.5 : 1).
_SHADES = ("#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")
_DARK_FROM = 6
_DARK_INK, _LIGHT_INK = "#111111", "#ffffff"


@dataclass(frozen=True, slots=True)
class Svg:
    """A drawing.

    Attributes:
        title: what it shows, for screen readers.
        width: in pixels.
        height: in pixels.
        parts: SVG elements.
    """

    title: str
    width: float
    height: float
    parts: Sequence[Markup]

    def __html__(self) -> str:
        """The element for a page that has the style sheet `figure.css`."""
        return self._element('width="{:g}"', self.width)

    def standalone(self, caption: str = "") -> str:
        """A file of its own, with its style, and its title and caption above the drawing."""
        lines = [line for line in (self.title, caption) if line]
        width = max([self.width, *(16 + 7 * len(line) for line in lines)])
        top = 12 + 18 * len(lines)
        words = [_text(8, 18 * (n + 1), line, "start") for n, line in enumerate(lines)]
        ground = Markup('<rect width="{:g}" height="{:g}" class="ground"/>').format(width, top + self.height)
        inner = Markup('<g transform="translate(0 {:g})">{}</g>').format(top, Markup("").join(self.parts))
        style = Markup("<style>{}</style>").format(Markup(style_sheet()))
        whole = Svg(self.title, width, top + self.height, [style, ground, *words, inner])
        size = whole._element('width="{:g}" height="{:g}"', whole.width, whole.height)
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{size}\n'

    def _element(self, size: str, *numbers: float) -> Markup:
        head = Markup('<svg viewBox="0 0 {:g} {:g}" ').format(self.width, self.height)
        head += Markup(size).format(*numbers)
        rest = Markup(' role="img" aria-label="{}" xmlns="http://www.w3.org/2000/svg">{}</svg>')
        return head + rest.format(self.title, Markup("").join(self.parts))


@functools.cache
def style_sheet() -> str:
    """The rules and colors of all drawings."""
    return (Path(__file__).parent / "templates" / "figure.css").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Series:
    """A named line, or points, `(x, y)`; `about` is the full name of each point, `beside` is written next to it."""

    name: str
    points: Sequence[tuple[float, float]]
    about: Sequence[str] = ()
    beside: Sequence[str] = ()


def heat_map(
    title: str,
    cells: Mapping[str, Mapping[str, tuple[float, str]]],
    *,
    low: float,
    high: float,
    reverse: bool = False,
) -> Svg:
    """A grid of numbers, the higher the darker.

    Args:
        title: what it shows, for screen readers.
        cells: by row and column, the number and what is written, up to two lines; what all rows or all columns say
            before a colon, `gold: …`, is written once.
        low: number of the palest shade.
        high: number of the darkest.
        reverse: the lower the darker.
    """
    columns = list(dict.fromkeys(c for row in cells.values() for c in row))
    down, across = _axis(list(cells)), _axis(columns)
    left = 12 + 7 * max(map(len, [down.name, *down.values]))
    width, height, top = max(96, 8 + 7 * max(map(len, across.values), default=0)), 46, 26 + (18 if across.name else 0)
    parts = [_text(left + (j + 0.5) * width, top - 9, c, "middle") for j, c in enumerate(across.values)]
    parts += [_text(left - 8, top - 9, down.name, "end", kind="axis-name")] if down.name else []
    parts += (
        [_text(left + len(columns) * width / 2, 13, across.name, "middle", kind="axis-name")] if across.name else []
    )
    for i, (name, row) in enumerate(cells.items()):
        y = top + i * height
        parts.append(_text(left - 8, y + height / 2 + 4, down.values[i], "end"))
        for j, column in enumerate(columns):
            x = left + j * width
            if column not in row:
                parts.append(
                    Markup('<rect x="{}" y="{}" width="{}" height="{}" class="empty"/>').format(
                        x, y, width - 2, height - 2
                    )
                )
                continue
            value, label = row[column]
            share = (value - low) / (high - low) if high > low else 0.5
            shade = min(len(_SHADES) - 1, max(0, int((1 - share if reverse else share) * len(_SHADES))))
            ink = _LIGHT_INK if shade >= _DARK_FROM else _DARK_INK
            parts.append(
                Markup('<g><title>{}</title><rect x="{}" y="{}" width="{}" height="{}" fill="{}"/></g>').format(
                    f"{name}, {column}: {label}", x, y, width - 2, height - 2, _SHADES[shade]
                )
            )
            lines = label.split("\n")
            for k, line in enumerate(lines):
                at = y + height / 2 + 4 + 14 * (k - (len(lines) - 1) / 2)
                parts.append(_text(x + width / 2 - 1, at, line, "middle", fill=ink, kind="small" if k else ""))
    return Svg(title, left + width * len(columns) + 4, top + height * len(cells) + 4, parts)


@dataclass(frozen=True, slots=True)
class _Axis:
    name: str
    values: Sequence[str]


def _axis(names: Sequence[str]) -> _Axis:
    """What all `names` say before their only colon, once, and what they say after it."""
    parts = [name.split(": ") for name in names]
    if len({p[0] for p in parts}) == 1 and all(len(p) == 2 for p in parts):
        return _Axis(parts[0][0], [p[1] for p in parts])
    return _Axis("", names)


def lines(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_log: bool = False,
    y_log: bool = False,
    y_range: tuple[float, float] | None = None,
    points: bool = False,
    rule: Series | None = None,
) -> Svg:
    """Lines over a common pair of axes, or, with `points`, a scatter plot.

    Args:
        title: what it shows, for screen readers.
        series: at most `NUM_SERIES` of them.
        x_label: of the horizontal axis.
        y_label: of the vertical one.
        x_log: a logarithmic horizontal axis (x > 0).
        y_log: a logarithmic vertical axis (y > 0).
        y_range: ends of the vertical axis; None: as the points need.
        points: marks without lines.
        rule: a thin line without a legend's color, such as the level of chance.
    """
    drawn = [*series, *([rule] if rule else [])]
    xs = [x for s in drawn for x, _ in s.points] or [0.0, 1.0]
    ys = [y for s in drawn for _, y in s.points] or [0.0, 1.0]
    x_low, x_high = _span(min(xs), max(xs), pad=0.06 if points else 0.0, log=x_log)
    y_low, y_high = y_range or _span(min(ys), max(ys), pad=0.06, log=y_log)
    width, height, left, top, bottom = 460, 250, 58, 12, 44

    def at(x: float, y: float) -> tuple[float, float]:
        u, v = _share(x, x_low, x_high, log=x_log), _share(y, y_low, y_high, log=y_log)
        return round(left + u * (width - left - 12), 1), round(height - bottom - v * (height - bottom - top), 1)

    parts: list[Markup] = []
    for tick in _log_ticks(y_low, y_high) if y_log else _ticks(y_low, y_high):
        _, y = at(x_low, tick)
        parts.append(Markup('<line x1="{}" x2="{}" y1="{}" y2="{}" class="grid"/>').format(left, width - 12, y, y))
        parts.append(_text(left - 6, y + 4, f"{tick:g}", "end"))
    for tick in _log_ticks(x_low, x_high) if x_log else _ticks(x_low, x_high):
        x, _ = at(tick, y_low)
        parts.append(_text(x, height - bottom + 16, f"{tick:g}", "middle"))
    parts.append(Markup('<path d="M{} {}V{}H{}" class="axis"/>').format(left, top, height - bottom, width - 12))
    parts.append(_text((left + width - 12) / 2, height - 8, x_label, "middle"))
    parts.append(_upright(y_label, (height - bottom + top) / 2))
    if rule:
        path = "L".join(f"{x} {y}" for x, y in (at(*p) for p in rule.points))
        parts.append(Markup('<path d="M{}" class="rule"><title>{}</title></path>').format(path, rule.name))
    for n, one in enumerate(series):
        placed = [at(*p) for p in one.points]
        if points:
            titles = one.about or [one.name] * len(placed)
            parts += [
                Markup('<g class="m{} s{}"><title>{}</title>{}</g>').format(n % 4, n, what, _marker(n, x, y))
                for (x, y), what in zip(placed, titles, strict=True)
            ]
            parts += [_text(x + 9, y + 4, what, "start") for (x, y), what in zip(placed, one.beside, strict=False)]
        elif placed:
            path = "L".join(f"{x} {y}" for x, y in placed)
            parts.append(
                Markup('<path d="M{}" class="line s{} d{}"><title>{}</title></path>').format(path, n, n % 4, one.name)
            )
    return Svg(title, width, height, parts)


def bars(
    title: str,
    categories: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    y_high: float,
) -> Svg:
    """Groups of bars, one for each category, a bar in it for each series; the axis ends at a tick above `y_high`."""
    width, height, left, top, bottom = 460, 250, 58, 12, 44
    y_high = _round_up(max(y_high, 1e-9))
    scale = (height - bottom - top) / y_high
    parts: list[Markup] = []
    for tick in _ticks(0.0, y_high):
        y = round(height - bottom - tick * scale, 1)
        parts.append(Markup('<line x1="{}" x2="{}" y1="{}" y2="{}" class="grid"/>').format(left, width - 12, y, y))
        parts.append(_text(left - 6, y + 4, f"{tick:g}", "end"))
    group = (width - 12 - left) / max(len(categories), 1)
    for j, category in enumerate(categories):
        parts.append(_text(left + (j + 0.5) * group, height - bottom + 16, category, "middle"))
        bar = 0.8 * group / max(len(series), 1)
        for n, (name, values) in enumerate(series):
            tall, x = values[j] * scale, left + j * group + 0.1 * group + n * bar
            box = Markup('x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"').format(
                x, height - bottom - tall, max(bar - 1, 0.5), tall
            )
            about = f"{name}, {category}: {values[j]:.3f}"
            parts.append(Markup('<rect {} class="bar s{}"><title>{}</title></rect>').format(box, n, about))
    parts.append(Markup('<path d="M{} {}V{}H{}" class="axis"/>').format(left, top, height - bottom, width - 12))
    parts.append(_text((left + width - 12) / 2, height - 8, x_label, "middle"))
    parts.append(_upright(y_label, (height - bottom + top) / 2))
    return Svg(title, width, height, parts)


def legend(names: Sequence[str]) -> Markup:
    """Names of series with their colors, dashes and markers, as an HTML list."""
    keys = []
    for n, name in enumerate(names):
        line = Markup('<path d="M1 8H31" class="line s{} d{}"/>').format(n, n % 4)
        mark = Markup('<g class="m{} s{}">{}</g>').format(n % 4, n, _marker(n, 16, 8))
        drawn = Markup('<svg width="32" height="16" aria-hidden="true" focusable="false">{}{}</svg>').format(line, mark)
        keys.append(Markup("<li>{} {}</li>").format(drawn, name))
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(keys))


def _marker(n: int, x: float, y: float) -> Markup:
    if n % 4 == 0:
        return Markup('<circle cx="{}" cy="{}" r="5"/>').format(x, y)
    if n % 4 == 1:
        return Markup('<rect x="{}" y="{}" width="9" height="9"/>').format(x - 4.5, y - 4.5)
    if n % 4 == 2:
        return Markup('<path d="M{} {}l6 10h-12z"/>').format(x, y - 6)
    return Markup('<path d="M{} {}l6 6l-6 6l-6 -6z"/>').format(x, y - 6)


def _upright(text: str, middle: float) -> Markup:
    return Markup('<text x="14" y="{}" text-anchor="middle" transform="rotate(-90 14 {})">{}</text>').format(
        middle, middle, text
    )


def _text(x: float, y: float, text: str, anchor: str, *, fill: str = "", kind: str = "") -> Markup:
    extra = Markup(' style="fill:{}"').format(fill) if fill else Markup("")
    named = Markup(' class="{}"').format(kind) if kind else Markup("")
    return Markup('<text x="{:g}" y="{:g}" text-anchor="{}"{}{}>{}</text>').format(x, y, anchor, named, extra, text)


def _span(low: float, high: float, *, pad: float, log: bool = False) -> tuple[float, float]:
    if log:
        return (low * (low / high) ** pad, high * (high / low) ** pad) if high > low else (low / 2, low * 2)
    if high <= low:
        return low - 0.5, high + 0.5
    return low - pad * (high - low), high + pad * (high - low)


def _share(value: float, low: float, high: float, *, log: bool) -> float:
    """Where between `low` and `high` a value lies, from 0 to 1."""
    return math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)


def _round_up(high: float) -> float:
    """The first tick that is not below `high`, on an axis from 0."""
    step = _step(high)
    return round(math.ceil(high / step - 1e-9) * step, 10)


def _step(span: float) -> float:
    """Between ticks, of which `span` has about five: 1, 2 or 5 times a power of ten."""
    step = 10.0 ** math.floor(math.log10(span / 5))
    return float(step * next(m for m in (1, 2, 5, 10) if m * step >= span / 5))


def _ticks(low: float, high: float) -> list[float]:
    step = _step(high - low)
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 5)]
    return [t for t in ticks if low * 0.999 <= t <= high * 1.001]
