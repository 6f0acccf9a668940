"""Drawing the figures of a run: data in, SVG text out, the same bytes every time.

One drawing serves paper, light and dark: ink is ``currentColor``, nothing is
filled behind it, and every series has its own colour (readable to colour-blind
eyes on white and on near-black), marker and line style or hatch, so that black
and white is enough. Past five series the colours come again with other shapes.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..core.probes import Figure, Series
from .marks import draw_marks
from .matrix import draw_matrix, matrix_size
from .svg import INK, clean, inline, short
from .words import category

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

COLOURS = ("#2681c4", "#c96a00", "#0f9a70", "#b45fa0", "#7d7f85")
MARKERS = ("o", "s", "^", "D", "v")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
HATCHES = ("", "////", "....", "xxxx", "----")
MOST_MARKERS = 25
MOST_BAR_LABELS = 60
MOST_TICKS = 7
POINTS = ((100, 4.5, 0.75), (300, 3.6, 0.65), (math.inf, 2.8, 0.6))  # up to so many points: size, opacity

_STYLE: Any = {
    "svg.hashsalt": "assay",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 10.5,
    "hatch.linewidth": 0.6,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
}


def draw(figure: Figure, *, prefix: str = "figure") -> str:
    """The figure as one ``<svg>`` element that scales with its place on the page.

    Args:
        figure: what to draw; points without a finite value are left out.
        prefix: begins every id inside, so that several drawings can stand on one page.

    Returns:
        SVG text without prolog.

    Raises:
        ValueError: the kind of the figure is unknown.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    if figure.kind not in _PAINTERS:
        raise ValueError(f"Figure {figure.name!r} is of kind {figure.kind!r}; allowed: {', '.join(_PAINTERS)}.")
    with rc_context(_STYLE), warnings.catch_warnings():
        # The browser has fonts for every script; the layout only measures with a font that may lack some.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing = Drawing(figsize=_size(figure), layout="constrained")
        FigureCanvasSVG(drawing)
        drawing.patch.set_visible(False)
        axes = drawing.add_subplot()
        axes.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
        if _drawable(figure):
            _PAINTERS[figure.kind](axes, figure)
            draw_marks(axes, figure.marks, lying=_lying(figure))
            _legend(axes, figure)
        else:
            axes.text(0.5, 0.5, "no value to draw", ha="center", va="center", transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
        buffer = io.StringIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return inline(buffer.getvalue(), re.sub(r"\W+", "-", prefix, flags=re.ASCII) + "-")


def _drawable(figure: Figure) -> bool:
    return any(math.isfinite(value) for series in figure.series for value in series.y)


def _curves(axes: Axes, figure: Figure) -> None:
    stepped, floor = figure.kind == "cdf", _floor(figure)
    for index, series in enumerate(figure.series):
        colour, shape = _look(index)
        x = [float(value) for value in series.x]
        axes.plot(
            x,
            _raised(series.y, floor),
            color=colour,
            linestyle=LINES[shape],
            linewidth=1.6,
            marker=MARKERS[shape],
            markersize=4,
            markevery=max(1, len(x) // MOST_MARKERS) if not stepped else max(1, len(x) // 8),
            drawstyle="steps-post" if stepped else "default",
            label=short(series.label),
        )
        if series.lo is not None and series.hi is not None:
            axes.fill_between(
                x,
                _raised(series.lo, floor),
                _raised(series.hi, floor),
                step="post" if stepped else None,
                color=colour,
                alpha=0.18,
                linewidth=0,
            )
    _numeric(axes, figure)


def _bars(axes: Axes, figure: Figure) -> None:
    names, sideways = _categories(figure), _lying(figure)
    thickness = 0.8 / len(figure.series)
    for index, series in enumerate(figure.series):
        shift = (index - (len(figure.series) - 1) / 2) * thickness
        places = [names.index(category(value)) + shift for value in series.x]
        bar = axes.barh if sideways else axes.bar
        bar(places, series.y, thickness * 0.9, label=short(series.label), **_filling(index))
        across, up = (series.y, places) if sideways else (places, series.y)
        errors = _errors(series)
        axes.errorbar(
            across,
            up,
            xerr=errors if sideways else None,
            yerr=None if sideways else errors,
            fmt="none",
            color=INK,
            ecolor=INK,
            elinewidth=0.9,
            capsize=2,
        )
    _named(axes, figure, names, sideways)


def _stacked(axes: Axes, figure: Figure) -> None:
    """Parts of a whole on top of each other, in the order of the series; a missing part counts as none."""
    names, sideways = _categories(figure), _lying(figure)
    reached = dict.fromkeys(names, 0.0)
    for index, series in enumerate(figure.series):
        parts = [(category(x), max(0.0, y)) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(y)]
        places, heights = [names.index(name) for name, _ in parts], [height for _, height in parts]
        starts = [reached[name] for name, _ in parts]
        look = {**_filling(index), "edgecolor": INK, "linewidth": 0.5, "label": short(series.label)}
        if sideways:
            axes.barh(places, heights, 0.8, left=starts, **look)
        else:
            axes.bar(places, heights, 0.8, bottom=starts, **look)
        reached.update({name: start + height for (name, height), start in zip(parts, starts, strict=True)})
    _named(axes, figure, names, sideways)


def _named(axes: Axes, figure: Figure, names: Sequence[str], sideways: bool) -> None:
    """The axes of bars: names along one, values along the other."""
    if sideways:
        axes.set_yticks(range(len(names)), [short(name) for name in names])
        axes.invert_yaxis()
        axes.set(xlabel=clean(figure.y_label), ylabel=clean(figure.x_label), xlim=_limits(figure.y_limits))
        axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    else:
        labelled = len(names) <= MOST_BAR_LABELS
        axes.set_xticks(range(len(names)) if labelled else [], [short(name) for name in names] if labelled else [])
        axes.set(xlabel=clean(figure.x_label), ylabel=clean(figure.y_label), ylim=_limits(figure.y_limits))
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)


def _histogram(axes: Axes, figure: Figure) -> None:
    """Filled bars; every series after the first is an outline, so that none hides another."""
    for index, series in enumerate(figure.series):
        pairs = [(float(x), y) for x, y in zip(series.x, series.y, strict=True)]
        bins = sorted((x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y))
        width = bin_width(series)
        if index == 0:
            alpha = 0.85 if len(figure.series) == 1 else 0.4
            centres, heights = [x for x, _ in bins], [y for _, y in bins]
            axes.bar(centres, heights, width * 0.94, alpha=alpha, label=short(series.label), **_filling(index))
        else:
            colour, shape = _look(index)
            outline = _outline(bins, width)
            axes.plot(*zip(*outline, strict=True), color=colour, linestyle=LINES[shape], label=short(series.label))
    _numeric(axes, figure)


def bin_width(series: Series) -> float:
    """The distance of the closest two positions of a histogram, which are the middles of its bins."""
    x = sorted({float(value) for value in series.x if math.isfinite(float(value))})
    return min((b - a for a, b in itertools.pairwise(x)), default=1.0)


def _outline(bins: Sequence[tuple[float, float]], width: float) -> list[tuple[float, float]]:
    """The upper edge of bars as corners, down to 0 at both ends and where bins are missing."""
    corners: list[tuple[float, float]] = []
    for x, y in bins:
        left, right = x - width / 2, x + width / 2
        if not corners or left > corners[-1][0] + 0.01 * width:
            corners += [(corners[-1][0], 0.0)] if corners else []
            corners.append((left, 0.0))
        corners += [(left, y), (right, y)]
    return [*corners, (corners[-1][0], 0.0)] if corners else [(math.nan, math.nan)]


def _reliability(axes: Axes, figure: Figure) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1, label="perfect agreement")
    for index, series in enumerate(figure.series):
        colour, shape = _look(index)
        axes.errorbar(
            [float(value) for value in series.x],
            series.y,
            yerr=_errors(series),
            color=colour,
            linestyle=LINES[shape],
            marker=MARKERS[shape],
            markersize=4.5,
            linewidth=1.4,
            elinewidth=1,
            capsize=2,
            label=short(series.label),
        )
    _numeric(axes, figure)
    axes.set(xlim=_limits((0, 1)), ylim=_limits((0, 1)))


