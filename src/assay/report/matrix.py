"""Matrices: a table with shaded cells, each with its number and its interval, readable without the shades."""

from __future__ import annotations

import itertools
import math
import textwrap
from typing import TYPE_CHECKING, Any

from ..core.probes import Column, Figure, Series
from . import words
from .svg import INK, clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADE = "#2681c4"
FAINTEST, STRONGEST = 0.04, 0.5  # opacities: text in the ink of the page stands out on both, in light and dark
GROUP = " · "
_CELL, _ROW, _NAMES = 1.3, 0.5, 2.1  # inches
_ROOM = 0.55  # of a row, for the heading of a group
_LETTERS, _WIDE = 24, 18
_BETTER = {"higher": "higher is better", "lower": "lower is better", "none": ""}


def draw_matrix(axes: Axes, figure: Figure) -> None:
    """Rows in the order of the series, columns in that of ``figure.columns``; rows of one group stand together.

    A group is what stands before the first `` · `` of a label, such as the name of an encoder; it is its rows' heading.
    """
    columns, rows, places = all_columns(figure), figure.series, row_places(figure)
    for across, column in enumerate(columns):
        ends = column.limits or shade_ends(figure, column.name)
        for down, series in zip(places, rows, strict=True):
            value, text, interval = cell(series, column)
            _frame(axes, across, down, opacity(value, ends, column.direction))
            _numbers(axes, across, down, text, interval)
    for index, down in enumerate(places):
        if starts_group(figure, index):
            heading = _wrapped(group(rows[index].label), _LETTERS + 17 * len(columns), lines=1)
            _left(axes, heading, (0, down - 0.5), ("axes fraction", "data"), fontweight="bold")
    _left(axes, _wrapped(figure.y_label, _LETTERS), (0, 1), "axes fraction")
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(max(places, default=0) + 0.5, -0.5))
    heads = [[_wrapped(line, 16, lines=3) for line in _heading(column)] for column in columns]
    axes.set_xticks(range(len(columns)), ["\n".join(lines) for lines in heads])
    labels = [series.label.partition(GROUP)[2] or series.label for series in rows]
    axes.set_yticks(places, [_wrapped(label, _LETTERS) for label in labels])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(_wrapped(figure.x_label, 17 * max(2, len(columns)), lines=1), labelpad=8)
    axes.spines[["left", "bottom"]].set_visible(False)


def matrix_size(figure: Figure) -> tuple[float, float]:
    """Inches across and down."""
    down = max(row_places(figure), default=0.0) + 1
    return max(5.2, _NAMES + 0.3 + _CELL * len(all_columns(figure))), 1.35 + _ROW * down


def row_places(figure: Figure) -> list[float]:
    """Where the rows stand, in rows from the top: the first row of a group leaves room for its heading."""
    headings = itertools.accumulate(starts_group(figure, index) for index in range(len(figure.series)))
    return [index + _ROOM * above for index, above in enumerate(headings)]


def starts_group(figure: Figure, index: int) -> bool:
    """Whether a row has a heading above it."""
    own = group(figure.series[index].label)
    return bool(own) and (index == 0 or own != group(figure.series[index - 1].label))


def all_columns(figure: Figure) -> tuple[Column, ...]:
    """The columns of a matrix: those that are described, then others as plain numbers."""
    described = {column.name for column in figure.columns}
    names = dict.fromkeys(words.category(x) for series in figure.series for x in series.x)
    return (*figure.columns, *(Column(name=name) for name in names if name not in described))


def shade_ends(figure: Figure, name: str) -> tuple[float, float] | None:
    """The least and the largest finite value of a column, or ``None`` where there is none."""
    pairs = [(words.category(x), y) for series in figure.series for x, y in zip(series.x, series.y, strict=True)]
    values = [y for x, y in pairs if x == name and math.isfinite(y)]
    return (min(values), max(values)) if values else None


