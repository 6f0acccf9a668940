"""What a probe returns: metrics with intervals, per-sample columns, findings, figures, cost."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, did_you_mean
from .passages import Passages

if TYPE_CHECKING:
    from .estimates import Estimate

SEVERITIES = ("info", "warning", "serious")
DIRECTIONS = ("higher", "lower", "none")
FIGURE_KINDS = ("line", "bar", "stacked", "histogram", "reliability", "cdf", "scatter", "matrix")
SCALES = ("linear", "log")
LOG_KINDS = ("line", "cdf", "scatter")
AXES = ("x", "y")
_ROUNDING = 1e-9
_FIGURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@=+-]{0,99}")
_COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A remark on whether the measurement can be trusted.

    Args:
        code: short stable name, such as ``"gradient-masking"``.
        severity: ``"info"``, ``"warning"`` or ``"serious"``.
        message: what was seen, with numbers.
        remedy: what to do about it.
        value: the number behind it, if there is one.
    """

    code: str
    severity: str
    message: str
    remedy: str = ""
    value: float | None = None

    def __post_init__(self) -> None:
        _one_of("Finding.severity", self.severity, SEVERITIES)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number with its interval, and what it estimates.

    Args:
        name: such as ``"robust_accuracy@linf:8/255"``.
        estimand: the quantity in words, with its population.
        value: the estimate; NaN where nothing could be measured.
        lo: lower end of the interval, or ``None``.
        hi: upper end of the interval, or ``None``.
        interval: how the interval was made, such as ``"clopper-pearson 95%"``; ``""`` without one.
        n: number of samples behind the value.
        unit: ``"share"`` for rates in [0, 1], or a unit in words.
        direction: ``"higher"`` or ``"lower"`` is better, or ``"none"``.
        stratum: ``""`` for all samples, else such as ``"class=3"`` or ``"group=f"``.
    """

    name: str
    estimand: str
    value: float
    lo: float | None
    hi: float | None
    interval: str
    n: int
    unit: str = "share"
    direction: str = "higher"
    stratum: str = ""

    def __post_init__(self) -> None:
        _one_of("Metric.direction", self.direction, DIRECTIONS)
        object.__setattr__(self, "value", _number(self.value))
        object.__setattr__(self, "lo", None if self.lo is None else float(self.lo))
        object.__setattr__(self, "hi", None if self.hi is None else float(self.hi))
        object.__setattr__(self, "n", int(self.n))

    @property
    def label(self) -> str:
        """Name and stratum as a claim writes them: ``"clean_accuracy{class=3}"``."""
        return f"{self.name}{{{self.stratum}}}" if self.stratum else self.name

    @classmethod
    def from_estimate(
        cls,
        name: str,
        estimate: Estimate,
        *,
        estimand: str,
        unit: str = "share",
        direction: str = "higher",
        stratum: str = "",
    ) -> Metric:
        """A metric from an estimate; ends that are NaN or infinite are recorded as ``None``."""
        return cls(
            name=name,
            estimand=estimand,
            value=estimate.value,
            lo=estimate.lo if math.isfinite(estimate.lo) else None,
            hi=estimate.hi if math.isfinite(estimate.hi) else None,
            interval=f"{estimate.method} {100 * estimate.level:g}%",
            n=estimate.n,
            unit=unit,
            direction=direction,
            stratum=stratum,
        )


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line or set of bars of a figure; ``lo`` and ``hi`` are the ends of its intervals.

    Args:
        label: name in the legend.
        x: positions (numbers) or categories (text).
        y: values, one for each ``x``.
        lo: lower ends, one for each ``x``, or ``None``.
        hi: upper ends, one for each ``x``, or ``None``.
    """

    label: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    lo: tuple[float, ...] | None = None
    hi: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", tuple(x if isinstance(x, str) else _number(x) for x in self.x))
        for name in ("y", "lo", "hi"):
            values = getattr(self, name)
            if values is None:
                continue
            object.__setattr__(self, name, tuple(_number(value) for value in values))
            if len(getattr(self, name)) != len(self.x):
                raise InputError(
                    f"Series {self.label!r} has {len(self.x)} values of x and {len(getattr(self, name))} of {name}; "
                    "give as many of each."
                )


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A thin labelled line across a figure, such as a radius below which a point counts as vulnerable.

    Args:
        axis: ``"x"`` or ``"y"``: the axis of the figure on which ``value`` lies.
        value: where, finite, in the unit of that axis.
        label: what is written at the line; ``""`` for none.
    """

    axis: str
    value: float
    label: str = ""

    def __post_init__(self) -> None:
        _one_of("Mark.axis", self.axis, AXES)
        object.__setattr__(self, "value", _number(self.value))
        if not math.isfinite(self.value):
            raise InputError(f"Mark.value is {self.value}; a line needs a finite place on the {self.axis} axis.")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a matrix: what its numbers are, and which way is better.

    Args:
        name: heading; the cells of the column have it as their ``x``.
        unit: ``"share"`` for rates in [0, 1], or a unit in words; ``""`` for a plain number.
        direction: ``"higher"`` or ``"lower"`` is better, or ``"none"``.
        limits: values of the lightest and of the darkest shade, the lower one first; ``None`` to fit the column.
    """

    name: str
    unit: str = ""
    direction: str = "none"
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _one_of("Column.direction", self.direction, DIRECTIONS)
        object.__setattr__(self, "limits", _ends("Column.limits", self.limits))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The data of a figure; the report draws it, and the run keeps it as a table as well.

    Figures of one run that share ``sequence`` are the frames of one moving figure, in the order in which the
    run has them; a reader pages or plays through them.

    Args:
        name: file name without its ending: letters, digits and ``. _ @ = + -``.
        title: heading.
        caption: what is seen, with n.
        kind: ``"line"``, ``"bar"``, ``"stacked"`` (bars of parts on top of each other), ``"histogram"``,
            ``"reliability"``, ``"cdf"``, ``"scatter"`` or ``"matrix"`` (a table with shaded cells: a series is a row,
            ``x`` names the columns, and every cell has its value and interval).
        x_label: horizontal axis, with unit.
        y_label: vertical axis, with unit.
        series: what is drawn; values of stacked bars are not negative.
        y_limits: ends of the vertical axis, or ``None`` to fit the data of all frames.
        x_limits: ends of the horizontal axis, or ``None`` to fit the data of all frames; not for bars.
        x_scale: ``"linear"`` or ``"log"``.
        y_scale: likewise, ``"log"`` for lines and points alone; what is 0 or below then lies on the lower edge.
        marks: reference lines; bars have them across their values only (``axis="y"``), a matrix has none.
        columns: what the columns of a matrix are, in order; columns that are not named here follow as plain numbers.
        sequence: name of the moving figure, written as ``name`` is; ``""`` for a figure that stands alone.
        moment: what tells this frame from the others, such as ``"step 400 of 2,000"``.
    """

    name: str
    title: str
    caption: str
    kind: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    y_limits: tuple[float, float] | None = None
    x_limits: tuple[float, float] | None = None
    x_scale: str = "linear"
    y_scale: str = "linear"
    marks: tuple[Mark, ...] = ()
    columns: tuple[Column, ...] = ()
    sequence: str = ""
    moment: str = ""

    def __post_init__(self) -> None:
        for name, value in (("name", self.name), ("sequence", self.sequence or self.name)):
            if not _FIGURE_NAME.fullmatch(value):
                raise InputError(
                    f"Figure.{name} is {value!r}; it becomes a file name: use 1 to 100 letters, digits and . _ @ = + -"
                )
        _one_of("Figure.kind", self.kind, FIGURE_KINDS)
        _one_of("Figure.x_scale", self.x_scale, SCALES)
        _one_of("Figure.y_scale", self.y_scale, SCALES)
        object.__setattr__(self, "series", tuple(self.series))
        object.__setattr__(self, "marks", tuple(self.marks))
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "y_limits", _ends("Figure.y_limits", self.y_limits))
        object.__setattr__(self, "x_limits", _ends("Figure.x_limits", self.x_limits))
        if self.y_scale == "log" and self.kind not in LOG_KINDS:
            raise InputError(
                f"Figure {self.name!r} is of kind {self.kind!r} with a logarithmic y axis; that has no 0 to stand on: "
                f"use one of {', '.join(LOG_KINDS)}, or y_scale='linear'."
            )
        if self.y_scale == "log" and self.y_limits is not None and self.y_limits[0] <= 0:
            raise InputError(
                f"Figure {self.name!r} has y_limits {self.y_limits} on a logarithmic axis; both must be above 0."
            )
        if self.kind in ("bar", "stacked") and (self.x_limits or any(mark.axis == "x" for mark in self.marks)):
            raise InputError(
                f"Figure {self.name!r} has bars of named things, and x_limits or a mark on x; "
                "leave them out, or draw a line or a histogram."
            )
        if self.kind == "matrix" and (self.marks or self.x_limits or self.y_limits):
            raise InputError(
                f"Figure {self.name!r} is a matrix, and has marks or ends of axes; "
                "leave them out: the ends of its shades stand in its columns."
            )
        if self.columns and self.kind != "matrix":
            raise InputError(
                f"Figure {self.name!r} has columns and is of kind {self.kind!r}; only a matrix has columns."
            )
        if self.kind == "stacked" and any(value < -_ROUNDING for series in self.series for value in series.y):
            raise InputError(f"Figure {self.name!r} stacks values below 0; stacked bars are parts of a whole.")


@dataclass(kw_only=True)
class Cost:
    """What a measurement cost; ``forward`` and ``backward`` count passes of one sample."""

    seconds: float = 0.0
    forward: int = 0
    backward: int = 0
    peak_memory_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Times and passes add up; peak memory is the larger one."""
        return Cost(
            seconds=self.seconds + other.seconds,
            forward=self.forward + other.forward,
            backward=self.backward + other.backward,
            peak_memory_bytes=max(self.peak_memory_bytes, other.peak_memory_bytes),
        )