def _scatter(axes: Axes, figure: Figure) -> None:
    """Points without lines; series differ by shape, and every second one is hollow; the more, the smaller."""
    (size, alpha), floor = _points(figure), _floor(figure)
    for index, series in enumerate(figure.series):
        colour, shape = _look(index)
        axes.plot(
            [float(value) for value in series.x],
            _raised(series.y, floor),
            linestyle="none",
            marker=MARKERS[shape],
            markersize=size,
            markeredgewidth=0.22 * size,
            color=colour,
            fillstyle="none" if index % 2 else "full",
            alpha=min(1.0, alpha + 0.3) if index % 2 else alpha,
            label=short(series.label),
        )
    _numeric(axes, figure)


_PAINTERS: dict[str, Callable[[Any, Figure], None]] = {
    "line": _curves,
    "cdf": _curves,
    "bar": _bars,
    "histogram": _histogram,
    "reliability": _reliability,
    "scatter": _scatter,
    "stacked": _stacked,
    "matrix": draw_matrix,
}


def _numeric(axes: Axes, figure: Figure) -> None:
    axes.set(xlabel=clean(figure.x_label), ylabel=clean(figure.y_label))
    if figure.x_limits is not None and figure.x_limits[0] < figure.x_limits[1]:
        axes.set_xlim(_with_room(figure.x_limits, figure.x_scale))
    if figure.x_scale == "linear":
        axes.locator_params(axis="x", nbins=MOST_TICKS)
    else:
        axes.set_xscale(figure.x_scale)
        _log_ticks(axes.xaxis)
    if figure.y_scale == "linear":
        axes.set_ylim(_limits(figure.y_limits))
    else:
        axes.set_yscale(figure.y_scale)
        axes.set_ylim(_floor(figure), _ceiling(figure))
        _log_ticks(axes.yaxis)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)


