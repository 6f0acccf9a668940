"""Reference lines of a figure: thin, dashed, with their labels outside the axes where no point hides them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.probes import Mark
from .svg import INK, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 9.0
_LETTER = 0.56 * SIZE  # width of a letter in points, on average
_ROW = 11.0
_WIDTH, _HEIGHT = 310.0, 180.0  # of the axes in points, about: the layout comes after the labels


def draw_marks(axes: Axes, marks: Sequence[Mark], *, lying: bool) -> None:
    """Draw the marks that lie within the axes; where no limit is set, the axes make room for all of them.

    Args:
        axes: with everything else drawn.
        marks: the reference lines.
        lying: whether the bars lie down, so that the values run from left to right.
    """
    scales = {"x": axes.get_xscale(), "y": axes.get_yscale()}
    shown = [mark for mark in marks if scales[mark.axis] == "linear" or mark.value > 0]
    for mark in shown:
        line = axes.axvline if _upright(mark, lying) else axes.axhline
        line(mark.value, color=INK, alpha=0.8, linewidth=0.9, linestyle=(0, (4, 2)), zorder=3)
    for upright in (True, False):
        ends = axes.get_xlim() if upright else axes.get_ylim()
        within = [mark for mark in shown if _upright(mark, lying) == upright and min(ends) <= mark.value <= max(ends)]
        _labels(axes, [mark for mark in within if mark.label], upright)


def _upright(mark: Mark, lying: bool) -> bool:
    return (mark.axis == "x") != lying


def _labels(axes: Axes, marks: Sequence[Mark], upright: bool) -> None:
    """Write each label at the end of its line, one row further out where it would run into its neighbour."""
    points, along = (_WIDTH, 0) if upright else (_HEIGHT, 1)
    to_axes = axes.transData + axes.transAxes.inverted()
    taken: list[float] = []
    placed = [(float(to_axes.transform(_point(axes, mark.value, upright))[along]), mark) for mark in marks]
    for place, mark in sorted(placed, key=lambda pair: pair[0]):
        label = short(mark.label)
        half = (len(label) + 1) / 2 * _LETTER
        row = next((i for i, end in enumerate(taken) if end <= points * place - half), len(taken))
        taken[row : row + 1] = [points * place + half]
        axes.annotate(
            label,
            (place, 1) if upright else (1, place),
            xycoords="axes fraction",
            xytext=(0, 3 + _ROW * row) if upright else (4 + _ROW * row, 0),
            textcoords="offset points",
            ha="center" if upright else "left",
            va="bottom" if upright else "center",
            rotation=0 if upright else 90,
            fontsize=SIZE,
            annotation_clip=False,
        )


def _point(axes: Axes, value: float, upright: bool) -> tuple[float, float]:
    return (value, axes.get_ylim()[0]) if upright else (axes.get_xlim()[0], value)
