from __future__ import annotations

from pathlib import Path

import pytest

from assay import Target
from assay.core.errors import RunError, SettingError
from assay.data.dataset import Dataset
from assay.studies import audit
from assay.studies.checking import check_runs, load_claims
from assay.studies.suite import parse_suite_text


def test_claims_are_held_against_an_audit(target: Target, digits: Dataset, tmp_path: Path) -> None:
    audit(target, digits, parse_suite_text("probes: [clean-accuracy]"), out=tmp_path / "study")
    path = tmp_path / "claims.yaml"
    path.write_text("- clean_accuracy >= 0.5\n- clean_accuracy{class=3} > 1\n- brier_score <= 1\n")
    verdicts = check_runs([tmp_path / "study"], load_claims(path))
    assert [verdict.outcome for verdict in verdicts] == ["passed", "failed", "not_run"]


def test_a_suite_holds_claims_too(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("probes: [clean-accuracy]\nclaims: [clean_accuracy >= 0.5]")
    assert [claim.metric for claim in load_claims(path)] == ["clean_accuracy"]


@pytest.mark.parametrize("text", ["", "[]", "claims: []", "probes: [calibration]"])
def test_a_file_without_claims(tmp_path: Path, text: str) -> None:
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(SettingError, match="holds no claims"):
        load_claims(tmp_path / "claims.yaml")


def test_no_runs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run"):
        check_runs([tmp_path], ())
