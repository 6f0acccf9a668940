"""The probe on models whose boundaries are known in closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.boundary import closest
from assay.boundary.margins import Margins
from assay.core.errors import SettingError
from assay.core.estimates import clopper_pearson, mcnemar, quantile
from assay.core.probes import Measurement, Metric
from assay.core.settings import as_dict, build
from assay.core.shards import Shards
from assay.data.dataset import Dataset
from assay.subjects.examination import Examination
from assay.subjects.target import Target
from assay.subjects.tasks import Classification
from tests.subjects.runs import linear_run

SIDE = 2
WEIGHTS = np.array([[0.9, -0.3, 0.5, -0.7], [-0.6, 0.8, 0.2, -0.1], [0.1, 0.4, -0.9, 0.6]])
BIAS = np.array([0.02, -0.05, 0.01])


def linear(weights: np.ndarray = WEIGHTS, bias: np.ndarray = BIAS, name: str = "linear") -> Target:
    layer = nn.Linear(SIDE * SIDE, len(weights))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        layer.bias.copy_(torch.from_numpy(bias))
    return Target(nn.Sequential(nn.Flatten(), layer).eval(), task=Classification(len(weights)), name=name)


def greys(count: int = 40, classes: int = 3, *, groups: bool = False, spread: float = 0.1) -> Dataset:
    """Images near mid grey, so that the nearest boundary points lie inside the box; labels at random."""
    rng = np.random.default_rng(3)
    images = (0.5 + spread * (rng.random((count, 1, SIDE, SIDE)) - 0.5)).astype(np.float32)
    labels = rng.integers(classes, size=count)
    names = ["b" if i % 3 else "a" for i in range(count)] if groups else None
    return Dataset.from_arrays(images, labels, class_names=("p", "q", "r")[:classes], groups=names, layout="NCHW")


def to_hyperplanes(data: Dataset, weights: np.ndarray, bias: np.ndarray, dual: int) -> np.ndarray:
    """(z_y - z_k) / ||w_y - w_k||_q for every class k, inf for the label's own: [N, K]."""
    logits = data.images().reshape(len(data), -1).astype(np.float64) @ weights.T + bias
    gaps = logits[np.arange(len(data)), data.labels][:, None] - logits
    lengths = np.linalg.norm(weights[data.labels][:, None] - weights, dual, axis=2)
    return np.where(lengths > 0, gaps / np.where(lengths > 0, lengths, 1), math.inf)


def measured(settings: Margins, target: Target, data: Dataset, **changes: Any) -> Measurement:
    return settings.measure(Examination(target=target, data=data, **changes))


def metrics(measurement: Measurement) -> dict[str, Metric]:
    return {metric.label: metric for metric in measurement.metrics}


def codes(measurement: Measurement) -> dict[str, str]:
    return {finding.code: finding.severity for finding in measurement.findings}


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_margins_of_a_linear_model(norm: str, dual: int) -> None:
    weights, bias, data = WEIGHTS[:2], BIAS[:2], greys(classes=2)
    measurement = measured(Margins(norm=norm, below=0.05), linear(weights, bias), data)
    signed = measurement.samples["signed_margin"]
    np.testing.assert_allclose(signed, to_hyperplanes(data, weights, bias, dual).min(1), atol=1e-5)
    logits = data.images().reshape(len(data), -1) @ weights.T + bias
    np.testing.assert_array_equal(measurement.samples["predicted"], logits.argmax(1))
    np.testing.assert_array_equal(measurement.samples["correct"], logits.argmax(1) == data.labels)
    np.testing.assert_array_equal(signed < 0, logits.argmax(1) != data.labels)
    np.testing.assert_array_equal(measurement.samples["neighbour"], 1 - data.labels)
    assert measurement.samples["found"].all()
    assert set(measurement.samples["how_found"]) == {"search"}
    found = metrics(measurement)
    middle = quantile(signed, 0.5)
    metric = found[f"median_margin@{norm}"]
    assert (metric.value, metric.lo, metric.hi, metric.n) == (middle.value, middle.lo, middle.hi, 40)
    vulnerable = (signed >= 0) & (signed < 0.05)
    assert 0 < vulnerable.sum() < 40
    share = found[f"vulnerable_share@{norm}:0.05"]
    assert share.value == vulnerable.mean()
    assert (share.lo, share.hi) == clopper_pearson(int(vulnerable.sum()), 40)
    assert share.direction == "lower"
    assert found[f"negative_margin_share@{norm}"].value == (signed < 0).mean()
    assert found[f"no_boundary_share@{norm}"].value == 0
    assert found[f"aligned_share@{norm}"].value == 1


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_three_classes(norm: str, dual: int) -> None:
    """An upper bound everywhere; where a nearest point's condition holds, the distance to the neighbour's plane."""
    data = greys()
    shown = measured(Margins(norm=norm), linear(), data)
    signed, aligned = shown.samples["signed_margin"], shown.samples["alignment"] > 0.999
    planes = to_hyperplanes(data, WEIGHTS, BIAS, dual)
    inside = shown.samples["correct"]
    assert (signed[inside] >= planes.min(1)[inside] - 1e-5).all()
    rows = np.flatnonzero(inside & aligned)
    assert len(rows) > 0.5 * inside.sum()
    np.testing.assert_allclose(signed[rows], planes[rows, shown.samples["neighbour"][rows]], atol=1e-5)


