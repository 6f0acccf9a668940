from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.estimates import clopper_pearson
from assay.performance.clean_accuracy import CleanAccuracy, gap


def metrics_of(measurement: Any) -> dict[str, Any]:
    return {metric.label: metric for metric in measurement.metrics}


def test_rates_strata_and_columns(examine: Any) -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    prediction = np.array([0, 0, 1, 1, 1, 0])
    logits = np.eye(3)[prediction] * 5
    measurement = CleanAccuracy().measure(examine(logits, labels, groups=["a", "b", "a", "b", "a", "b"]))
    found = metrics_of(measurement)
    assert found["clean_accuracy"].value == pytest.approx(4 / 6)
    assert (found["clean_accuracy"].lo, found["clean_accuracy"].hi) == pytest.approx(clopper_pearson(4, 6))
    assert found["clean_accuracy{class=0}"].value == pytest.approx(2 / 3)
    assert found["clean_accuracy{class=2}"].value == 0
    assert found["clean_accuracy{class=2}"].n == 1
    assert found["accuracy_gap"].value == 1
    assert found["clean_accuracy{group=a}"].value == pytest.approx(2 / 3)
    assert found["accuracy_gap@group"].value == pytest.approx(0)
    assert measurement.samples["prediction"].tolist() == prediction.tolist()
    assert measurement.samples["correct"].tolist() == (prediction == labels).tolist()
    assert measurement.samples["label"].tolist() == labels.tolist()
    expected = np.exp(5) / (np.exp(5) + 2)
    np.testing.assert_allclose(measurement.samples["confidence"], expected, rtol=1e-6)
    assert measurement.cost.forward == 6
    assert measurement.figures[0].series[0].x == ("2", "0", "1")


def test_a_single_class_has_no_gap(examine: Any) -> None:
    measurement = CleanAccuracy().measure(examine(np.array([[1.0, 0.0]] * 3), np.zeros(3, int)))
    assert "accuracy_gap" not in metrics_of(measurement)
    assert measurement.figures == []


@pytest.mark.parametrize(
    ("logits", "labels", "code"),
    [
        (np.eye(4)[[1, 2, 3, 0] * 20], [0, 1, 2, 3] * 20, "worse-than-chance"),
        (np.tile([9.0, 0.0], (6, 1)), [0, 1] * 3, "constant-prediction"),
        (np.eye(3)[[0, 1]] * 5, [0, 1], "classes-without-samples"),
        (np.full((4, 2), 0.5), [0, 1] * 2, "outputs-are-probabilities"),
    ],
)
def test_findings(examine: Any, logits: np.ndarray, labels: list[int], code: str) -> None:
    measurement = CleanAccuracy().measure(examine(logits, np.array(labels)))
    assert code in {finding.code for finding in measurement.findings}


def test_a_good_model_has_no_findings(examine: Any) -> None:
    labels = np.arange(4).repeat(10)
    assert CleanAccuracy().measure(examine(np.eye(4)[labels] * 4, labels)).findings == []


@given(st.lists(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=2, max_size=8))
def test_the_gap_lies_in_its_interval(counts: list[tuple[int, int]]) -> None:
    found = gap(counts)
    rates = [k / n for k, n in counts]
    assert found.value == max(rates) - min(rates)
    assert 0 <= found.lo <= found.value <= found.hi <= 1


def test_the_interval_of_the_gap_covers() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0.9, 0.9, 0.85, 0.8, 0.7])
    draws = rng.binomial(40, truth, size=(400, 5))
    covered = [found.lo <= 0.2 <= found.hi for found in (gap([(int(k), 40) for k in row]) for row in draws)]
    assert np.mean(covered) >= 0.95
