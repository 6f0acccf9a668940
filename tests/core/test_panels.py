"""Panels and matrices in the record: what a probe gives is what a reader gets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.core.artifacts import pack_figure, pack_panels, unpack_figure, unpack_panels
from assay.core.errors import InputError, RunError
from assay.core.methods import MethodCard
from assay.core.probes import ColourScale, Column, Figure, Mark, Measurement, PanelRow, Panels, Series
from assay.core.runs import Run, RunWriter, load_run

PICTURES = st.none() | arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)), elements=st.floats(0, 1, width=32)
)
HOSTILE = "</style><script>alert(1)</script>"
SCALE = ColourScale(label="depth", low="near", high="far", colours=("#FFFFFF", "#000000"))


def sheet(**changes: object) -> Panels:
    values: dict[str, object] = {
        "title": "t",
        "caption": "c",
        "columns": ("image", "mask"),
        "rows": [PanelRow(caption=HOSTILE, pictures=[np.full((3, 2, 2), 0.25), None])],
        "legend": (("sky", "#1B3F8B"), ("sky", "#1b3f8b")),
    }
    return Panels(**{**values, **changes})  # type: ignore[arg-type]


def write(folder: Path, measurement: Measurement) -> Run:
    card = MethodCard(name="m", kind="probe", title="M", summary="", settings="M")
    described = {"given": {}, "resolved": {}, "target": {"digest": "t"}, "data": {"digest": "d"}, "seeds": {}}
    with RunWriter.open(folder, method=card, **described) as writer:  # type: ignore[arg-type]
        return writer.finish(measurement, sample_ids=[])


@settings(max_examples=25)
@given(st.lists(st.tuples(PICTURES, PICTURES), max_size=3))
def test_pictures_come_back_with_256_levels(rows: list[tuple[np.ndarray | None, ...]]) -> None:
    given_panels = sheet(rows=[PanelRow(caption=f"{i}", pictures=list(row)) for i, row in enumerate(rows)])
    back, other = unpack_panels(*pack_panels([given_panels, sheet(title="other", scale=SCALE)]).values())
    assert [row.caption for row in back.rows] == [str(i) for i in range(len(rows))]
    for row, shown in zip(rows, back.rows, strict=True):
        for before, after in zip(row, shown.pictures, strict=True):
            assert (before is None) == (after is None)
            if before is not None and after is not None:
                np.testing.assert_array_equal(np.rint(255 * after), np.rint(255 * before))
    assert (other.title, other.scale) == ("other", SCALE)
    assert pack_panels([back]) == pack_panels([given_panels])


def test_a_run_keeps_panels_and_their_damage_is_seen(tmp_path: Path) -> None:
    run = write(tmp_path, Measurement(panels=[sheet()]))
    (back,) = load_run(run.path).panels()
    assert back.rows[0].caption == HOSTILE
    assert back.rows[0].pictures[0] is not None
    assert back.rows[0].pictures[0].shape == (3, 2, 2)
    assert back.legend == (("sky", "#1b3f8b"),)
    (run.path / "artifacts" / "panels.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match="damaged"):
        load_run(run.path).panels()


def test_a_run_without_panels_has_no_file_for_them(tmp_path: Path) -> None:
    run = write(tmp_path, Measurement())
    assert run.panels() == []
    assert not (run.path / "artifacts").exists()


@pytest.mark.parametrize("content", [b"[{}]", b"[1]", b"{", b'[{"title": 1}]', b"null"])
def test_texts_that_are_no_panels_are_refused_by_a_sentence(tmp_path: Path, content: bytes) -> None:
    from assay.core.files import checksum

    run = write(tmp_path, Measurement(panels=[sheet()]))
    (run.path / "artifacts" / "panels.json").write_bytes(content)
    run.record["files"]["artifacts/panels.json"] = checksum(content)
    with pytest.raises(RunError, match="cannot be read"):
        run.panels()


def test_a_colour_from_a_file_cannot_leave_its_place() -> None:
    arrays_, texts = pack_panels([sheet(legend=(("sky", "#112233"),))]).values()
    with pytest.raises(InputError, match="#rrggbb"):
        unpack_panels(arrays_, texts.replace(b"#112233", b"red;background:url(x)"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sheet(columns=("image",)), "Row 0 .* 2 pictures for 1 columns"),
        (lambda: sheet(legend=(("a", "blue"),)), "'blue' is none"),
        (lambda: PanelRow(caption="", pictures=[np.zeros((2, 2))]), r"Picture 0 .* give \[C, H, W\]"),
        (lambda: ColourScale(label="d", low="", high="", colours=("#000000",)), "at least 2"),
        (lambda: Column(name="a", direction="up"), "Column.direction is 'up'"),
        (lambda: Column(name="a", limits=(2, 1)), "Column.limits"),
        (lambda: matrix(marks=(Mark(axis="y", value=1),)), "is a matrix, and has marks"),
        (lambda: matrix(y_limits=(0, 1)), "ends of axes"),
        (lambda: matrix(kind="bar"), "only a matrix has columns"),
    ],
)
def test_what_cannot_be_shown_is_refused(make: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()  # type: ignore[operator]


def matrix(**changes: object) -> Figure:
    values: dict[str, object] = {
        "name": "m",
        "title": "t",
        "caption": "c",
        "kind": "matrix",
        "x_label": "task",
        "y_label": "attack",
        "series": (Series(label="clean", x=("acc", "rmse"), y=(0.9, float("nan")), lo=(0.8, 0.1), hi=(1.0, 0.2)),),
        "columns": (Column(name="acc", unit="share", direction="higher", limits=(0, 1)),),
    }
    return Figure(**{**values, **changes})  # type: ignore[arg-type]


def test_a_matrix_comes_back_and_stands_in_a_table() -> None:
    files = pack_figure(matrix())
    back = unpack_figure(files["figures/m.json"])
    assert back.columns == matrix().columns
    assert back.series[0].x == ("acc", "rmse")
    assert files["figures/m.csv"].decode().splitlines() == [
        "series,x,y,lo,hi",
        "clean,acc,0.9,0.8,1.0",
        "clean,rmse,nan,0.1,0.2",
    ]


def test_figures_of_earlier_records_have_no_columns() -> None:
    old = json.loads(pack_figure(dataclasses.replace(matrix(), kind="line", columns=()))["figures/m.json"])
    del old["columns"]
    assert unpack_figure(json.dumps(old).encode()).columns == ()
