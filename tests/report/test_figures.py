"""Figures: what is drawn is what the table says, in every kind, the same bytes every time."""

from __future__ import annotations

import csv
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from assay.core.probes import FIGURE_KINDS, LOG_KINDS, Figure, Mark, Measurement, Series
from assay.report.figures import COLOURS, _look, as_rows, draw
from assay.report.svg import standalone

from .builder import accuracy, calibration, distances, robustness, write_run

SVG = "{http://www.w3.org/2000/svg}"


def figure(kind: str = "line", **changes: object) -> Figure:
    values: dict[str, object] = {
        "name": "f",
        "title": "t",
        "caption": "c",
        "kind": kind,
        "x_label": "budget (share)",
        "y_label": "accuracy (share)",
        "series": (Series(label="a", x=(0.1, 0.5, 0.9), y=(0.2, 0.6, 0.8), lo=(0.1, 0.5, 0.7), hi=(0.3, 0.7, 0.9)),),
    }
    return Figure(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", FIGURE_KINDS)
def test_every_kind_is_well_formed_with_labelled_axes(kind: str) -> None:
    root = ElementTree.fromstring(draw(figure(kind)))
    texts = ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]
    assert {"budget (share)", "accuracy (share)"} <= set(texts)


@pytest.mark.parametrize("kind", FIGURE_KINDS)
def test_drawings_are_deterministic_and_carry_no_date(kind: str) -> None:
    assert draw(figure(kind)) == draw(figure(kind))
    assert not re.search(r"<dc:date>|20\d\d-\d\d-\d\d", draw(figure(kind)))


@pytest.mark.parametrize("kind", FIGURE_KINDS)
def test_ink_follows_the_page_and_nothing_is_filled_behind(kind: str) -> None:
    text = draw(figure(kind))
    assert "currentColor" in text
    fixed = set(re.findall(r"#[0-9a-f]{6}\b", text))
    assert fixed <= set(COLOURS)


@pytest.mark.parametrize("kind", FIGURE_KINDS)
@pytest.mark.parametrize("series", [(), (Series(label="a", x=(), y=()),), (Series(label="a", x=(1,), y=(math.nan,)),)])
def test_nothing_to_draw_is_said(kind: str, series: tuple[Series, ...]) -> None:
    assert "no value to draw" in draw(figure(kind, series=series))


@pytest.mark.parametrize("kind", FIGURE_KINDS)
def test_missing_points_are_left_out(kind: str) -> None:
    gap = Series(label="a", x=(0.1, 0.5, 0.9), y=(0.2, math.nan, 0.8), lo=(0.1, math.nan, 0.7), hi=(0.3, math.nan, 0.9))
    ElementTree.fromstring(draw(figure(kind, series=(gap,))))


def test_a_line_passes_through_its_points() -> None:
    series = Series(label="a", x=(0.0, 0.25, 1.0), y=(0.0, 1.0, 0.5))
    root = ElementTree.fromstring(draw(figure(series=(series,))))
    path = next(
        p for p in root.iter(f"{SVG}path") if COLOURS[0] in p.get("style", "") and "fill: none" in p.get("style", "")
    )
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d", ""))]
    horizontal, vertical = numbers[0::2], numbers[1::2]
    assert (horizontal[1] - horizontal[0]) / (horizontal[2] - horizontal[0]) == pytest.approx(0.25, abs=1e-3)
    assert (vertical[2] - vertical[0]) / (vertical[1] - vertical[0]) == pytest.approx(0.5, abs=1e-3)


def test_series_differ_in_more_than_colour() -> None:
    several = tuple(Series(label=f"s{i}", x=(0.0, 1.0), y=(i, i + 1.0)) for i in range(3))
    assert len(set(re.findall(r"stroke-dasharray: [\d., ]+", draw(figure(series=several))))) >= 2
    bars = tuple(Series(label=f"s{i}", x=("a", "b"), y=(i + 1.0, 2.0)) for i in range(3))
    assert draw(figure("bar", series=bars)).count("<pattern") >= 2


