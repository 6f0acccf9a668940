from __future__ import annotations

from pathlib import Path

import pytest

from assay import Target
from assay.core.probes import Cost
from assay.data.dataset import Dataset
from assay.performance.clean_accuracy import CleanAccuracy
from assay.studies.cost import Pace, plan
from assay.studies.suite import parse_suite_text

SUITE = parse_suite_text("probes: [clean-accuracy, calibration]")


def test_the_plan_counts_passes_and_writes_nothing(
    target: Target, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan(target, digits, SUITE, batch_size=16)
    assert [(item.probe, item.forward, item.backward) for item in planned] == [
        ("clean-accuracy", 60, 0),
        ("calibration", 60, 0),
    ]
    assert all(item.seconds is not None and item.seconds > 0 for item in planned)
    assert list(tmp_path.iterdir()) == []


def test_a_probe_that_cannot_tell_is_not_known(
    target: Target, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(CleanAccuracy, "expected_cost")
    first, second = plan(target, digits, SUITE)
    assert (first.forward, first.seconds) == (None, None)
    assert second.forward == 60


def test_seconds_follow_from_passes() -> None:
    assert Pace(forward=0.5, backward=2.0).seconds(Cost(forward=4, backward=1)) == 4.0
