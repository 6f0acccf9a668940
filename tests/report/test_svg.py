"""SVG for a page: text stays text, ids stay apart, what points share is said once."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from assay.core.probes import Figure, Mark, Series
from assay.report.figures import draw
from assay.report.svg import INK, LONGEST_LABEL, inline, short

DOCUMENT = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9" width="9pt">
 <g id="unused"><g>
  <defs><path id="dot" d="M 0.123456 1 L 2.999999 -0.000001" style="stroke: #010203"/></defs>
  <g clip-path="url(#window)">
   <use xlink:href="#dot" x="1.23456" y="2" style="fill: #010203"/>
   <use xlink:href="#dot" x="3" y="4" style="fill: #010203"/>
  </g>
 </g></g>
 <text transform="rotate(-0 1.23 4.56)" style="font: 11px 'DejaVu Sans'">id="dot" #010203</text>
 <clipPath id="window"><rect x="0" y="0" width="9" height="9"/></clipPath>
</svg>"""


def test_only_ids_that_are_used_stay_and_point_at_their_element() -> None:
    root = ElementTree.fromstring(inline(DOCUMENT, "here-"))
    ids = {node.get("id") for node in root.iter() if node.get("id")}
    assert ids == {"here-0", "here-1"}
    assert {node.get("href") for node in root.iter() if node.get("href")} == {"#here-0"}
    assert [node.get("clip-path") for node in root.iter() if node.get("clip-path")] == ["url(#here-1)"]


def test_text_is_left_alone_where_it_looks_like_markup() -> None:
    (text,) = (node for node in ElementTree.fromstring(inline(DOCUMENT, "a")).iter() if node.tag.endswith("text"))
    assert text.text == f'id="dot" {INK}'
    assert text.get("style") == "font-size: 11px"
    assert text.get("transform") is None


def test_coordinates_are_rounded_and_a_shared_style_is_said_once() -> None:
    small = inline(DOCUMENT, "a")
    assert 'd="M 0.12 1 L 3 -0"' in small
    assert small.count("fill: currentColor") == 1
    assert small.count("<use") == 2


def test_a_style_that_would_fade_a_group_as_a_whole_stays_with_its_points() -> None:
    assert inline(DOCUMENT.replace("fill: #010203", "opacity: 0.5"), "a").count("opacity: 0.5") == 2
    assert inline(DOCUMENT.replace("fill: #010203", "fill-opacity: 0.5"), "a").count("opacity: 0.5") == 1


def test_five_hundred_points_stay_small() -> None:
    places = tuple(0.37 * (i * i % 997) for i in range(512))
    series = (Series(label="a", x=places[:200], y=places[200:400]), Series(label="b", x=places[:312], y=places[200:]))
    figure = Figure(name="f", title="", caption="", kind="scatter", x_label="x", y_label="y", series=series)
    assert len(draw(figure, prefix="run-1-2-3")) < 40_000


@pytest.mark.parametrize("field", ["x_label", "y_label", "label", "mark"])
def test_no_label_breaks_the_drawing(field: str) -> None:
    hostile = '<script>\x00\x0b\ud800\ufffe id="m" url(#m) ]]> $\\frac{'
    words = dict.fromkeys(("x_label", "y_label", "label", "mark"), "plain") | {field: hostile}
    text = draw(
        Figure(
            name="f",
            title="",
            caption="",
            kind="line",
            x_label=words["x_label"],
            y_label=words["y_label"],
            series=tuple(Series(label=words["label"] + end, x=(0, 1), y=(0, 1)) for end in ("", "2")),
            marks=(Mark(axis="x", value=0.5, label=words["mark"]),),
        )
    )
    root = ElementTree.fromstring(text)
    assert any("<script>" in (node.text or "") for node in root.iter())
    assert not re.search(r"<script", text)


def test_short_labels_are_kept_and_long_ones_end_in_dots() -> None:
    assert short("margin (L∞)") == "margin (L∞)"
    assert len(short("m" * 99)) <= LONGEST_LABEL
    assert short("m" * 99).endswith("…")