def opacity(value: float, ends: tuple[float, float] | None, direction: str) -> float:
    """How strongly a cell is shaded: the more the better, or the larger where no direction is better.

    >>> [round(opacity(value, (1.0, 3.0), "lower"), 2) for value in (1.0, 2.0, 3.0, float("nan"))]
    [0.5, 0.27, 0.04, 0.0]
    """
    if ends is None or not math.isfinite(value):
        return 0.0
    low, high = ends
    place = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5
    return FAINTEST + (STRONGEST - FAINTEST) * (1 - place if direction == "lower" else place)


def group(label: str) -> str:
    """The part of a row's label that it shares with its neighbours.

    >>> group("resnet-micro · embedding"), group("clean")
    ('resnet-micro', '')
    """
    before, found, _ = label.partition(GROUP)
    return before if found else ""


def note(figure: Figure) -> str:
    """What the shades say, as a sentence for below the drawing."""
    directed = {column.direction != "none" for column in all_columns(figure)}
    if directed == {True}:
        return "The more strongly a cell is shaded, the better it is within its column."
    if directed == {False}:
        return "The more strongly a cell is shaded, the larger its number is within its column."
    return "The more strongly a cell is shaded, the better it is within its column, or the larger if nothing is better."


def cell(series: Series, column: Column) -> tuple[float, str, str]:
    """The value of a row in a column, it and its interval as text; NaN and a dash where there is none."""
    at = next((i for i, x in enumerate(series.x) if words.category(x) == column.name), None)
    value = math.nan if at is None else series.y[at]
    lo, hi = (None if at is None or side is None else side[at] for side in (series.lo, series.hi))
    text = words.number(value, column.unit if column.unit == "share" else "")
    return value, text, words.ends(lo, hi, column.unit)


def cells(figure: Figure) -> list[list[str]]:
    """The matrix as text: a row of headings, then a row a series; intervals stand in brackets."""
    columns = all_columns(figure)
    result = [[figure.y_label, *(", ".join(_heading(column)) for column in columns)]]
    for series in figure.series:
        found = [cell(series, column)[1:] for column in columns]
        result.append([series.label, *(text if ends == words.DASH else f"{text} ({ends})" for text, ends in found)])
    return result


def _frame(axes: Axes, across: int, down: float, shade: float) -> None:
    from matplotlib.patches import Rectangle

    corner = (across - 0.48, down - 0.46)
    axes.add_patch(Rectangle(corner, 0.96, 0.92, facecolor=SHADE, alpha=shade, linewidth=0))
    axes.add_patch(Rectangle(corner, 0.96, 0.92, fill=False, edgecolor=INK, alpha=0.35, linewidth=0.6))


def _numbers(axes: Axes, across: int, down: float, text: str, interval: str) -> None:
    both = interval != words.DASH
    axes.text(across, down - (0.15 if both else 0), text, fontsize=12, fontweight="bold", ha="center", va="center")
    if both:
        size = 8.5 if len(interval) < _WIDE else 7.0
        axes.text(across, down + 0.21, interval, fontsize=size, ha="center", va="center")


def _left(axes: Axes, text: str, place: tuple[float, float], coordinates: Any, **look: Any) -> None:
    """Text at the left edge of the drawing, above the names of rows."""
    offset: Any = {"xytext": (-72 * _NAMES, 3), "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(text, place, xycoords=coordinates, va="bottom", **offset, **look)


def _heading(column: Column) -> list[str]:
    """Name with unit, and which way is better."""
    unit = "" if column.unit in ("", "share") else f" ({words.UNITS.get(column.unit, column.unit)})"
    return [column.name + unit, *filter(None, [_BETTER[column.direction]])]


def _wrapped(label: str, letters: int, lines: int = 2) -> str:
    """A label on a few lines; the table beside keeps the whole text."""
    return "\n".join(textwrap.wrap(clean(label), letters, max_lines=lines, placeholder="…"))
