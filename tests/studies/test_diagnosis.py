from __future__ import annotations

import json
from pathlib import Path

from assay.studies.diagnosis import Part, diagnose
from assay.studies.suite import parse_suite
from assay.subjects.loaders import load_target
from tests.privacy.runs import private_run, three_classes


def suite(*probes: str) -> object:
    return parse_suite({"name": "part", "probes": list(probes)}, where="test")


def test_two_data_sets_make_one_study(tmp_path: Path) -> None:
    target = load_target(f"run:{private_run(tmp_path / 'run')}")
    unseen, training = three_classes(9, groups=True), three_classes(12, seed=1)
    parts = [
        Part(data=unseen, suite=suite("clean-accuracy", "private-training")),
        Part(data=training, suite=suite("calibration")),
    ]
    study = diagnose(target, parts, out=tmp_path / "out", command=["assay", "x"])
    assert (study.status, study.exit_code) == ("ok", 0)
    assert [run.method["name"] for run in study.runs] == ["clean-accuracy", "private-training", "calibration"]
    assert [len(run.samples) for run in study.runs] == [9, 9, 12]
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert [entry["id"] for entry in record["runs"]] == [run.id for run in study.runs]
    assert record["data"]["n"] == 9
    assert not any("Calibration" in point or "Differential privacy" in point for point in record["not_tested"])
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/run.json")}
    again = diagnose(target, parts, out=tmp_path / "out", command=["assay", "x"])
    assert [run.id for run in again.runs] == [run.id for run in study.runs]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_failed_probe_shows_in_the_whole(tmp_path: Path) -> None:
    folder = private_run(tmp_path / "run")
    (folder / "privacy.json").write_text("{}")
    parts = [
        Part(data=three_classes(9), suite=suite("private-training")),
        Part(data=three_classes(9), suite=suite("clean-accuracy")),
    ]
    study = diagnose(load_target(f"run:{folder}"), parts, out=tmp_path / "out")
    assert (study.status, study.exit_code) == ("failed", 3)
    assert "is not a privacy record" in study.record["runs"][0]["error"]
