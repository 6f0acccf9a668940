"""Panels: frames stand together, share their axes, and say what they do not show."""

from __future__ import annotations

import math
from typing import Any

import pytest

from assay.core.probes import Figure, Mark, Series
from assay.report.panels import MOST_ROWS, panels, share_axes


def frame(name: str, values: tuple[float, ...] = (1.0, 2.0), **changes: Any) -> Figure:
    words: dict[str, Any] = {
        "name": name,
        "title": f"title of {name}",
        "caption": "n = 2",
        "kind": "scatter",
        "x_label": "x",
        "y_label": "y",
        "series": (Series(label="a", x=values, y=values),),
        "sequence": "moving",
    }
    return Figure(**{**words, **changes})


def test_frames_stand_together_where_their_first_one_stands() -> None:
    given = [frame("a"), frame("alone", sequence=""), frame("b"), frame("other", sequence="second"), frame("c")]
    found = panels(given, "run-1")
    names = [[drawing.figure.name for drawing in panel.frames] for panel in found]
    assert names == [["a", "b", "c"], ["alone"], ["other"]]
    assert [panel.sequence for panel in found] == ["moving", "", "second"]
    assert found[0].title == "title of a"


def test_a_figure_named_like_a_sequence_stays_apart() -> None:
    assert [len(panel.frames) for panel in panels([frame("moving", sequence=""), frame("a"), frame("b")], "p")] == [
        1,
        2,
    ]


def test_ids_differ_between_all_drawings() -> None:
    found = panels([frame("a@b"), frame("a-b"), frame("alone", sequence="")], "run-1")
    marks = [drawing.svg.split('id="')[1].split('"')[0] for panel in found for drawing in panel.frames]
    assert len(set(marks)) == 3


def test_a_caption_is_said_once_where_all_frames_share_it() -> None:
    assert panels([frame("a"), frame("b")], "p")[0].caption == "n = 2"
    assert panels([frame("a"), frame("b", caption="other")], "p")[0].caption == ""


def test_frames_share_the_span_of_all_their_values_and_marks() -> None:
    first, second = share_axes([frame("a", (0.0, 1.0)), frame("b", (3.0, math.nan), marks=(Mark(axis="x", value=10),))])
    assert first.x_limits == second.x_limits == pytest.approx((-0.5, 10.5))
    assert first.y_limits == second.y_limits == pytest.approx((-0.15, 3.15))


def test_given_ends_stay() -> None:
    first, second = share_axes([frame("a", x_limits=(0, 5), y_limits=(0, 1)), frame("b", y_limits=(0, 1))])
    assert first.x_limits == (0.0, 5.0)
    assert second.y_limits == (0.0, 1.0)


def test_a_shared_log_axis_stays_positive() -> None:
    first, _ = share_axes([frame(name, (0.0, 1e-3, 10.0), x_scale="log") for name in ("a", "b")])
    assert first.x_limits is not None
    assert first.x_limits[0] == pytest.approx(1e-3 * (1e-4) ** 0.05)


def test_a_shared_vertical_log_axis_stays_positive() -> None:
    points = (Series(label="a", x=(1.0, 2.0, 3.0), y=(0.0, 1e-3, 10.0)),)
    first, second = share_axes([frame(name, series=points, y_scale="log") for name in ("a", "b")])
    assert first.y_limits == second.y_limits
    assert first.y_limits is not None
    assert first.y_limits[0] == pytest.approx(1e-3 * (1e-4) ** 0.05)
    mixed = share_axes([frame("a", series=points, y_scale="log"), frame("b", series=points)])
    assert [one.y_limits for one in mixed] == [None, None]


def test_points_on_the_edge_of_a_log_axis_are_seen() -> None:
    points = (Series(label="a", x=(1.0, 2.0, 3.0), y=(0.0, 0.5, 9.0)),)
    (panel,) = panels([frame("a", series=points, y_scale="log", y_limits=(0.1, 1.0))], "p")
    assert panel.frames[0].not_drawn == 1


def test_bars_stand_on_zero_and_parts_add_up() -> None:
    parts = (Series(label="a", x=("u", "v"), y=(1, 2)), Series(label="b", x=("u", "v"), y=(1, math.nan)))
    first, _ = share_axes([frame(name, kind="stacked", series=parts) for name in ("a", "b")])
    assert first.x_limits is None
    assert first.y_limits == pytest.approx((0, 2.1))


def test_the_outer_bins_of_a_histogram_are_whole() -> None:
    bins = (Series(label="a", x=(-1.0, 0.0, 1.0), y=(4, 2, 1)),)
    first, _ = share_axes([frame(name, kind="histogram", series=bins) for name in ("a", "b")])
    assert first.x_limits == pytest.approx((-1.65, 1.65))
    assert first.y_limits == pytest.approx((0, 4.2))


def test_frames_that_cannot_share_axes_keep_their_own() -> None:
    assert [f.x_limits for f in share_axes([frame("a"), frame("b", kind="line")])] == [None, None]
    assert [f.x_limits for f in share_axes([frame("a")])] == [None]
    assert [f.x_limits for f in share_axes([frame("a", ()), frame("b", ())])] == [None, None]


def test_points_that_no_reader_sees_are_counted() -> None:
    (panel,) = panels([frame("a", (0.0, 1.0, 9.0, math.inf), x_limits=(0, 2))], "p")
    assert panel.frames[0].not_drawn == 2
    (panel,) = panels([frame("a", kind="histogram", series=(Series(label="a", x=(-1, math.nan), y=(3, 1)),))], "p")
    assert panel.frames[0].not_drawn == 1
    (panel,) = panels([frame("a", (0.0, math.nan), kind="line")], "p")
    assert panel.frames[0].not_drawn == 0


def test_tables_of_many_frames_are_cut_short_and_say_so() -> None:
    values = tuple(float(i) for i in range(512))
    (alone,) = panels([frame("a", values, sequence="")], "p")
    assert (len(alone.frames[0].rows), alone.frames[0].left_out) == (MOST_ROWS, 512 - MOST_ROWS)
    (moving,) = panels([frame(str(i), values) for i in range(10)], "p")
    assert {(len(drawing.rows), drawing.left_out) for drawing in moving.frames} == {(100, 412)}
