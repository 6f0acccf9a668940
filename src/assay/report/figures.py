"""Drawing the figures of a run: data in, SVG text out, the same bytes every time.

One drawing serves paper, light and dark: ink is ``currentColor``, nothing is
filled behind it, and every series has its own colour (readable to colour-blind
eyes on white and on near-black), marker and line style or hatch, so that black
and white is enough.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..core.probes import Figure, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2681c4", "#c96a00", "#0f9a70", "#b45fa0", "#7d7f85")
MARKERS = ("o", "s", "^", "D", "v")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
HATCHES = ("", "////", "....", "xxxx", "----")
INK = "#010203"  # stands for currentColor until the drawing is text
LONGEST_LABEL = 24
MOST_MARKERS = 25
MOST_BAR_LABELS = 60

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
_STANDALONE = (
    "<style>:root{color:#1c2024;font-family:system-ui,sans-serif}"
    "@media (prefers-color-scheme:dark){:root{color:#e4e7ea}}</style>"
)


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
        drawing = Drawing(figsize=(5.2, _height(figure)), layout="constrained")
        FigureCanvasSVG(drawing)
        drawing.patch.set_visible(False)
        axes = drawing.add_subplot()
        axes.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
        if _drawable(figure):
            _PAINTERS[figure.kind](axes, figure)
            _legend(axes, figure)
        else:
            axes.text(0.5, 0.5, "no value to draw", ha="center", va="center", transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
        buffer = io.StringIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(buffer.getvalue(), re.sub(r"\W+", "-", prefix, flags=re.ASCII) + "-")


def standalone(svg: str) -> str:
    """An SVG file of its own from a drawing: with prolog, and with ink for light and dark."""
    head, rest = svg.split(">", 1)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}>{_STANDALONE}{rest}'


def _drawable(figure: Figure) -> bool:
    return any(math.isfinite(value) for series in figure.series for value in series.y)


def _curves(axes: Axes, figure: Figure) -> None:
    stepped = figure.kind == "cdf"
    for index, series in enumerate(figure.series):
        place = index % len(COLOURS)
        x = [float(value) for value in series.x]
        axes.plot(
            x,
            series.y,
            color=COLOURS[place],
            linestyle=LINES[place],
            linewidth=1.6,
            marker=MARKERS[place],
            markersize=4,
            markevery=max(1, len(x) // MOST_MARKERS) if not stepped else max(1, len(x) // 8),
            drawstyle="steps-post" if stepped else "default",
            label=_short(series.label),
        )
        if series.lo is not None and series.hi is not None:
            axes.fill_between(
                x,
                series.lo,
                series.hi,
                step="post" if stepped else None,
                color=COLOURS[place],
                alpha=0.18,
                linewidth=0,
            )
    _numeric(axes, figure)


def _bars(axes: Axes, figure: Figure) -> None:
    names = _categories(figure)
    sideways = _sideways(names)
    thickness = 0.8 / len(figure.series)
    for index, series in enumerate(figure.series):
        shift = (index - (len(figure.series) - 1) / 2) * thickness
        places = [names.index(str(value)) + shift for value in series.x]
        bar = axes.barh if sideways else axes.bar
        bar(places, series.y, thickness * 0.9, label=_short(series.label), **_filling(index))
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
    if sideways:
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        axes.invert_yaxis()
        axes.set(xlabel=figure.y_label, ylabel=figure.x_label, xlim=_limits(figure.y_limits))
        axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    else:
        labelled = len(names) <= MOST_BAR_LABELS
        axes.set_xticks(range(len(names)) if labelled else [], [_short(name) for name in names] if labelled else [])
        axes.set(xlabel=figure.x_label, ylabel=figure.y_label, ylim=_limits(figure.y_limits))
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)


def _histogram(axes: Axes, figure: Figure) -> None:
    for index, series in enumerate(figure.series):
        x = [float(value) for value in series.x]
        width = min((b - a for a, b in itertools.pairwise(x) if b > a), default=1.0)
        axes.bar(x, series.y, width * 0.94, alpha=0.85, label=_short(series.label), **_filling(index))
    _numeric(axes, figure)


def _reliability(axes: Axes, figure: Figure) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1, label="perfect agreement")
    for index, series in enumerate(figure.series):
        place = index % len(COLOURS)
        axes.errorbar(
            [float(value) for value in series.x],
            series.y,
            yerr=_errors(series),
            color=COLOURS[place],
            linestyle=LINES[place],
            marker=MARKERS[place],
            markersize=4.5,
            linewidth=1.4,
            elinewidth=1,
            capsize=2,
            label=_short(series.label),
        )
    _numeric(axes, figure)
    axes.set(xlim=_limits((0, 1)), ylim=_limits((0, 1)))


def _scatter(axes: Axes, figure: Figure) -> None:
    """Points without lines; series differ by shape, and every second one is hollow."""
    for index, series in enumerate(figure.series):
        place = index % len(COLOURS)
        axes.plot(
            [float(value) for value in series.x],
            series.y,
            linestyle="none",
            marker=MARKERS[place],
            markersize=4.5,
            markeredgewidth=1,
            color=COLOURS[place],
            fillstyle="none" if index % 2 else "full",
            alpha=0.75,
            label=_short(series.label),
        )
    _numeric(axes, figure)


_PAINTERS: dict[str, Callable[[Any, Figure], None]] = {
    "line": _curves,
    "cdf": _curves,
    "bar": _bars,
    "histogram": _histogram,
    "reliability": _reliability,
    "scatter": _scatter,
}


def _numeric(axes: Axes, figure: Figure) -> None:
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label)
    if figure.x_scale != "linear":
        axes.set_xscale(figure.x_scale)
        _log_ticks(axes)
        # The usual labels of powers are mathematics, which is switched off.
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter("")
    axes.set_ylim(_limits(figure.y_limits))
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)


def _log_ticks(axes: Axes) -> None:
    """Some labels within the axis, also where it spans less than a power of ten."""
    from matplotlib.ticker import AutoLocator, LogLocator

    low, high = axes.get_xlim()
    decades = math.log10(high / low) if low > 0 else math.inf
    if decades < 0.8:
        axes.xaxis.set_major_locator(AutoLocator())
    elif decades < 3:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))


def _limits(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    """The ends of an axis with room at the top, so that nothing drawn at the end is cut."""
    return None if ends is None else (ends[0], ends[1] + 0.02 * (ends[1] - ends[0]))


def _legend(axes: Axes, figure: Figure) -> None:
    if len(figure.series) > 1 or figure.kind == "reliability":
        columns = 2 if len(figure.series) <= 4 else 3
        axes.figure.legend(loc="outside upper center", ncols=columns, frameon=False, handlelength=3)


def _filling(index: int) -> dict[str, Any]:
    place = index % len(COLOURS)
    return {"color": COLOURS[place], "hatch": HATCHES[place], "edgecolor": INK if HATCHES[place] else "none"}


def _errors(series: Series) -> list[list[float]] | None:
    """Distances from the value down to ``lo`` and up to ``hi``, never below 0."""
    if series.lo is None or series.hi is None:
        return None
    down = [max(0.0, y - lo) if math.isfinite(y - lo) else 0.0 for y, lo in zip(series.y, series.lo, strict=True)]
    up = [max(0.0, hi - y) if math.isfinite(hi - y) else 0.0 for y, hi in zip(series.y, series.hi, strict=True)]
    return [down, up]


def _categories(figure: Figure) -> list[str]:
    return list(dict.fromkeys(str(value) for series in figure.series for value in series.x))


def _sideways(names: Sequence[str]) -> bool:
    """Whether bars lie down, because their names would collide below standing ones."""
    return sum(len(name) + 2 for name in names) > 48 and len(names) <= MOST_BAR_LABELS


def _height(figure: Figure) -> float:
    """Inches: lying bars need a line each."""
    names = _categories(figure) if figure.kind == "bar" else []
    return max(3.55, 1 + 0.22 * len(names)) if _sideways(names) else 3.55


def _short(label: str) -> str:
    """A label short enough for an axis; the table beside keeps the whole text."""
    plain = "".join(character if character.isprintable() else " " for character in label)
    return textwrap.shorten(plain, LONGEST_LABEL, placeholder="…") or plain[: LONGEST_LABEL - 1] + "…"


def _inline(text: str, prefix: str) -> str:
    body = text[text.index("<svg") :].strip()
    box = re.search(r'viewBox="([^"]*)"', body)
    assert box is not None
    body = body.split(">", 1)[1]
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r"url\(#", f"url(#{prefix}", body)
    body = re.sub(r'xlink:href="#', f'href="#{prefix}', body)
    body = body.replace(INK, "currentColor").replace("'DejaVu Sans'", "inherit")
    body = re.sub(r"font: ([\d.]+)px inherit", r"font-size: \1px", body)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box[1]}" aria-hidden="true">{body}'


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