def test_classes_and_groups() -> None:
    data = greys(groups=True)
    measurement = measured(Margins(), linear(), data)
    found, signed = metrics(measurement), measurement.samples["signed_margin"]
    assert data.groups is not None
    parts = {f"class={name}": data.labels == k for k, name in enumerate("pqr")}
    parts |= {f"group={name}": data.groups == name for name in "ab"}
    for stratum, rows in parts.items():
        middle = quantile(signed[rows], 0.5)
        metric = found[f"median_margin@linf{{{stratum}}}"]
        assert (metric.value, metric.n) == (middle.value, int(rows.sum()))
        within = (signed[rows] >= 0) & (signed[rows] < 8 / 255)
        assert found[f"vulnerable_share@linf:8/255{{{stratum}}}"].value == within.mean()
    worst = min((name for name in parts if name.startswith("class")), key=lambda name: np.median(signed[parts[name]]))
    (sentence,) = (item.message for item in measurement.findings if item.code == "nearest-class")
    assert sentence.startswith(f"Class {worst[-1]} lies nearest to the decision boundary: median margin")
    (of_groups,) = (item.message for item in measurement.findings if item.code == "nearest-group")
    assert "lies nearer to the decision boundary" in of_groups
    drawn = {figure.name: figure for figure in measurement.figures}
    assert set(drawn) == {
        "margins-linf",
        "margins-cumulative-linf",
        "margins-by-class-linf",
        "margins-by-group-linf",
    }
    bars = drawn["margins-by-class-linf"].series[0]
    assert bars.x[0] == worst[-1]
    assert list(bars.y) == sorted(bars.y)


def test_figures_show_every_sample_once() -> None:
    measurement = measured(Margins(), linear(), greys())
    signed = measurement.samples["signed_margin"]
    histogram, cumulative, _ = measurement.figures
    right, wrong = histogram.series
    assert (right.label, wrong.label) == ("classified correctly", "misclassified")
    assert sum(right.y) == pytest.approx((signed >= 0).mean())
    assert sum(wrong.y) == pytest.approx((signed < 0).mean())
    assert all(height == 0 for x, height in zip(right.x, right.y, strict=True) if float(x) < 0)
    assert all(height == 0 for x, height in zip(wrong.x, wrong.y, strict=True) if float(x) > 0)
    (curve,) = cumulative.series
    assert curve.x[0] == 0
    assert curve.y[0] == (signed <= 0).mean()
    assert curve.y[-1] == 1
    assert list(curve.y) == sorted(curve.y)
    for radius, share in zip(curve.x, curve.y, strict=True):
        assert share == (signed <= radius).mean()
    assert curve.lo is not None
    assert curve.hi is not None
    assert (curve.lo[0], curve.hi[0]) == clopper_pearson(int((signed <= 0).sum()), len(signed))
    assert "a lower bound of the error under an adversary" in cumulative.caption