def test_ids_do_not_collide_between_drawings() -> None:
    first, second = (set(re.findall(r'\bid="([^"]+)"', draw(figure(), prefix=name))) for name in ("one", "two"))
    assert first
    assert not first & second


def test_standalone_files_are_whole_svg_documents() -> None:
    text = standalone(draw(figure()))
    assert ElementTree.fromstring(text.encode()).tag == f"{SVG}svg"
    assert "prefers-color-scheme" in text


def test_long_and_foreign_labels_are_shortened_not_fatal() -> None:
    names = ("x" * 300, "数字", "a b " * 50, "$\\frac{1}$", "\x00\n")
    text = draw(figure("bar", series=(Series(label="l" * 200, x=names, y=(1, 2, 3, 4, 5)),)))
    ElementTree.fromstring(text)
    assert "x" * 30 not in text


@pytest.mark.parametrize("count", [1, 12, 60, 61, 1000])
def test_any_number_of_bars(count: int) -> None:
    names = tuple(f"class {i}" for i in range(count))
    ElementTree.fromstring(draw(figure("bar", series=(Series(label="a", x=names, y=(0.5,) * count),))))


def test_csv_beside_a_figure_holds_what_the_page_shows(tmp_path: Path) -> None:
    everything = (accuracy(), calibration(), robustness(), distances())
    figures = [item for measurement in everything for item in measurement.figures]
    run = write_run(tmp_path, "clean-accuracy", Measurement(figures=figures))
    for item in run.figures():
        with open(run.path / "figures" / f"{item.name}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        assert [["" if cell is None else str(cell) for cell in row] for row in as_rows(item)] == rows


@pytest.mark.parametrize(("low", "high", "labels"), [(0.21, 0.49, 2), (0.03, 0.9, 2), (1e-4, 10.0, 3)])
def test_a_log_axis_has_labels_whatever_it_spans(low: float, high: float, labels: int) -> None:
    figure = Figure(
        name="log",
        title="Log",
        caption="",
        kind="scatter",
        x_label="x",
        y_label="y",
        x_scale="log",
        series=(Series(label="a", x=(low, high), y=(0.0, 1.0)),),
    )
    written = re.findall(r">([0-9.e-]+)</text>", draw(figure, prefix="p"))
    assert sum(low * 0.9 <= float(text) <= high * 1.1 and "−" not in text for text in written) >= labels


@pytest.mark.parametrize("kind", LOG_KINDS)
@pytest.mark.parametrize(("low", "high", "labels"), [(0.21, 0.49, 2), (0.03, 0.9, 2), (1e-4, 10.0, 3)])
def test_a_vertical_log_axis_has_labels_whatever_it_spans(kind: str, low: float, high: float, labels: int) -> None:
    points = Series(label="a", x=(1000.0, 2000.0), y=(low, high))
    for limits in (None, (low, high)):
        text = draw(figure(kind, series=(points,), y_scale="log", y_limits=limits))
        written = [float(one) for one in re.findall(r">([0-9.e-]+)</text>", text)]
        assert sum(low * 0.9 <= one <= high * 1.1 for one in written) >= labels
        assert "−" not in text
        assert "$" not in text


def test_equal_steps_on_a_log_axis_are_equal_ratios() -> None:
    series = Series(label="a", x=(0.0, 1.0, 2.0), y=(0.01, 0.1, 1.0))
    ((first, second, third),) = _drawn(draw(figure(series=(series,), y_scale="log")), f"stroke: {COLOURS[0]}")
    assert first[1] - second[1] == pytest.approx(second[1] - third[1], abs=0.03)
    assert first[1] > second[1]


@pytest.mark.parametrize("limits", [None, (0.01, 1.0)])
def test_what_is_not_above_a_log_axis_lies_on_its_edge(limits: tuple[float, float] | None) -> None:
    """Rates of 0, and what is below the axis: on the edge, and not far below it where nothing would be seen."""
    y = (0.0, -3.0, 0.02, 1.0)
    series = Series(label="a", x=(0.0, 1.0, 2.0, 3.0), y=y, lo=(-math.inf, -4.0, 0.0, 0.5), hi=(0.0, 0.1, 0.5, 1.0))
    text = draw(figure(series=(series,), y_scale="log", y_limits=limits))
    (line,) = _drawn(text, f"stroke: {COLOURS[0]}")
    (shift,) = re.findall(rf'y="([\d.]+)" style="fill: {COLOURS[0]}', text)
    band = re.findall(r'd="(M [^"]+z)" id', text)[0]
    heights = [float(shift) + float(y) for y in re.findall(r"[ML] -?[\d.]+ (-?[\d.]+)", band)]
    ground = max(y for _, y in line)
    assert [y for _, y in line[:2]] == [ground, ground]
    assert ground > line[2][1] > line[3][1]
    assert max(heights) == pytest.approx(ground, abs=0.02)
    points = ElementTree.fromstring(draw(figure("scatter", series=(series,), y_scale="log", y_limits=limits)))
    places = [float(use.get("y", "")) for g in points.iter(f"{SVG}g") if g.get("clip-path") for use in g]
    assert places == [y for _, y in line]


def test_a_log_axis_of_nothing_positive_can_be_drawn() -> None:
    series = Series(label="a", x=(0.0, 1.0), y=(0.0, -1.0))
    ElementTree.fromstring(draw(figure(series=(series,), y_scale="log")))
    same = Series(label="a", x=(0.0, 1.0), y=(0.1, 0.1))
    ElementTree.fromstring(draw(figure(series=(same,), y_scale="log", y_limits=(0.1, 0.1))))


def test_marks_on_a_vertical_log_axis_lie_above_0() -> None:
    marks = (Mark(axis="y", value=0.5, label="half"), Mark(axis="y", value=0.0, label="nothing"))
    texts = _texts(draw(figure(marks=marks, y_scale="log")))
    assert "half" in texts
    assert "nothing" not in texts


def test_more_series_than_colours_still_differ() -> None:
    looks = {(colour, shape) for colour, shape in map(_look, range(25))}
    assert len(looks) == 25


def test_stacked_parts_reach_the_height_of_their_sum() -> None:
    parts = [("a", (0.5, 0.2)), ("b", (0.3, math.nan)), ("c", (0.2, 0.8))]
    series = tuple(Series(label=label, x=(0, 400.0), y=y) for label, y in parts)
    text = draw(figure("stacked", series=series, y_limits=(0, 1)))
    whole = [_box(corners) for corners in _drawn(text, "stroke: currentColor; stroke-width: 0.5")]
    bars = [
        [(bottom, top) for side, bottom, top in whole if side == left] for left in sorted({box[0] for box in whole})
    ]
    assert [len(bar) for bar in bars] == [3, 2]
    for bar in bars:
        assert [bottom for bottom, _ in bar[1:]] == [top for _, top in bar[:-1]]
    (ground, middle), (_, upper), (_, end) = bars[0]
    assert (ground - middle) / (ground - end) == pytest.approx(0.5, abs=1e-3)
    assert (middle - upper) / (ground - end) == pytest.approx(0.3, abs=1e-3)
    assert bars[1][-1][1] == end
    assert {"0", "400"} <= set(_texts(text))


def _drawn(text: str, style: str) -> list[list[tuple[float, float]]]:
    """Corners of the paths within the axes whose style has these words."""
    return [
        [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", node.get("d", ""))]
        for node in ElementTree.fromstring(text).iter(f"{SVG}path")
        if node.get("clip-path") and style in node.get("style", "")
    ]


def _box(corners: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Left, bottom and top of a bar."""
    return min(x for x, _ in corners), max(y for _, y in corners), min(y for _, y in corners)


def _texts(text: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(text).iter(f"{SVG}text")]


@pytest.mark.parametrize("kind", [kind for kind in FIGURE_KINDS if kind != "matrix"])
def test_marks_are_drawn_with_their_labels_in_every_kind(kind: str) -> None:
    marked = draw(figure(kind, marks=(Mark(axis="y", value=0.5, label="half"),)))
    assert "half" in _texts(marked)
    assert marked.count("stroke-dasharray: 3.6,1.8") == draw(figure(kind)).count("stroke-dasharray: 3.6,1.8") + 1


def test_a_mark_lies_where_its_value_is() -> None:
    points = Series(label="a", x=(0.0, 1.0), y=(0.0, 1.0))
    text = draw(figure(series=(points,), marks=(Mark(axis="x", value=0.25), Mark(axis="y", value=1.0))))
    (((left, bottom), (right, top)),) = _drawn(text, f"stroke: {COLOURS[0]}")
    upright, level = _drawn(text, "stroke-dasharray: 3.6,1.8")
    assert [x for x, _ in upright] == pytest.approx([left + 0.25 * (right - left)] * 2, abs=0.02)
    assert [y for _, y in level] == pytest.approx([top] * 2, abs=0.02)
    assert bottom > top


def test_labels_of_close_marks_stand_in_rows() -> None:
    marks = tuple(Mark(axis="x", value=value, label=f"radius {value}") for value in (0.5, 0.501, 0.502, 0.9))
    text = draw(figure("scatter", marks=marks, x_limits=(0, 1)))
    heights = {label: y for y, label in re.findall(r'y="([\d.]+)"[^>]*>(radius [\d.]+)</text>', text)}
    assert len({heights[f"radius {value}"] for value in (0.5, 0.501, 0.502)}) == 3
    assert heights["radius 0.9"] == heights["radius 0.5"]


def test_a_mark_off_the_axes_is_not_drawn_and_free_axes_make_room() -> None:
    off = (Mark(axis="x", value=7, label="far"), Mark(axis="x", value=-1, label="negative"))
    assert "far" not in _texts(draw(figure("scatter", marks=off, x_limits=(0, 1))))
    assert "far" in _texts(draw(figure("scatter", marks=off)))
    log = _texts(draw(figure("scatter", marks=off, x_scale="log")))
    assert "far" in log
    assert "negative" not in log


def test_ends_of_the_horizontal_axis_hold() -> None:
    ticks = [text.replace("−", "-") for text in _texts(draw(figure("scatter", x_limits=(-4, 4))))]
    assert {"-4", "4"} <= set(ticks)
    assert "no value to draw" not in draw(figure("line", x_limits=(1, 1)))


def test_two_histograms_do_not_hide_each_other() -> None:
    one = Series(label="one", x=(-2.0, -1.0, 0.0, 1.0), y=(1, 5, 3, 2))
    two = Series(label="two", x=(-1.0, 0.0, 3.0), y=(4, 4, 1))
    text = draw(figure("histogram", series=(one, two)))
    assert len(_drawn(text, f"fill: {COLOURS[0]}")) == 4
    (outline,) = _drawn(text, f"stroke: {COLOURS[1]}")
    ground = max(y for _, y in outline)
    assert outline[0][1] == outline[-1][1] == ground
    assert sum(y == ground for _, y in outline) == 4


def test_histograms_leave_out_bins_without_a_place() -> None:
    whole = Series(label="a", x=(-1.0, 0.0), y=(2, 1))
    broken = Series(label="a", x=(-1.0, math.nan, 0.0, math.inf), y=(2, 7, 1, 9))
    assert draw(figure("histogram", series=(broken,))) == draw(figure("histogram", series=(whole,)))
    text = draw(figure("histogram", series=(whole, Series(label="b", x=(math.inf,), y=(3,)))))
    assert "b" in _texts(text)


def test_the_legend_has_the_order_of_the_series() -> None:
    series = tuple(Series(label=label, x=(0.0, 1.0), y=(1, 2)) for label in ("first", "second", "third"))
    for kind in ("histogram", "line", "bar", "stacked", "scatter"):
        texts = [text for text in _texts(draw(figure(kind, series=series))) if text in ("first", "second", "third")]
        assert texts == ["first", "second", "third"]
