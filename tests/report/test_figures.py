"""Figures: what is drawn is what the table says, in every kind, the same bytes every time."""

from __future__ import annotations

import csv
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from assay.core.probes import FIGURE_KINDS, Figure, Measurement, Series
from assay.report.figures import COLOURS, as_rows, draw, standalone

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
