"""Panels on the page: the record's pixels under their headings, and no markup from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from assay.core.pictures import levels
from assay.core.probes import Measurement, PanelRow, Panels
from assay.report import write_report
from assay.report.sheets import sheets

from .builder import accuracy, rate, write_run
from .scenery import matrix, panels
from .test_galleries import decode
from .test_page import Tags

HOSTILE = "</style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"


def written(folder: Path, measurement: Measurement) -> str:
    run = write_run(folder / "runs", "clean-accuracy", measurement)
    return write_report(folder, [run], study=None, verdicts=[]).read_text(encoding="utf-8")


def test_pixels_and_headings_survive() -> None:
    given = panels()
    for before, after in zip(given, sheets(given), strict=True):
        assert (after.title, after.legend, after.scale) == (before.title, before.legend, before.scale)
        for row, shown in zip(before.rows, after.rows, strict=True):
            assert [name for name, _ in shown.pictures] == list(before.columns)
            for picture, (_, source) in zip(row.pictures, shown.pictures, strict=True):
                assert bool(source) == (picture is not None)
                if picture is not None:
                    assert np.array_equal(decode(source).transpose(2, 0, 1), levels(picture))


def test_the_page_has_every_picture_legend_and_scale(tmp_path: Path) -> None:
    page = written(tmp_path, Measurement(panels=panels()))
    sheet = page[page.index("Masks before and after") :]
    assert sheet.count("<img ") == 2 * 5 + 2 * 5
    assert sheet.count('class="none"') == 2
    for word in ("sky", "ball", "ignored", "changed (striped)", "near, 1 m", "far, 9 m", "stripes fall"):
        assert word in sheet
    assert "linear-gradient(to right, #fee838," in sheet
    assert 'style="background: #1b3f8b"' in sheet
    assert 'alt="true mask: attacked at the output' in sheet


def test_texts_are_never_markup(tmp_path: Path) -> None:
    (sheet, _) = panels(caption=HOSTILE, rows=1)
    hostile = Panels(
        title=HOSTILE,
        caption=HOSTILE,
        columns=(HOSTILE,) * 5,
        rows=sheet.rows,
        legend=((HOSTILE, "#112233"),),
    )
    tags = Tags(written(tmp_path, Measurement(panels=[hostile])))
    assert "script" not in tags.names
    assert tags.names.count("style") == 1
    assert "onerror" not in {name for name, _ in tags.attributes}
    assert "{{ 7*7 }}" in tags.text


def test_broken_pixels_and_other_channels_do_not_break_the_page(tmp_path: Path) -> None:
    row = PanelRow(caption="c", pictures=[np.full((3, 4, 4), np.nan), np.ones((1, 4, 6)), np.ones((5, 4, 4))])
    page = written(tmp_path, Measurement(panels=[Panels(title="t", caption="", columns=("a", "b", "c"), rows=[row])]))
    assert page.count("<img ") == 3


def test_the_same_panels_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, Measurement(panels=panels())) for name in "ab")
    cut = "Settings, cost and exact definitions"
    assert one[: one.index(cut)].split("<h2>")[-1] == two[: two.index(cut)].split("<h2>")[-1]


def test_legends_name_the_classes_first_and_in_order() -> None:
    (sheet, _) = panels()
    shuffled = Panels(title="t", caption="", columns=(), rows=[], legend=sheet.legend[::-1])
    assert sheets([shuffled])[0].legend == (*sheet.legend[:-2], *sheet.legend[-2:])
    own = (("b", "#222222"), ("a", "#111111"))
    assert sheets([Panels(title="t", caption="", columns=(), rows=[], legend=own)])[0].legend == own


def test_a_matrix_comes_before_the_tables_and_many_tables_fold(tmp_path: Path) -> None:
    metrics = [rate("clean_accuracy", 1, 2)] + [rate(f"m{i}", 1, 2, stratum="encoder=a") for i in range(9)]
    page = written(tmp_path, Measurement(metrics=metrics, figures=[*accuracy().figures, matrix()]))
    page = page[page.index('<section id="run-1"') :]
    order = [
        "What attacks leave",
        "<h3>Results",
        "M0 by encoder",
        "M4 by",
        "4 more tables",
        "M8 by",
        "Accuracy of every",
    ]
    places = [page.index(words) for words in order]
    assert places == sorted(places)
    assert page.count("<details") == page.count("</details>")