def _log_ticks(axis: Axis) -> None:
    """Some labels within the axis, also where it spans less than a power of ten."""
    from matplotlib.ticker import AutoLocator, LogLocator

    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if low > 0 else math.inf
    if decades < 0.8:
        axis.set_major_locator(AutoLocator())
    elif decades < 3:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    # The usual labels of powers are mathematics, which is switched off.
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter("")


def _floor(figure: Figure) -> float | None:
    """The lower edge of a logarithmic vertical axis, below everything that is positive; ``None`` for a linear one."""
    if figure.y_scale == "linear":
        return None
    if figure.y_limits is not None and figure.y_limits[0] < figure.y_limits[1]:
        return figure.y_limits[0]
    low, high = _positive_ends(figure)
    return low / (high / low) ** 0.05 if low < high else low / 2


def _ceiling(figure: Figure) -> float:
    """The upper edge of a logarithmic vertical axis, with room, so that nothing drawn at the end is cut."""
    if figure.y_limits is not None and figure.y_limits[0] < figure.y_limits[1]:
        low, high = figure.y_limits
        return _with_room((low, high), "log")[1]
    low, high = _positive_ends(figure)
    return high * (high / low) ** 0.05 if low < high else high * 2


def _positive_ends(figure: Figure) -> tuple[float, float]:
    values = [value for series in figure.series for part in (series.y, series.lo, series.hi) for value in part or ()]
    values += [mark.value for mark in figure.marks if mark.axis == "y"]
    kept = [value for value in values if 0 < value < math.inf]
    return min(kept, default=0.1), max(kept, default=1.0)