def test_the_most_fragile_samples_are_shown() -> None:
    data = greys()
    measurement = measured(Margins(), linear(), data)
    signed, correct = measurement.samples["signed_margin"], measurement.samples["correct"]
    order = [row for row in np.argsort(signed, kind="stable") if correct[row]]
    shown = measurement.gallery
    assert shown is not None
    assert [caption["sample_id"] for caption in shown.captions] == [int(data.sample_ids[row]) for row in order[:12]]
    np.testing.assert_allclose([caption["distance"] for caption in shown.captions], signed[order[:12]])
    moved = np.abs(shown.changed - shown.original).max(axis=(1, 2, 3))
    np.testing.assert_allclose(moved, signed[order[: len(moved)]], atol=1e-6)
    for caption, row in zip(shown.captions, order, strict=False):
        assert caption["after"] != caption["label"]
        assert caption["after"] == "pqr"[measurement.samples["neighbour"][row]]
        assert caption["before"] == caption["label"]


def test_a_soft_boundary_is_called_one() -> None:
    data = greys(200, spread=0.6)
    soft, hard = measured(Margins(temperature=2), linear(), data), measured(Margins(), linear(), data)
    crossed = (soft.samples["signed_margin"] < 0) & soft.samples["correct"]
    assert crossed.any()
    (said,) = (item for item in soft.findings if item.code == "soft-boundary")
    assert said.value == crossed.sum()
    assert "bounds no accuracy under attack" in said.message
    assert "bounds no accuracy under attack" in soft.figures[1].caption
    assert "soft boundary (temperature 2)" in metrics(soft)["median_margin@linf"].estimand
    inside = hard.samples["signed_margin"] > 0
    assert (soft.samples["signed_margin"][inside] <= hard.samples["signed_margin"][inside] + 1e-5).all()
    assert "soft-boundary" not in codes(hard)
    assert codes(hard)["margins-are-upper-bounds"] == "info"


def test_a_model_without_boundary() -> None:
    constant = linear(np.zeros((3, 4)), np.array([1.0, 0.0, 0.0]))
    data = greys()
    measurement = measured(Margins(), constant, data)
    signed, mine = measurement.samples["signed_margin"], data.labels == 0
    assert (signed[mine] == math.inf).all()
    assert (signed[~mine] == -math.inf).all()
    assert not measurement.samples["found"].any()
    assert set(measurement.samples["neighbour"]) == {-1}
    assert set(measurement.samples["how_found"]) == {"not found"}
    found = metrics(measurement)
    assert found["no_boundary_share@linf"].value == 1
    assert found["negative_margin_share@linf"].value == (~mine).mean()
    assert found["vulnerable_share@linf:8/255"].value == 0
    assert found["aligned_share@linf"].n == 0
    assert codes(measurement)["no-boundary-point"] == "serious"
    assert measurement.gallery is None
    assert all(math.isfinite(value) for figure in measurement.figures for line in figure.series for value in line.y)


def test_two_models_side_by_side(tmp_path: Path) -> None:
    data = greys(60)
    plain = linear_run(tmp_path / "plain", WEIGHTS, BIAS)
    moved = linear(bias=BIAS + np.array([0.1, 0, 0]), name="moved")
    settings = Margins(baseline=str(plain))
    assert settings.baseline_digest
    measurement = measured(settings, moved, data)
    own, other = measurement.samples["signed_margin"], measurement.samples["baseline_signed_margin"]
    np.testing.assert_array_equal(other, measured(Margins(), linear(), data).samples["signed_margin"])
    found = metrics(measurement)
    gain = found["margin_gain@linf"]
    both = np.isfinite(own) & np.isfinite(other)
    assert gain.value == pytest.approx((own[both] - other[both]).mean())
    assert gain.n == both.sum()
    assert gain.lo is not None
    assert gain.hi is not None
    assert gain.lo < gain.value < gain.hi
    assert found["larger_margin_share@linf"].value == (own > other).mean()
    assert found["baseline_median_margin@linf"].value == np.median(other)
    assert found["baseline_negative_margin_share@linf"].value == (other < 0).mean()
    test = mcnemar(own < 8 / 255, other < 8 / 255)
    (said,) = (item.message for item in measurement.findings if item.code == "against-the-baseline")
    assert f"{test.only_first} are misclassified or vulnerable here and not there, {test.only_second} there" in said
    for figure in measurement.figures:
        assert [line.label for line in figure.series] == ["moved", "plain"]
    alone = [measured(Margins(), target, data).cost for target in (moved, linear())]
    assert measurement.cost.forward == sum(cost.forward for cost in alone)
    assert measurement.cost.backward == sum(cost.backward for cost in alone)


