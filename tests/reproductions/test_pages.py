"""README.md, expected.yaml and figures say what results.json says, and nothing else."""

from __future__ import annotations

import re
import shutil

import pytest

from assay.core.errors import RunError
from reproductions import pages
from reproductions.spec import Spec, load_spec, papers


@pytest.fixture(params=papers())
def spec(request):
    return load_spec(request.param)


def test_pages_are_those_of_the_results(spec):
    results = pages.load_results(spec)
    assert results, "no results are committed"
    assert (spec.folder / pages.README).read_text(encoding="utf-8") == pages.readme_text(spec, results)
    assert (spec.folder / pages.EXPECTED).read_text(encoding="utf-8") == pages.expected_text(spec, results)


def test_results_belong_to_the_specification_as_it_stands(spec):
    for tier, rows in pages.load_results(spec).items():
        known = {(job.experiment, job.method, job.seed): job.digest for job in spec.jobs(tier)}
        for row in rows:
            assert row["plan"] == known[row["experiment"], row["method"], row["seed"]]


def test_every_figure_is_shown_and_every_picture_is_there(spec):
    text = (spec.folder / pages.README).read_text(encoding="utf-8")
    shown = set(re.findall(r"\((figures/[\w.-]+\.svg)\)", text))
    drawn = {f"figures/{figure.name}.svg" for figure in spec.code().figures(spec, pages.load_results(spec))}
    assert shown == drawn == {f"figures/{path.name}" for path in (spec.folder / pages.FIGURES).glob("*.svg")}


def test_expected_values_name_a_source_and_a_reason(spec):
    content = pages.expected(spec, pages.load_results(spec))
    for item in content["values"]:
        assert item["read_in"] in content["read_in"]
        assert item["why"]
    names = {
        name for tier, rows in pages.load_results(spec).items() for name in spec.code().quantities(spec, tier, rows)
    }
    assert {item["quantity"] for item in [*content["values"], *content["claims"]]} <= names


def test_writing_again_changes_nothing(spec, tmp_path):
    shutil.copytree(spec.folder, tmp_path / spec.paper)
    copy = Spec(spec.paper, tmp_path / spec.paper, spec.content)
    results = pages.load_results(copy)
    before = {path.name: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()}
    for tier, rows in results.items():
        pages.save_results(copy, tier, rows)
    pages.write(copy)
    assert {path.name: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()} == before


def test_a_page_without_the_markers_of_a_table_is_refused(spec, tmp_path):
    shutil.copytree(spec.folder, tmp_path / spec.paper)
    copy = Spec(spec.paper, tmp_path / spec.paper, spec.content)
    page = copy.folder / pages.README
    page.write_text(page.read_text(encoding="utf-8").replace("<!-- begin claims -->", ""), encoding="utf-8")
    with pytest.raises(RunError, match="claims"):
        pages.readme_text(copy, pages.load_results(copy))
