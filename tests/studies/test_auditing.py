from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from assay import Classification, Target
from assay.core.errors import DataError, Incomplete, ModelError, RunError
from assay.core.probes import Measurement
from assay.data.dataset import Dataset
from assay.performance.calibration import Calibration
from assay.performance.clean_accuracy import CleanAccuracy
from assay.studies import audit
from assay.studies.suite import Suite, parse_suite_text

TWO = "probes: [clean-accuracy, {calibration: {resamples: 100}}]\nclaims: [clean_accuracy >= 0.5]"


def suite(text: str = TWO) -> Suite:
    return parse_suite_text(text)


def stop(*_: Any) -> Measurement:
    raise KeyboardInterrupt


def test_an_audit_leaves_record_runs_and_report(target: Target, digits: Dataset, tmp_path: Path) -> None:
    study = audit(target, digits, suite(), out=tmp_path / "new" / "study", command=["assay", "audit"])
    assert (study.status, study.exit_code) == ("ok", 0)
    record = json.loads((study.path / "audit.json").read_text())
    assert (record["schema"], record["kind"], record["status"]) == (1, "study", "ok")
    assert [entry["status"] for entry in record["runs"]] == ["ok", "ok"]
    assert [entry["id"] for entry in record["runs"]] == [run.id for run in study.runs]
    assert record["verdicts"][0]["outcome"] == "passed"
    assert record["target"]["digest"] == target.digest
    assert record["data"]["digest"] == digits.digest
    assert record["command"] == ["assay", "audit"]
    assert any("Privacy by attack" in point for point in record["not_tested"])
    for name in ("report.html", "summary.md", "junit.xml", "model-index.yaml"):
        assert (study.path / name).is_file()
    assert study.runs[0].samples["sample_id"].to_pylist() == digits.sample_ids.tolist()


@pytest.mark.parametrize(
    ("claim", "code"),
    [("clean_accuracy >= 0.1", 0), ("clean_accuracy >= 0.999", 1), ("robust_accuracy@linf:8/255 >= 0", 3)],
)
def test_exit_codes_follow_the_claims(target: Target, digits: Dataset, tmp_path: Path, claim: str, code: int) -> None:
    study = audit(target, digits, suite(f"probes: [clean-accuracy]\nclaims: ['{claim}']"), out=tmp_path)
    assert study.exit_code == code


def test_the_same_audit_again_measures_nothing(
    target: Target, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = audit(target, digits, suite(), out=tmp_path)
    for probe in (CleanAccuracy, Calibration):
        monkeypatch.setattr(probe, "measure", stop)
    second = audit(target, digits, suite(), out=tmp_path, batch_size=7)
    assert [run.record for run in second.runs] == [run.record for run in first.runs]
    with pytest.raises(Incomplete):
        audit(target, digits, suite(), out=tmp_path, seed=5)


def test_a_probe_that_fails_is_recorded_and_the_others_go_on(
    target: Target, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Measurement:
        raise ZeroDivisionError("nothing to divide")

    with monkeypatch.context() as patch:
        patch.setattr(CleanAccuracy, "measure", broken)
        study = audit(target, digits, suite(), out=tmp_path)
    assert [entry["status"] for entry in study.record["runs"]] == ["failed", "ok"]
    assert study.record["runs"][0]["error"] == "ZeroDivisionError: nothing to divide"
    assert study.verdicts[0].outcome == "not_run"
    assert (study.status, study.exit_code) == ("failed", 3)
    assert "nothing to divide" in (study.path / "report.html").read_text()
    again = audit(target, digits, suite(), out=tmp_path)
    assert (again.status, again.exit_code) == ("ok", 0)


def test_an_interrupted_audit_goes_on(
    target: Target, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Calibration, "measure", stop)
        with pytest.raises(Incomplete, match="same command") as caught:
            audit(target, digits, suite(), out=tmp_path)
    assert caught.value.exit_code == 3
    record = json.loads((tmp_path / "audit.json").read_text())
    assert record["status"] == "incomplete"
    assert [entry["status"] for entry in record["runs"]] == ["ok", "incomplete"]
    monkeypatch.setattr(CleanAccuracy, "measure", stop)
    assert audit(target, digits, suite(), out=tmp_path).exit_code == 0


def test_shards_survive_an_interruption(
    target: Target, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    def in_parts(self: CleanAccuracy, examination: Any) -> Measurement:
        for part in ("a", "b"):
            if part not in examination.shards:
                examination.shards.put(part, x=np.arange(3))
                raise KeyboardInterrupt
        return Measurement(samples={"x": np.arange(len(examination.labels))})

    monkeypatch.setattr(CleanAccuracy, "measure", in_parts)
    only = suite("probes: [clean-accuracy]")
    for _ in range(2):
        with pytest.raises(Incomplete):
            audit(target, digits, only, out=tmp_path)
    assert audit(target, digits, only, out=tmp_path).status == "ok"


def test_model_and_data_must_fit_before_anything_is_written(digits: Dataset, tmp_path: Path) -> None:
    flat = torch.nn.Flatten()
    few = Target(torch.nn.Sequential(flat, torch.nn.Linear(64, 5)), task=Classification(num_classes=5))
    with pytest.raises(DataError, match="0 to 4"):
        audit(few, digits, suite(), out=tmp_path / "x")
    wrong = Target(torch.nn.Sequential(flat, torch.nn.Linear(64, 9)), task=Classification(num_classes=10))
    with pytest.raises(ModelError, match="shape"):
        audit(wrong, digits, suite(), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_output_that_cannot_be_written(target: Target, digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="another output folder"):
        audit(target, digits, suite(), out=tmp_path / "file" / "study")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission(target: Target, digits: Dataset, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="permissions"):
        audit(target, digits, suite(), out=tmp_path / "study")
    tmp_path.chmod(0o700)


def test_two_audits_share_a_folder(target: Target, digits: Dataset, tmp_path: Path) -> None:
    first = audit(target, digits, suite(), out=tmp_path)
    second = audit(target, digits.head(30), suite(), out=tmp_path)
    assert {run.id for run in first.runs}.isdisjoint({run.id for run in second.runs})
    assert len(list((tmp_path / "runs").iterdir())) == 4