def _raised(values: Sequence[float], floor: float | None) -> Sequence[float]:
    """Values as they are drawn: what lies below a logarithmic axis lies on its edge."""
    return values if floor is None else [value if math.isnan(value) else max(value, floor) for value in values]


def _limits(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    """The ends of an axis with room at the top, so that nothing drawn at the end is cut."""
    return None if ends is None or ends[0] == ends[1] else (ends[0], ends[1] + 0.02 * (ends[1] - ends[0]))


def _with_room(ends: tuple[float, float], scale: str) -> tuple[float, float]:
    """The ends of a horizontal axis with room on both sides, so that no point at an end is cut in half."""
    low, high = ends
    if scale == "log" and low > 0:
        factor = (high / low) ** 0.02
        return low / factor, high * factor
    room = 0.02 * (high - low)
    return low - room, high + room


def _legend(axes: Axes, figure: Figure) -> None:
    """The names of the series in their order, with points as large as those of a figure of few."""
    if figure.kind == "matrix" or (len(figure.series) < 2 and figure.kind != "reliability"):
        return
    order = [short(series.label) for series in figure.series]
    entries = sorted(
        zip(*axes.get_legend_handles_labels(), strict=True),
        key=lambda entry: order.index(entry[1]) if entry[1] in order else -1,
    )
    axes.figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        loc="outside upper center",
        ncols=2 if len(figure.series) <= 4 else 3,
        frameon=False,
        handlelength=3,
        markerscale=POINTS[0][1] / _points(figure)[0] if figure.kind == "scatter" else None,
    )


def _points(figure: Figure) -> tuple[float, float]:
    """Size and opacity of the points of a scatter."""
    count = sum(len(series.y) for series in figure.series)
    return next((size, alpha) for most, size, alpha in POINTS if count <= most)


def _look(index: int) -> tuple[str, int]:
    """The colour of a series, and the number of its marker, line style and hatch; both together are its own."""
    turn, place = divmod(index, len(COLOURS))
    return COLOURS[place], (place + turn) % len(MARKERS)


def _filling(index: int) -> dict[str, Any]:
    colour, shape = _look(index)
    return {"color": colour, "hatch": HATCHES[shape], "edgecolor": INK if HATCHES[shape] else "none"}


def _errors(series: Series) -> list[list[float]] | None:
    """Distances from the value down to ``lo`` and up to ``hi``, never below 0."""
    if series.lo is None or series.hi is None:
        return None
    down = [max(0.0, y - lo) if math.isfinite(y - lo) else 0.0 for y, lo in zip(series.y, series.lo, strict=True)]
    up = [max(0.0, hi - y) if math.isfinite(hi - y) else 0.0 for y, hi in zip(series.y, series.hi, strict=True)]
    return [down, up]


def _categories(figure: Figure) -> list[str]:
    return list(dict.fromkeys(category(value) for series in figure.series for value in series.x))


def _lying(figure: Figure) -> bool:
    """Whether bars lie down, because their names would collide below standing ones."""
    names = _categories(figure) if figure.kind in ("bar", "stacked") else []
    return sum(len(name) + 2 for name in names) > 48 and len(names) <= MOST_BAR_LABELS


def _size(figure: Figure) -> tuple[float, float]:
    """Inches across and down: lying bars and matrices need a line each."""
    if figure.kind == "matrix":
        return matrix_size(figure)
    return 5.2, max(3.55, 1 + 0.22 * len(_categories(figure))) if _lying(figure) else 3.55


def as_rows(figure: Figure) -> list[Sequence[float | str | None]]:
    """The table of a figure: one row a point, ``series, x, y, lo, hi``; what is not there is ``None``."""
    return [
        (
            series.label,
            series.x[i],
            series.y[i],
            series.lo[i] if series.lo is not None else None,
            series.hi[i] if series.hi is not None else None,
        )
        for series in figure.series
        for i in range(len(series.y))
    ]
