"""Figures as data: what a task wants drawn of a run, without drawing it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import OptionError

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    """What every figure says of itself.

    Attributes:
        name: unique within the task; letters, digits, `_`, `.` and `-`, for file names.
        title: what it shows; unique within the task.
        group: figures of one group stand together under this heading; empty: the figure stands under its title.
        caption: how it is read, in a few words.
        folded: whether its group is closed at first where pages can fold; such figures are left out of trackers.
    """

    name: str
    title: str
    group: str = ""
    caption: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OptionError(f"A figure's name holds letters, digits, '_', '.' and '-'; found {self.name!r}.")

    @property
    def heading(self) -> str:
        """What it stands under."""
        return self.group or self.title


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap(_Described):
    """Metrics on a colored grid, with their intervals.

    Attributes:
        keys: metric keys by row and column; a key that a run lacks leaves its cell empty. What all rows or all columns
            say before a colon, `train: text`, is written once.
    """

    keys: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionMatrix(_Described):
    """How often each label was taken for each other.

    Attributes:
        counts: items by right label and output; labels of either are drawn in the order in which they occur here.
    """

    counts: Mapping[str, Mapping[str, int]]

    @staticmethod
    def count(pairs: Iterable[tuple[str, str]], labels: Sequence[str] = ()) -> dict[str, dict[str, int]]:
        """The counts of pairs of right label and output, for `counts`.

        Args:
            pairs: of every item.
            labels: those that come first, in this order; the others follow in alphabetical order.
        """
        found = list(pairs)
        others = sorted({label for pair in found for label in pair} - set(labels))
        order = [*labels, *others]
        counts = {gold: dict.fromkeys(order, 0) for gold in order}
        for gold, output in found:
            counts[gold][output] += 1
        return {gold: row for gold, row in counts.items() if any(row.values())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve(_Described):
    """A line of a run; runs side by side share its axes.

    Attributes:
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        points: (x, y), x ascending.
        chance: the same without any ability; empty: nothing is drawn.
        x_log: whether the horizontal axis is logarithmic (x > 0).
        y_range: ends of the vertical axis; None: as the points need.
    """

    x_label: str
    y_label: str
    points: Sequence[tuple[float, float]]
    chance: Sequence[tuple[float, float]] = ()
    x_log: bool = False
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars(_Described):
    """A bar for each category; runs side by side share the axes, and so do the figures of a group.

    Attributes:
        x_label: of the categories.
        y_label: of the values.
        values: by category, ≥ 0.
    """

    x_label: str
    y_label: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter(_Described):
    """Named points; runs side by side share the axes.

    Attributes:
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        points: (x, y) by name.
        y_log: whether the vertical axis is logarithmic where every y is above 0.
    """

    x_label: str
    y_label: str
    points: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    y_log: bool = False


Figure = HeatMap | ConfusionMatrix | Curve | Bars | Scatter
