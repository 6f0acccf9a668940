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


def test_every_expected_quantity_follows_from_the_specification(spec):
    """Had every job of the cpu tier ended, each quantity would be there: none is misspelt."""
    rows = pages.load_results(spec)["cpu"]
    ended = {(row["experiment"], row["method"], row["seed"]) for row in rows}
    for job in spec.jobs("cpu"):
        if (job.experiment, job.method, job.seed) not in ended:
            row = next(row for row in rows if row["experiment"] == job.experiment)
            rows.append({**row, "method": job.method, "seed": job.seed})
            if "certify" in job.plan:
                any_one = next(iter(row["certified"].values()))
                rows[-1]["certified"] = {f"{sigma:g}": any_one for sigma in job.plan["certify"]["sigma"]}
    content = pages.expected(spec, pages.load_results(spec))
    names = spec.code().quantities(spec, "cpu", rows)
    assert {item["quantity"] for item in [*content["values"], *content["claims"]]} <= set(names)


def test_writing_again_changes_nothing(spec, tmp_path):
    shutil.copytree(spec.folder, tmp_path / spec.paper)
    copy = Spec(spec.paper, tmp_path / spec.paper, spec.content)
    results = pages.load_results(copy)
    before = {path.name: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()}
    for tier, rows in results.items():
        pages.save_results(copy, tier, rows)
    pages.write(copy)
    assert {path.name: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()} == before


def test_a_part_of_the_jobs_takes_no_result_away_and_a_changed_plan_does(spec, tmp_path):
    shutil.copytree(spec.folder, tmp_path / spec.paper)
    copy = Spec(spec.paper, tmp_path / spec.paper, spec.content)
    rows = pages.load_results(copy)["cpu"]
    pages.save_results(copy, "cpu", [])
    assert pages.load_results(copy)["cpu"] == rows
    pages.save_results(copy, "cpu", [{**rows[0], "wall_seconds": -1.0}])
    assert [row["wall_seconds"] for row in pages.load_results(copy)["cpu"]].count(-1.0) == 1
    pages.save_results(copy, "cpu", [{**rows[0], "plan": "00000000"}])
    assert pages.load_results(copy)["cpu"] == rows[1:]


def test_a_page_without_the_markers_of_a_table_is_refused(spec, tmp_path):
    shutil.copytree(spec.folder, tmp_path / spec.paper)
    copy = Spec(spec.paper, tmp_path / spec.paper, spec.content)
    page = copy.folder / pages.README
    page.write_text(page.read_text(encoding="utf-8").replace("<!-- begin claims -->", ""), encoding="utf-8")
    with pytest.raises(RunError, match="claims"):
        pages.readme_text(copy, pages.load_results(copy))
