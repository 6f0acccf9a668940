from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.core.errors import DataError, ModelError, SettingError
from assay.core.estimates import holm, mcnemar
from assay.core.settings import as_dict, build
from assay.privacy.privacy_cost import PrivacyCost
from assay.privacy.strata import paired_rates

from .runs import answering, codes, examined, found, private_run, three_classes, weights


def two_runs(folder: Path) -> tuple[Path, Path]:
    """A private model that never says "r", and a baseline that is always right."""
    blind = answering()
    blind["1.bias"] = blind["1.bias"].clone()
    blind["1.bias"][2] = -1e3
    return private_run(folder / "private", model=blind), private_run(folder / "plain", model=answering(), private=False)


def test_costs_by_class(tmp_path: Path) -> None:
    private, plain = two_runs(tmp_path)
    data = three_classes()
    measurement = PrivacyCost(baseline=str(plain)).measure(examined(private, data))
    metrics = found(measurement)
    correct = {who: measurement.samples[f"correct_{who}"] for who in ("baseline", "private")}
    assert correct["baseline"].all()
    np.testing.assert_array_equal(correct["private"], data.labels != 2)
    costs = {name: metrics[f"privacy_cost{{class={name}}}"] for name in "pqr"}
    assert {name: cost.value for name, cost in costs.items()} == {"p": 0, "q": 0, "r": 1}
    rows = data.labels == 2
    expected = paired_rates(correct["baseline"][rows], correct["private"][rows])
    assert (costs["r"].lo, costs["r"].hi) == (expected.lo, expected.hi)
    assert costs["p"].hi > 0
    assert metrics["privacy_cost"].value == pytest.approx(1 / 3)
    assert metrics["privacy_cost_gap"].value == 1
    assert 0 < metrics["privacy_cost_gap"].lo < 1
    raw = [mcnemar(*(correct[who][data.labels == k] for who in ("baseline", "private"))).p_value for k in range(3)]
    assert [metrics[f"privacy_cost_p_value{{class={name}}}"].value for name in "pqr"] == holm(raw).tolist()
    assert metrics["privacy_cost_difference@class p{class=r}"].value == 1
    assert metrics["privacy_cost_difference@class p{class=r}"].lo > 0
    assert metrics["privacy_cost_difference@class p{class=q}"].lo < 0
    loss = measurement.samples["loss_private"] - measurement.samples["loss_baseline"]
    assert metrics["loss_cost{class=r}"].value == pytest.approx(loss[rows].mean())
    assert metrics["loss_cost{class=r}"].value > 100
    assert [figure.name for figure in measurement.figures] == ["privacy-cost", "accuracy-with-and-without-privacy"]
    assert measurement.figures[0].series[0].x[0] == "r"
    assert codes(measurement) == {"who-pays": "info", "few-samples": "warning"}
    assert measurement.cost.forward == 120


def test_a_named_reference_needs_a_smaller_correction(tmp_path: Path) -> None:
    private, plain = two_runs(tmp_path)
    examination = examined(private, three_classes())
    chosen = found(PrivacyCost(baseline=str(plain)).measure(examination))
    named = found(PrivacyCost(baseline=str(plain), reference="q").measure(examination))
    assert named["privacy_cost_difference@class q{class=r}"].lo > chosen["privacy_cost_difference@class p{class=r}"].lo
    with pytest.raises(SettingError, match="reference is 'x', which is no class"):
        PrivacyCost(baseline=str(plain), reference="x").measure(examination)


def test_groups_of_the_data(tmp_path: Path) -> None:
    private, plain = two_runs(tmp_path)
    examination = examined(private, three_classes(groups=True))
    metrics = found(PrivacyCost(baseline=str(plain)).measure(examination))
    assert metrics["privacy_cost{group=a}"].value == pytest.approx(1 / 3)
    assert "privacy_cost{class=r}" in found(PrivacyCost(baseline=str(plain), groups="class").measure(examination))


def test_one_class_has_no_gap(tmp_path: Path) -> None:
    private, plain = two_runs(tmp_path)
    data = three_classes()
    measurement = PrivacyCost(baseline=str(plain)).measure(examined(private, data.subset(data.labels == 2)))
    assert not any("gap" in name or "difference" in name for name in found(measurement))
    assert measurement.figures == []


def test_a_worse_baseline_is_pointed_out(tmp_path: Path) -> None:
    private, plain = two_runs(tmp_path)
    measurement = PrivacyCost(baseline=str(private)).measure(examined(plain, three_classes()))
    assert codes(measurement)["baseline-is-worse"] == "warning"
    assert "who-pays" not in codes(measurement)


def test_without_a_baseline(tmp_path: Path) -> None:
    private, _ = two_runs(tmp_path)
    assert "no baseline was named" in PrivacyCost().measure(examined(private, three_classes())).not_applicable


def test_the_baseline_is_pinned_by_its_weights(tmp_path: Path) -> None:
    _, plain = two_runs(tmp_path)
    settings = PrivacyCost(baseline=str(plain))
    assert settings.baseline_digest
    assert build(PrivacyCost, as_dict(settings)) == settings
    other = private_run(tmp_path / "other", model=weights(seed=5), private=False)
    with pytest.raises(SettingError, match="this is another baseline"):
        build(PrivacyCost, as_dict(settings) | {"baseline": str(other)})
    with pytest.raises(SettingError, match="no finished training"):
        PrivacyCost(baseline=str(tmp_path / "nowhere"))


def test_a_baseline_of_another_task_is_refused(tmp_path: Path) -> None:
    private, _ = two_runs(tmp_path)
    settings: Any = PrivacyCost(baseline="network:linear")
    with pytest.raises((ModelError, DataError), match="10 classes"):
        settings.measure(examined(private, three_classes()))