@dataclass(kw_only=True)
class Gallery:
    """Samples before and after a change, for people to look at.

    Args:
        title: heading.
        caption: what is seen.
        original: ``[k, C, H, W]`` float32 in [0, 1].
        changed: same shape and range.
        captions: one mapping a sample with the keys ``sample_id``, ``label``, ``before``,
            ``before_confidence``, ``after``, ``after_confidence``, ``distance``, ``norm``.
            Texts may be hostile: escape them where they are shown.
    """

    title: str
    caption: str
    original: np.ndarray
    changed: np.ndarray
    captions: list[dict[str, Any]]

    def __post_init__(self) -> None:
        self.original = np.asarray(self.original, dtype=np.float32)
        self.changed = np.asarray(self.changed, dtype=np.float32)
        if self.original.ndim != 4 or self.original.shape != self.changed.shape:
            raise InputError(
                f"Gallery {self.title!r} has original {self.original.shape} and changed {self.changed.shape}; "
                "both must be [k, C, H, W]."
            )
        if len(self.captions) != len(self.original):
            raise InputError(
                f"Gallery {self.title!r} has {len(self.original)} samples and {len(self.captions)} captions; "
                "give one caption a sample."
            )


@dataclass(frozen=True, kw_only=True)
class ColourScale:
    """What the colours of a picture stand for, from one end to the other, such as near and far.

    Args:
        label: the quantity, such as ``"depth"``.
        low: what the first colour means, with unit, such as ``"near, 0.5 m"``.
        high: what the last colour means.
        colours: ``"#rrggbb"``, at equal distances from ``low`` to ``high``.
    """

    label: str
    low: str
    high: str
    colours: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "colours", tuple(map(_colour, self.colours)))
        if len(self.colours) < 2:
            raise InputError(f"ColourScale {self.label!r} has {len(self.colours)} colours; give at least 2.")


