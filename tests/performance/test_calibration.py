from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.core.errors import SettingError
from assay.performance.calibration import Calibration, assign_bins, binned_error, calibration_error

confidences = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1))


def slow_error(confidence: np.ndarray, hits: np.ndarray, bins: np.ndarray) -> float:
    """The definition, bin by bin."""
    total = 0.0
    for b in set(bins.tolist()):
        inside = bins == b
        total += inside.mean() * abs(hits[inside].mean() - confidence[inside].mean())
    return float(total)


@given(confidences, st.integers(1, 20), st.sampled_from(["equal-mass", "equal-width"]), st.integers(0, 99))
def test_the_error_is_its_definition(confidence: np.ndarray, count: int, binning: str, seed: int) -> None:
    hits = np.random.default_rng(seed).random(len(confidence)) < 0.5
    bins = assign_bins(confidence, count, binning)
    assert bins.min() >= 0
    assert bins.max() < count
    assert binned_error(hits - confidence, bins) == pytest.approx(slow_error(confidence, hits, bins), abs=1e-12)


@given(confidences, st.integers(1, 20), st.sampled_from(["equal-mass", "equal-width"]), st.randoms())
def test_bins_do_not_depend_on_order_and_respect_it(
    confidence: np.ndarray, count: int, binning: str, random: Any
) -> None:
    order = list(range(len(confidence)))
    random.shuffle(order)
    bins = assign_bins(confidence, count, binning)
    assert assign_bins(confidence[order], count, binning).tolist() == bins[order].tolist()
    assert (np.diff(bins[np.argsort(confidence, kind="stable")]) >= 0).all()


def test_equal_mass_bins_are_equal() -> None:
    bins = assign_bins(np.linspace(0.1, 0.99, 150), 15, "equal-mass")
    assert np.bincount(bins).tolist() == [10] * 15


def test_equal_width_bins_are_equally_wide() -> None:
    assert assign_bins(np.array([0.05, 0.15, 0.95, 1.0]), 10, "equal-width").tolist() == [0, 1, 9, 9]


def test_values_against_hand_computation(examine: Any) -> None:
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])
    measurement = Calibration(bins=2, resamples=200).measure(examine(np.log(probabilities) * 1 + 3, labels))
    found = {metric.name: metric for metric in measurement.metrics}
    assert found["expected_calibration_error"].value == pytest.approx(0.5 * 0.3 + 0.5 * 0.4, abs=1e-6)
    assert found["brier_score"].value == pytest.approx((0.08 + 1.28 + 0.32 + 0.32) / 4, abs=1e-6)
    assert found["negative_log_likelihood"].value == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.6]).mean(), abs=1e-6)
    assert found["overconfidence"].value == pytest.approx(0.7 - 0.75, abs=1e-6)
    assert measurement.samples["correct"].tolist() == [True, False, True, True]
    diagram = measurement.figures[0]
    assert diagram.kind == "reliability"
    assert diagram.series[0].x == pytest.approx((0.6, 0.8), abs=1e-6)
    assert diagram.series[0].y == (1.0, 0.5)


@pytest.mark.parametrize("shift", [0.0, 0.08, 0.2])
def test_the_interval_covers(shift: float) -> None:
    """One bin: the population error is the shift itself, so coverage can be counted."""
    rng = np.random.default_rng(7)
    covered = []
    for seed in range(150):
        confidence = rng.uniform(0.6, 0.9, 200)
        hits = rng.random(200) < confidence - shift
        found = calibration_error(confidence, hits, np.zeros(200, np.int64), resamples=200, seed=seed).estimate
        covered.append(found.lo <= shift + 1e-12 and shift <= found.hi)
    assert np.mean(covered) >= 0.9


def test_a_calibrated_model_is_told_so_and_an_overconfident_one_is_not(examine: Any) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (400, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in probabilities])
    fair = Calibration(resamples=200).measure(examine(logits, labels))
    loud = Calibration(resamples=200).measure(examine(logits * 10, labels))
    assert "calibrated-within-chance" in {finding.code for finding in fair.findings}
    assert fair.metrics[0].lo == 0
    assert {finding.code for finding in loud.findings}.isdisjoint({"calibrated-within-chance"})
    assert loud.metrics[0].value > 0.2
    assert loud.metrics[0].lo > 0.1


def test_saturated_answers_are_a_finding(examine: Any) -> None:
    logits = np.eye(2)[[0] * 10] * 100
    measurement = Calibration(resamples=100).measure(examine(logits, np.array([0] * 8 + [1] * 2)))
    assert "saturated-confidence" in {finding.code for finding in measurement.findings}


def test_the_same_seed_gives_the_same_interval(examine: Any) -> None:
    logits = np.random.default_rng(1).normal(size=(50, 4))
    labels = np.arange(50) % 4
    first, second = (Calibration(resamples=100).measure(examine(logits, labels)) for _ in range(2))
    assert first.metrics == second.metrics


def test_one_sample_gives_no_bootstrap_interval(examine: Any) -> None:
    measurement = Calibration(resamples=100).measure(examine(np.array([[2.0, 0.0]]), np.array([0])))
    assert measurement.metrics[1].lo is None


@pytest.mark.parametrize("wrong", [{"bins": 0}, {"binning": "equal-mas"}, {"resamples": 1}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="allowed"):
        Calibration(**wrong)