def test_a_baseline_like_the_model(tmp_path: Path) -> None:
    """Logits times two have the same boundaries."""
    plain = linear_run(tmp_path / "twice", 2 * WEIGHTS, 2 * BIAS)
    measurement = measured(Margins(baseline=f"run:{plain}"), linear(name="twice"), greys())
    assert metrics(measurement)["margin_gain@linf"].value == pytest.approx(0, abs=1e-6)
    assert [line.label for line in measurement.figures[0].series] == ["twice", "twice (baseline)"]


def test_the_baseline_is_part_of_the_settings(tmp_path: Path) -> None:
    one, other = (linear_run(tmp_path / name, scale * WEIGHTS, BIAS) for name, scale in (("one", 1), ("other", 2)))
    settings = Margins(baseline=str(one))
    assert build(Margins, as_dict(settings)) == settings
    with pytest.raises(SettingError, match=r"Margins\.baseline_digest is .* this is another baseline"):
        build(Margins, as_dict(settings) | {"baseline": str(other)})
    with pytest.raises(SettingError, match=r"Margins\.baseline is 'nowhere', where there is no finished training"):
        Margins(baseline="nowhere")


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, data = linear(), greys()
    whole = measured(Margins(), target, data, batch_size=8)
    search, calls = closest.closest_boundary_points, []

    def stops(*words: Any, **more: Any) -> Any:
        calls.append(len(words[1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return search(*words, **more)

    monkeypatch.setattr(closest, "closest_boundary_points", stops)
    with pytest.raises(KeyboardInterrupt):
        measured(Margins(), target, data, batch_size=8, shards=Shards(tmp_path))
    assert len(Shards(tmp_path)) == 2
    again = measured(Margins(), target, data, batch_size=8, shards=Shards(tmp_path))
    assert calls == [8] * 6
    for name, values in whole.samples.items():
        np.testing.assert_array_equal(again.samples[name], values)
    assert (again.cost.forward, again.cost.backward) == (whole.cost.forward, whole.cost.backward)
    assert again.findings == whole.findings
    assert again.gallery is not None
    assert whole.gallery is not None
    np.testing.assert_array_equal(again.gallery.changed, whole.gallery.changed)


def test_neighbours_in_the_batch_change_nothing() -> None:
    target, data = linear(), greys()
    one, other = measured(Margins(), target, data, batch_size=7), measured(Margins(), target, data, batch_size=64)
    for name, values in one.samples.items():
        np.testing.assert_array_equal(other.samples[name], values)


@pytest.mark.parametrize("steps", [5, 20])
def test_the_cost_told_beforehand_is_the_most(steps: int) -> None:
    settings = Margins(steps=steps)
    measurement = measured(settings, linear(), greys())
    expected = settings.expected_cost(samples=40, classes=3)
    assert 2 * 40 < measurement.cost.forward <= expected.forward
    assert 40 < measurement.cost.backward <= expected.backward
    assert settings.expected_cost(samples=80, classes=3).forward == 2 * expected.forward


def test_settings() -> None:
    assert Margins().below == 8 / 255
    assert Margins(norm="l2").below == 0.5
    assert Margins(temperature=math.inf) == Margins()
    assert build(Margins, {"temperature": "none", "below": "4/255"}).below == 4 / 255
    for wrong in ({"temperature": 0}, {"norm": "l1"}, {"below": -1}, {"steps": 0}):
        with pytest.raises(SettingError, match=f"Margins.{next(iter(wrong))}"):
            build(Margins, wrong)