@dataclass(kw_only=True)
class PanelRow:
    """Pictures that belong together, such as what was seen and said of one sample.

    Args:
        caption: what is said about them; it may be hostile: escape it where it is shown.
        pictures: one for each column: ``[C, H, W]`` in [0, 1], or ``None`` for an empty place. Sizes may differ.
    """

    caption: str
    pictures: list[np.ndarray | None]

    def __post_init__(self) -> None:
        self.pictures = [None if one is None else np.asarray(one, dtype=np.float32) for one in self.pictures]
        for index, picture in enumerate(self.pictures):
            if picture is not None and (picture.ndim != 3 or not picture.size):
                raise InputError(f"Picture {index} of a row of panels has the shape {picture.shape}; give [C, H, W].")


@dataclass(kw_only=True)
class Panels:
    """Rows of pictures below common headings: image, mask, depth map, and their attacked versions.

    Pictures are kept with 256 levels.

    Args:
        title: heading.
        caption: what is seen.
        columns: what each picture of a row is.
        rows: one a sample.
        legend: (name, ``"#rrggbb"``) of what colours stand for; a pair that is given twice is kept once.
        scale: for colours that stand for numbers, or ``None``.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: list[PanelRow]
    legend: tuple[tuple[str, str], ...] = ()
    scale: ColourScale | None = None

    def __post_init__(self) -> None:
        self.columns = tuple(map(str, self.columns))
        self.legend = tuple(dict.fromkeys((str(name), _colour(colour)) for name, colour in self.legend))
        for index, row in enumerate(self.rows):
            if len(row.pictures) != len(self.columns):
                raise InputError(
                    f"Row {index} of the panels {self.title!r} has {len(row.pictures)} pictures for "
                    f"{len(self.columns)} columns; give one for each column, None for an empty place."
                )


@dataclass(kw_only=True)
class Measurement:
    """What a probe returns.

    Args:
        metrics: numbers with intervals.
        samples: per-sample columns, each ``[N]``; the run adds ``sample_id``.
        findings: remarks on trust.
        figures: data of figures.
        cost: passes and seconds.
        gallery: samples to look at, or ``None``.
        panels: rows of pictures to look at.
        passages: texts with a mark on every token.
        not_applicable: why the probe does not apply to this target and data; ``""`` if it does.
    """

    metrics: list[Metric] = field(default_factory=list)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    gallery: Gallery | None = None
    panels: list[Panels] = field(default_factory=list)
    passages: list[Passages] = field(default_factory=list)
    not_applicable: str = ""


def _one_of(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}.{did_you_mean(value, choices)}")


def _ends(name: str, ends: Iterable[float] | None) -> tuple[float, float] | None:
    if ends is None:
        return None
    low, high = map(float, ends)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InputError(f"{name} is {(low, high)}; give two finite numbers, the lower one first.")
    return low, high


def _colour(text: str) -> str:
    """A colour as it may stand in a page: ``"#rrggbb"``, in lower case."""
    colour = str(text).lower()
    if not _COLOUR.fullmatch(colour):
        raise InputError(f"The colour {text!r} is none; write it as #rrggbb, such as #2681c4.")
    return colour


def _number(value: Any) -> float:
    """A float; ``None``, which JSON has in the place of NaN, becomes NaN."""
    return math.nan if value is None else float(value)
