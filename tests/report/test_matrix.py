"""Matrices: every number stands in its cell with its interval, shaded by how good it is."""

from __future__ import annotations

import dataclasses
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.probes import Column, Figure, Series
from assay.report.figures import draw
from assay.report.matrix import FAINTEST, GROUP, STRONGEST, all_columns, note, opacity, row_places
from assay.report.panels import panels, share_axes

from .scenery import COLUMNS, matrix

SVG = "{http://www.w3.org/2000/svg}"


def texts(figure: Figure) -> list[str]:
    root = ElementTree.fromstring(draw(figure))
    return [" ".join("".join(node.itertext()).split()) for node in root.iter(f"{SVG}text")]


def small(values: tuple[float, ...], *, direction: str = "higher", **changes: object) -> Figure:
    """One column, a row each value."""
    rows = tuple(Series(label=f"row {i}", x=("a",), y=(value,)) for i, value in enumerate(values))
    return matrix(series=rows, columns=(Column(name="a", direction=direction),), **changes)


def shades(figure: Figure) -> list[float]:
    """Opacities of the cells, row by row in each column."""
    found = [
        re.search(r"opacity: ([\d.]+)", node.get("style", ""))
        for node in ElementTree.fromstring(draw(figure)).iter(f"{SVG}path")
        if "fill: #2681c4" in node.get("style", "")
    ]
    return [float(hit[1]) for hit in found if hit]


def test_every_cell_has_its_number_and_interval() -> None:
    figure = matrix()
    said = texts(figure)
    for series in figure.series:
        for column, y, lo, hi in zip(COLUMNS, series.y, series.lo or (), series.hi or (), strict=True):
            if column.unit == "share":
                assert f"{100 * y:.1f} %" in said
                assert f"{100 * lo:.1f} – {100 * hi:.1f} %" in said
            elif math.isfinite(y) and y:
                assert any(text.rstrip("0").startswith(f"{y:.3g}"[:4].rstrip("0")) for text in said)
    assert said.count("–") == 2  # what was not measured


def test_groups_are_headings_and_labels_are_what_is_left() -> None:
    said = texts(matrix())
    assert [text for text in said if text in ("vit-micro", "vit-micro-deacl")] == ["vit-micro", "vit-micro-deacl"]
    assert said.count("embedding attack") == 2
    assert not any(GROUP.strip() in text for text in said)
    assert row_places(matrix()) == pytest.approx([0.55, 1.55, 2.55, 4.1, 5.1, 6.1])
    assert row_places(small((1, 2, 3))) == [0, 1, 2]


def test_direction_and_unit_stand_in_the_heading() -> None:
    said = " ".join(texts(matrix()))
    assert said.count("higher is better") == said.count("lower is better") == 2
    assert "RMSE (m)" in said


def test_the_better_the_stronger_the_shade() -> None:
    up, down = shades(small((0.1, 0.5, 0.9))), shades(small((0.1, 0.5, 0.9), direction="lower"))
    assert up == sorted(up)
    assert down == up[::-1]
    assert (up[0], up[-1]) == pytest.approx((FAINTEST, STRONGEST))


@given(
    st.floats(allow_nan=True, allow_infinity=True),
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(sorted),
    st.sampled_from(["higher", "lower", "none"]),
)
def test_text_stays_readable_on_any_shade(value: float, ends: list[float], direction: str) -> None:
    shade = opacity(value, (ends[0], ends[1]), direction)
    assert shade == 0 or FAINTEST <= shade <= STRONGEST


def test_columns_that_are_not_described_follow_as_plain_numbers() -> None:
    figure = matrix(columns=COLUMNS[2:3])
    assert [column.name for column in all_columns(figure)] == [
        "depth: RMSE",
        "classification: accuracy",
        "segmentation: mean IoU",
        "embedding: cosine distance",
    ]
    assert all_columns(figure)[1] == Column(name="classification: accuracy")
    assert "0.800" in texts(figure)


def test_cells_stand_below_their_column_whatever_the_order_of_x() -> None:
    series = matrix().series
    turned = tuple(
        dataclasses.replace(one, **{name: getattr(one, name)[::-1] for name in ("x", "y", "lo", "hi")})
        for one in series
    )
    assert draw(matrix(series=turned)) == draw(matrix())
    fewer = (Series(label="short", x=("depth: RMSE",), y=(1.0,)), *series)
    assert texts(matrix(series=fewer)).count("–") == 5


def test_frames_share_their_shades() -> None:
    frames = share_axes([matrix("a", 0.5), matrix("b", 1.4)])
    for frame in frames:
        assert frame.columns[0].limits == pytest.approx((0.7 * 0.05, 0.8))
    assert shades(frames[0])[0] == pytest.approx(shades(frames[1])[0])  # both are clean
    fixed = [matrix(columns=(dataclasses.replace(COLUMNS[0], limits=(0, 1)),)) for _ in range(2)]
    assert share_axes(fixed)[0].columns[0].limits == (0, 1)
    empty = [small((math.nan,)), small((math.nan,))]
    assert share_axes(empty)[0].columns[0].limits is None


def test_the_note_says_what_a_shade_means() -> None:
    assert "the better" in note(matrix())
    assert "the larger" in note(small((1, 2), direction="none"))
    assert "the larger if" in note(matrix(columns=COLUMNS[:1]))
    (place,) = panels([matrix()], "p")
    assert place.frames[0].note == note(matrix())


def test_labels_from_outside_are_cut_not_fatal() -> None:
    hostile = "<script>" + "x" * 400
    rows = (Series(label=f"{hostile} · {hostile}", x=(hostile, 3.0), y=(1, math.inf), lo=(0, 0), hi=(2, 2)),)
    root = ElementTree.fromstring(draw(matrix(series=rows, columns=())))
    assert all(len("".join(node.itertext())) < 90 for node in root.iter(f"{SVG}text"))


def test_many_rows_and_columns_get_their_room() -> None:
    rows = tuple(
        Series(label=f"e{i // 4} · a{i}", x=tuple(f"task {j}" for j in range(9)), y=(0.5,) * 9) for i in range(24)
    )
    root = ElementTree.fromstring(draw(matrix(series=rows, columns=())))
    width, height = map(float, root.get("viewBox", "").split()[2:])
    assert width > 72 * 9
    assert height > 72 * 0.4 * 24


def test_matrices_of_the_same_rows_and_columns_share_their_shades_on_a_page() -> None:
    weak, strong, other = matrix("a", 0.5), matrix("b", 1.4), small((1, 2))
    difference = matrix("c", series=(Series(label="vit-micro-deacl · clean", x=(COLUMNS[0].name,), y=(-0.1,)),))
    shown = [place.frames[0].figure for place in panels([weak, strong, other, difference], "p")]
    first, second, third, fourth = shown
    assert first.columns == second.columns
    assert first.columns[0].limits == pytest.approx((0.7 * 0.05, 0.8))
    assert third.columns[0].limits == (1, 2)
    assert fourth.columns[0].limits == (-0.1, -0.1)
