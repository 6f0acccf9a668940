from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import ModelError
from assay.core.estimates import clopper_pearson
from assay.privacy import epsilon
from assay.privacy.private_training import PrivateTraining
from assay.privacy.reading import read_privacy

from .runs import answering, codes, examined, found, private_run, three_classes


def event(**changes: Any) -> dict[str, Any]:
    usual = {"mechanism": "gaussian", "noise_multiplier": 1.0, "sample_rate": 0.1, "sampling": "poisson", "steps": 40}
    return {"schema": 1, "events": [usual | changes]}


def measured(folder: Path, **more: Any) -> Any:
    return PrivateTraining(points=4).measure(examined(folder, three_classes(**more)))


def test_epsilon_comes_from_the_ledger_and_not_from_the_file(tmp_path: Path) -> None:
    measurement = measured(private_run(tmp_path / "run", epsilon={"rdp": 0.001, "prv": 0.001}))
    metrics = found(measurement)
    what = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 40, "delta": 1e-3}
    assert metrics["epsilon@rdp"].value == pytest.approx(epsilon(**what))
    assert metrics["epsilon@prv"].value == pytest.approx(epsilon(**what, accountant="prv"))
    assert metrics["epsilon@prv"].value < metrics["epsilon@rdp"].value
    assert (metrics["delta"].value, metrics["epsilon@rdp"].n) == (1e-3, 60)
    figure = next(item for item in measurement.figures if item.name == "epsilon-over-steps")
    assert figure.series[0].x == (1, 14, 27, 40)
    assert figure.series[0].y[-1] == pytest.approx(metrics["epsilon@rdp"].value)
    assert list(figure.series[0].y) == sorted(figure.series[0].y)
    assert codes(measurement) == {"privacy-statement": "info"}
    texts = [finding.message for finding in measurement.findings]
    assert texts == ["First sentence.", "Second sentence."]


def test_accuracy_by_group_and_its_gap(tmp_path: Path) -> None:
    folder = private_run(tmp_path / "run", model=answering())
    metrics = found(measured(folder))
    assert metrics["private_accuracy"].value == 1
    assert metrics["private_accuracy{class=q}"].lo == pytest.approx(clopper_pearson(20, 20)[0])
    assert metrics["accuracy_gap@class"].value == 0
    assert metrics["accuracy_gap@class"].hi > 0
    grouped = found(measured(folder, groups=True))
    assert grouped["private_accuracy{group=a}"].n == 30
    assert "accuracy_gap@group" in grouped


def test_a_model_without_a_record_is_not_judged(tmp_path: Path) -> None:
    measurement = measured(private_run(tmp_path / "run", private=False))
    assert "nothing is known of how its training data were protected" in measurement.not_applicable
    assert read_privacy(None) is None


@pytest.mark.parametrize(
    ("changes", "code", "severity", "known"),
    [
        ({"sampling": "shuffled", "ledger": event(sampling="shuffled")}, "no-valid-epsilon", "serious", False),
        ({"noise_multiplier": 0.0, "ledger": event(noise_multiplier=0.0)}, "no-noise", "serious", True),
        ({"delta": 0.1}, "delta-too-large", "warning", True),
        ({"secure": False}, "noise-from-a-seed", "warning", True),
        ({"ledger": event(noise_multiplier=0.5)}, "weak-guarantee", "warning", True),
    ],
)
def test_findings(tmp_path: Path, changes: dict[str, Any], code: str, severity: str, known: bool) -> None:
    measurement = measured(private_run(tmp_path / "run", **changes))
    assert codes(measurement)[code] == severity
    assert ("epsilon@rdp" in found(measurement)) == known


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schema": 7}, "not a privacy record of schema 1"),
        ({"ledger": {"schema": 1, "events": [{"noise_multiplier": "x"}]}}, "is damaged"),
        ({"ledger": None}, "is damaged"),
        ({"delta": 3}, "delta 3.0"),
        ({"sample_rate": float("nan")}, "sample rate nan"),
        ({"clip": {"clip": "flet", "state": {}}}, "Did you mean 'flat'"),
        ({"clip": {"clip": "flat", "clip_norm": -1, "state": {}}}, "clip"),
    ],
)
def test_a_damaged_record_is_an_error_that_says_so(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    folder = private_run(tmp_path / "run", **changes)
    with pytest.raises(ModelError, match=sentence):
        measured(folder)


def test_a_missing_entry_and_a_cut_file(tmp_path: Path) -> None:
    folder = private_run(tmp_path / "run")
    text = (folder / "privacy.json").read_text()
    (folder / "privacy.json").write_text(text.replace('"statement"', '"statment"'))
    with pytest.raises(ModelError, match="it lacks 'statement'"):
        read_privacy(folder)
    (folder / "privacy.json").write_text(text[:100])
    with pytest.raises(ModelError, match="not valid JSON"):
        read_privacy(folder)
