"""Exports: machines read the same verdict as people."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from assay.core.probes import Finding, Measurement
from assay.report import write_report

from .builder import NAN_METRIC, TARGET, make_study, rate, write_run
from .scenery import matrix


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("audit")
    runs, study, verdicts = make_study(place)
    return write_report(place, runs, study=study, verdicts=verdicts).parent


def test_junit_counts_claims_and_runs(folder: Path) -> None:
    claims, runs = ElementTree.parse(folder / "junit.xml").getroot()
    assert [claims.get(key) for key in ("tests", "failures", "errors")] == ["5", "1", "1"]
    assert [runs.get(key) for key in ("tests", "failures", "errors")] == ["5", "0", "1"]
    failed = [case.get("name") for case in claims if case.find("failure") is not None]
    assert failed == ["clean_accuracy{class=eight} >= 0.85"]


def test_a_claim_that_was_not_run_is_an_error_not_a_skip(folder: Path) -> None:
    claims = ElementTree.parse(folder / "junit.xml").getroot()[0]
    case = next(case for case in claims if case.get("name") == "robust_accuracy@l1:12 >= 0.3")
    assert case.find("error") is not None
    assert case.find("skipped") is None


def test_not_applicable_is_skipped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "calibration", Measurement(not_applicable="no scores"))
    write_report(tmp_path, [run], study=None, verdicts=[])
    assert ElementTree.parse(tmp_path / "junit.xml").getroot()[1].get("skipped") == "1"


def test_model_index_holds_the_metrics_as_hugging_face_expects(folder: Path) -> None:
    (model,) = yaml.safe_load((folder / "model-index.yaml").read_text(encoding="utf-8"))["model-index"]
    assert model["name"] == "digits-cnn"
    result = model["results"][0]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    metric = result["metrics"][0]
    assert (metric["type"], metric["value"]) == ("clean_accuracy", pytest.approx(430 / 450))
    assert metric["args"]["lo"] < metric["value"] < metric["args"]["hi"]


def test_model_index_leaves_out_what_was_not_measured(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "minimum-norm", Measurement(metrics=[NAN_METRIC, rate("clean_accuracy", 1, 2)]))
    write_report(tmp_path, [run], study=None, verdicts=[])
    (model,) = yaml.safe_load((tmp_path / "model-index.yaml").read_text())["model-index"]
    assert [metric["type"] for metric in model["results"][0]["metrics"]] == ["clean_accuracy"]


def test_summary_says_the_verdict_first(folder: Path) -> None:
    lines = (folder / "summary.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# ✗ Failed: digits\\-cnn on digits"
    assert "## What was not tested" in lines
    assert any(line.startswith("| ✗ failed | clean\\_accuracy\\{class=eight\\} \\>= 0.85 | 80.0") for line in lines)


def test_hostile_text_keeps_its_place_in_every_export(tmp_path: Path) -> None:
    hostile = "a | b\n# <script>alert(1)</script> [x](javascript:1) ]]> \x00\x1b ` ---\n- item"
    measurement = Measurement(
        metrics=[rate(hostile, 1, 2)], findings=[Finding(code="x", severity="warning", message=hostile)]
    )
    run = write_run(tmp_path / "runs", "clean-accuracy", measurement, target=TARGET | {"name": hostile})
    write_report(tmp_path, [run], study={"not_tested": [hostile], "status": "ok"}, verdicts=[])
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "<script>" not in summary
    assert "](javascript" not in summary
    assert sum(line.startswith("#") for line in summary.splitlines()) == 4
    ElementTree.parse(tmp_path / "junit.xml")
    (model,) = yaml.safe_load((tmp_path / "model-index.yaml").read_text(encoding="utf-8"))["model-index"]
    assert model["name"] == hostile


def test_the_summary_has_matrices_as_tables(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "clean-accuracy", Measurement(figures=[matrix(y_label="encoder | attack")]))
    write_report(tmp_path, [run], study=None, verdicts=[])
    lines = (tmp_path / "summary.md").read_text(encoding="utf-8").splitlines()
    table = lines[lines.index("## What attacks leave of every task") + 2 :]
    assert table[0].startswith(r"| encoder \| attack | classification: accuracy, higher is better | segmentation: ")
    assert table[2].startswith("| vit\\-micro · clean | 80.0 % \\(72.0 – 88.0 %\\) |")
    assert table[4].endswith("| – |")
    assert len(table[0].replace(r"\|", "").split("|")) == len(table[2].split("|")) == 7
