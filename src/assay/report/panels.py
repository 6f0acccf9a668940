"""The places of a run's figures on the page: one for a figure that stands alone, one for all frames of a moving one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.probes import Figure, Series
from . import words
from .figures import as_rows, bin_width, draw
from .matrix import all_columns, note, shade_ends

MOST_ROWS = 200
MOST_ROWS_OF_FRAMES = 1000
FEWEST_ROWS = 10
WITHOUT_BASE = ("line", "cdf", "reliability", "scatter")

Ends = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with its drawing and its table; ``not_drawn`` counts points or bins off the axes or nowhere,
    ``note`` says how to read the drawing."""

    figure: Figure
    svg: str
    rows: list[tuple[str, str, str, str, str]]
    left_out: int
    not_drawn: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One place on the page.

    Args:
        sequence: name of the moving figure, or ``""``.
        title: heading.
        caption: what is seen, where it is the same in all frames; else each frame has its own.
        frames: what is drawn, in order; one drawing where nothing moves.
    """

    sequence: str
    title: str
    caption: str
    frames: list[Drawing]

    @property
    def is_matrix(self) -> bool:
        """Whether it is a table with shaded cells, which takes the width of the page."""
        return self.frames[0].figure.kind == "matrix"


def panels(figures: Iterable[Figure], prefix: str) -> list[Panel]:
    """Figures in their order; those that share a sequence stand where its first one stands.

    Args:
        figures: of one run.
        prefix: begins every id in the drawings.
    """
    groups: dict[tuple[bool, str], list[Figure]] = {}
    for figure in _alike(list(figures)):
        groups.setdefault((bool(figure.sequence), figure.sequence or figure.name), []).append(figure)
    return [_panel(frames, f"{prefix}-{index}") for index, frames in enumerate(groups.values(), 1)]


def share_axes(frames: Sequence[Figure]) -> list[Figure]:
    """The frames with the same ends of their axes, so that what moves is the data; ends that are given stay."""
    if len(frames) < 2 or len({(frame.kind, frame.x_scale, frame.y_scale) for frame in frames}) > 1:
        return list(frames)
    kind, scale = frames[0].kind, frames[0].x_scale
    if kind == "matrix":
        return _share_shades(frames)
    bars = kind in ("bar", "stacked")
    across = None if bars else _span([x for frame in frames for x in _across(frame)], scale == "log")
    heights = [y for frame in frames for y in _up(frame)]
    up = _span(heights, frames[0].y_scale == "log")
    if up is not None and kind not in WITHOUT_BASE and not any(y < 0 for y in heights):
        up = (0.0, up[1])
    return [
        dataclasses.replace(frame, x_limits=frame.x_limits or across, y_limits=frame.y_limits or up) for frame in frames
    ]


def _alike(figures: list[Figure]) -> list[Figure]:
    """Matrices of the same rows and columns with the same shades, so that a reader can go from one to the next."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, figure in enumerate(figures):
        if figure.kind == "matrix":
            rows = [series.label for series in figure.series]
            groups.setdefault((*rows, *all_columns(figure)), []).append(index)
    for places in groups.values():
        for index, figure in zip(places, _share_shades([figures[index] for index in places]), strict=True):
            figures[index] = figure
    return figures


def _share_shades(frames: Sequence[Figure]) -> list[Figure]:
    """Matrices in which a shade means the same number in every frame."""
    fitted: dict[str, list[float]] = {}
    for frame in frames:
        for column in all_columns(frame):
            fitted.setdefault(column.name, []).extend(column.limits or shade_ends(frame, column.name) or ())
    return [
        dataclasses.replace(
            frame,
            columns=tuple(
                dataclasses.replace(column, limits=(min(ends), max(ends)) if ends else None)
                for column in all_columns(frame)
                for ends in [fitted[column.name]]
            ),
        )
        for frame in frames
    ]


def _panel(figures: Sequence[Figure], prefix: str) -> Panel:
    rows = MOST_ROWS if len(figures) == 1 else min(MOST_ROWS, max(FEWEST_ROWS, MOST_ROWS_OF_FRAMES // len(figures)))
    frames = [_drawing(figure, f"{prefix}-{index}", rows) for index, figure in enumerate(share_axes(figures), 1)]
    captions = {figure.caption for figure in figures}
    return Panel(
        sequence=figures[0].sequence,
        title=figures[0].title,
        caption=figures[0].caption if len(captions) == 1 else "",
        frames=frames,
    )


def _drawing(figure: Figure, prefix: str, most: int) -> Drawing:
    rows = as_rows(figure)
    return Drawing(
        figure=figure,
        svg=draw(figure, prefix=prefix),
        rows=[tuple(_cell(value) for value in row) for row in rows[:most]],  # type: ignore[misc]
        left_out=max(0, len(rows) - most),
        not_drawn=_not_drawn(figure),
        note=note(figure) if figure.kind == "matrix" else "",
    )


def _not_drawn(figure: Figure) -> int:
    """Points of a scatter or bins of a histogram that no reader sees: off the axes, or without a finite place."""
    if figure.kind not in ("scatter", "histogram"):
        return 0
    return sum(
        not (
            _within(float(x), figure.x_limits)
            and (_within(_lifted(y, figure), figure.y_limits) or figure.kind == "histogram")
        )
        for series in figure.series
        for x, y in zip(series.x, series.y, strict=True)
    )


def _lifted(value: float, figure: Figure) -> float:
    """A value where it is drawn: what lies below a logarithmic axis lies on its edge."""
    return max(value, figure.y_limits[0]) if figure.y_scale == "log" and figure.y_limits else value


def _within(value: float, ends: Ends) -> bool:
    return math.isfinite(value) and (ends is None or ends[0] == ends[1] or ends[0] <= value <= ends[1])


def _across(figure: Figure) -> list[float]:
    places = [float(x) for series in figure.series for x in series.x]
    if figure.kind == "histogram":
        places += [
            float(x) + side * bin_width(series) / 2 for series in figure.series for x in series.x for side in (-1, 1)
        ]
    return [*places, *(mark.value for mark in figure.marks if mark.axis == "x"), *(figure.x_limits or ())]


def _up(figure: Figure) -> list[float]:
    drawn = _sums(figure.series) if figure.kind == "stacked" else [y for series in figure.series for y in series.y]
    ends = [y for series in figure.series for y in (*(series.lo or ()), *(series.hi or ()))]
    base = [] if figure.kind in WITHOUT_BASE else [0.0]
    marks = [mark.value for mark in figure.marks if mark.axis == "y"]
    return [*drawn, *(ends if figure.kind != "stacked" else ()), *base, *marks, *(figure.y_limits or ())]


def _sums(series: Sequence[Series]) -> list[float]:
    total: dict[float | str, float] = {}
    for part in series:
        for x, y in zip(part.x, part.y, strict=True):
            total[x] = total.get(x, 0.0) + (y if math.isfinite(y) else 0.0)
    return list(total.values())


def _span(values: Sequence[float], logarithmic: bool) -> Ends:
    """The ends of the finite values with a twentieth of room on both sides, or ``None`` where there is no span."""
    kept = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
    low, high = min(kept, default=0.0), max(kept, default=0.0)
    if low == high:
        return None
    if logarithmic:
        factor = (high / low) ** 0.05
        return low / factor, high * factor
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _cell(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return words.DASH if math.isnan(value) else f"{value:.6g}"
