"""The probe: metrics, columns, findings and figures of an audit that certifies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from assay import Classification, Target, load_data
from assay.certify.certified_accuracy import CertifiedAccuracy, training_noise
from assay.certify.correlations import spearman
from assay.core.errors import SettingError
from assay.core.probes import Measurement
from assay.report.figures import draw
from assay.subjects.examination import Examination


def nearest_mean(scale: float = 1.0) -> nn.Sequential:
    """Logits 2 m_k·x - |m_k|², the nearest class mean of the training digits."""
    train = load_data("digits", split="train")
    images = train.images().reshape(len(train), -1)
    means = np.stack([images[train.labels == k].mean(0) for k in range(10)])
    layer = nn.Linear(64, 10)
    layer.weight.data = torch.from_numpy(scale * 2 * means)
    layer.bias.data = torch.from_numpy(-scale * (means**2).sum(1))
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture(scope="module")
def examination() -> Examination:
    return Examination(target=Target(nearest_mean(), task=Classification(10)), data=load_data("digits", limit=60))


@pytest.fixture(scope="module")
def measured(examination: Examination) -> Measurement:
    return CertifiedAccuracy(sigma=0.25, radii=(0.5, 0, 0.25), limit=40).measure(examination)


def test_metrics(measured: Measurement) -> None:
    rates = {metric.name: metric for metric in measured.metrics if not metric.stratum}
    chain = [rates[f"certified_accuracy@l2:{radius}"] for radius in ("0", "0.25", "0.5")]
    assert chain[0].value >= chain[1].value >= chain[2].value
    assert chain[0].value > chain[2].value
    assert all(metric.n == 40 and metric.interval == "clopper-pearson 95%" for metric in chain)
    assert rates["smoothed_accuracy"].value == chain[0].value
    assert 0 <= rates["abstention_rate"].value < 0.5
    assert 0 < rates["average_certified_radius"].value < 1
    strata = [metric for metric in measured.metrics if metric.stratum and metric.name == "certified_accuracy@l2:0.25"]
    assert sum(metric.n for metric in strata) == 40
    assert sum(metric.n * metric.value for metric in strata) == pytest.approx(40 * chain[1].value)


def test_radii_fall_where_the_model_is_sharp(measured: Measurement) -> None:
    links = {metric.name: metric for metric in measured.metrics if metric.name.startswith("radius_vs")}
    assert set(links) == {"radius_vs_local_lipschitz", "radius_vs_gradient_norm", "radius_vs_hessian"}
    assert all(metric.hi is not None and metric.hi < 0 and metric.n == 40 for metric in links.values())


def test_columns_beyond_the_limit_are_marked(measured: Measurement) -> None:
    columns = measured.samples
    assert all(len(column) == 60 for column in columns.values())
    assert columns["examined"].tolist() == [True] * 40 + [False] * 20
    assert np.isnan(columns["certified_radius"][40:]).all()
    assert np.isfinite(columns["certified_radius"][:40]).all()
    right = columns["certified_prediction"][:40] == columns["label"][:40]
    assert right.tolist() == columns["certified_correct"][:40].tolist()
    assert measured.cost.forward > columns["noisy_copies"].sum()


def test_figures_can_be_drawn(measured: Measurement) -> None:
    names = [figure.name for figure in measured.figures]
    assert names == ["certified-accuracy", "radius-local-lipschitz", "radius-gradient-norm", "radius-hessian"]
    for figure in measured.figures:
        assert draw(figure).startswith("<svg")
    assert measured.figures[0].series[0].x == (0.0, 0.25, 0.5)
    assert sum(len(series.x) for series in measured.figures[1].series) == 40


def test_the_usual_findings(measured: Measurement, examination: Examination) -> None:
    (note,) = (finding for finding in measured.findings if finding.code == "each-by-itself")
    assert "40 certificates" in note.message
    assert "2.5e-05" in note.remedy
    loud = CertifiedAccuracy(sigma=1.0, radii=(0.0, 1.5), n=400, limit=20, local_metrics=False).measure(examination)
    codes = {finding.code for finding in loud.findings}
    assert {"not-trained-for-noise", "undecided"} <= codes
    assert not any(metric.name.startswith("radius_vs") for metric in loud.metrics)


@pytest.mark.parametrize("mode", ["fixed", "estimate"])
def test_other_modes_draw_the_whole_curve(mode: str, examination: Examination) -> None:
    probe = CertifiedAccuracy(sigma=0.25, mode=mode, n=500, limit=12, radii=(0.25, 9.0), local_metrics=False)
    found = probe.measure(examination)
    curve = found.figures[0].series[0]
    assert len(curve.x) > 20
    assert list(curve.y) == sorted(curve.y, reverse=True)
    assert {metric.name: metric.value for metric in found.metrics}["certified_accuracy@l2:9"] == 0
    assert "beyond-reach" in {finding.code for finding in found.findings}


def test_lower_precision_is_a_finding(examination: Examination) -> None:
    probe = CertifiedAccuracy(sigma=0.25, n=200, radii=(0.0,), limit=4, dtype="bfloat16", local_metrics=False)
    assert "lower-precision" in {finding.code for finding in probe.measure(examination).findings}


def test_a_model_without_curvature_is_still_certified(examination: Examination) -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nearest_mean()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return Once.apply(self.inner(images))

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(context: object, inputs: torch.Tensor) -> torch.Tensor:
            return inputs.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context: object, slope: torch.Tensor) -> torch.Tensor:
            return slope

    other = Examination(target=Target(Rounded(), task=Classification(10)), data=examination.data)
    found = CertifiedAccuracy(sigma=0.25, radii=(0.0,), limit=12).measure(other)
    assert "no-curvature" in {finding.code for finding in found.findings}
    assert "radius_vs_gradient_norm" in {metric.name for metric in found.metrics}


def test_training_noise_is_read_from_the_training(examination: Examination, tmp_path: Path) -> None:
    target = Target(nearest_mean(), task=Classification(10))
    trained = Examination(target=target, data=examination.data)
    assert training_noise(trained) is None
    target.folder = tmp_path
    assert training_noise(trained) is None
    for recipe, expected in (({"views": 2, "sigma": 0.5}, 0.5), ({"views": 0, "sigma": 0.5}, None), ({}, None)):
        (tmp_path / "run.json").write_text(json.dumps({"settings": {"resolved": {"recipe": recipe}}}))
        assert training_noise(trained) == expected
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"resolved": {"recipe": {"views": 2, "sigma": 0.5}}}}))
    probe = CertifiedAccuracy(sigma=0.25, n=200, radii=(0.0,), limit=4, local_metrics=False)
    assert "other-noise-in-training" in {finding.code for finding in probe.measure(trained).findings}


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first = rng.integers(0, 6, 80).astype(float)
    second = first + rng.normal(size=80)
    found = spearman(first, second)
    assert found.value == pytest.approx(spearmanr(first, second).statistic)
    assert found.lo < found.value < found.hi
    assert np.isnan(spearman(first, np.zeros(80)).value)
    assert np.isnan(spearman(first[:5], second[:5]).value)


def test_cost_is_told_beforehand(measured: Measurement) -> None:
    probe = CertifiedAccuracy(sigma=0.25, radii=(0.5, 0, 0.25), limit=40)
    assert probe.expected_cost(samples=60, classes=10).forward >= measured.cost.forward


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sigma": 0}, "allowed: above 0"),
        ({"radii": ()}, "radii is empty"),
        ({"radii": (0.5, 5.0)}, "cannot be proved"),
        ({"n": 10}, "at least n0"),
        ({"mode": "radius"}, "one of grid, fixed, estimate"),
    ],
)
def test_mistakes(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        CertifiedAccuracy(**changes)  # type: ignore[arg-type]
