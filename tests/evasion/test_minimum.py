"""Minimum norms: exact on linear models, adversarial everywhere, the same however the work is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from assay.core.errors import SettingError
from assay.core.shards import Shards
from assay.evasion import evaluate, minimum_norm
from assay.evasion.apgd import ApgdCE
from assay.search.threat import ThreatModel
from assay.tensors.norms import norm

from .models import as_target, exact_distances, small_cnn, softmax_regression, some

KINDS = ("linf", "l2", "l1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_distances_of_a_linear_model_are_exact(kind: str, classes: int) -> None:
    images, labels = some(300)
    rows = (labels < classes).nonzero()[: 50 if classes == 10 else 20, 0]
    images, labels, model = images[rows], labels[rows], softmax_regression(classes)
    exact = exact_distances(images, labels, model, kind)
    result = minimum_norm(as_target(model, classes), images, labels, kind)
    assert result.distance.numpy() == pytest.approx(exact, rel=5e-3, abs=1e-6)
    assert bool((result.distance.double().numpy() >= exact - 1e-5).all())
    wrong = model(result.adversarial).argmax(1) != labels
    assert bool(wrong.all())
    assert norm(result.adversarial - images, kind).numpy() == pytest.approx(result.distance.numpy(), abs=1e-6)
    assert float(result.adversarial.min()) >= 0
    assert float(result.adversarial.max()) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_distances_of_a_network_are_adversarial_and_no_worse_than_a_gradient_attack(kind: str) -> None:
    model, (images, labels) = small_cnn(), some(40)
    labels[:2] = (labels[:2] + 1) % 10
    result = minimum_norm(as_target(model), images, labels, kind, steps=40)
    correct = model(images).argmax(1) == labels
    assert torch.equal(result.correct, correct)
    assert bool((result.distance[~correct] == 0).all())
    assert bool(result.found.all())
    assert bool((model(result.adversarial).argmax(1) != labels).all())
    assert torch.equal(result.adversarial[~correct], images[~correct])
    eps = float(result.distance[correct].median())
    attacked = evaluate(as_target(model), images, labels, ThreatModel(kind, eps), attack=ApgdCE(steps=40))
    assert result.accuracy_within(eps) <= attacked.robust_accuracy.value + 0.05
    assert result.median.lo <= float(result.distance.median()) <= result.median.hi


@pytest.mark.parametrize("kind", KINDS)
def test_batch_size_order_and_resume_change_nothing(kind: str, tmp_path: Path) -> None:
    model, (images, labels) = small_cnn(), some(12)
    ids = list(range(50, 62))
    given = {"norm": kind, "steps": 5, "sample_ids": ids}
    whole = minimum_norm(as_target(model), images, labels, **given)
    for size in (1, 37):
        other = minimum_norm(as_target(model), images, labels, **given, batch_size=size)
        assert torch.equal(whole.distance, other.distance)
        assert torch.equal(whole.adversarial, other.adversarial)
    order = torch.arange(11, 4, -1)
    part = minimum_norm(as_target(model), images[order], labels[order], kind, steps=5, sample_ids=(50 + order).tolist())
    assert torch.equal(part.distance, whole.distance[order])
    for _ in range(2):
        kept = minimum_norm(as_target(model), images, labels, **given, batch_size=37, shards=Shards(tmp_path))
        assert torch.equal(kept.adversarial, whole.adversarial)


def test_where_no_gradient_leads_the_ladder_of_budgets_finds_something() -> None:
    """A model whose logits are flat around the data, and slope only further out."""
    base = softmax_regression()

    def flat_near_the_data(points: torch.Tensor) -> torch.Tensor:
        logits = base(points)
        return torch.where((logits.amax(1, keepdim=True) > 0), logits.round(), logits)

    images, labels = some(12)
    correct = flat_near_the_data(images).argmax(1) == labels
    result = minimum_norm(as_target(flat_near_the_data), images, labels, "linf", steps=10)
    found = result.found & correct
    assert bool((flat_near_the_data(result.adversarial[found]).argmax(1) != labels[found]).all())
    assert "zero-gradient" in {finding.code for finding in result.findings}


def test_a_constant_model_has_no_adversarial_example() -> None:
    images, labels = some(8)
    result = minimum_norm(
        as_target(lambda points: points.flatten(1)[:, :10] * 0 + torch.arange(10.0).flip(0)),
        images,
        torch.zeros_like(labels),
        "l2",
        steps=3,
    )
    assert not bool(result.found.any())
    assert bool(torch.isinf(result.distance).all())
    assert result.accuracy_within(1e6) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norm": "l3"}, "There are: l1, l2, linf"),
        ({"batch_size": 0}, "batch_size"),
        ({"steps": 0}, "steps"),
        ({"targets": 0}, "targets"),
    ],
)
def test_bad_settings_are_named(change: dict, words: str) -> None:
    images, labels = some(3)
    with pytest.raises(SettingError, match=words):
        minimum_norm(as_target(small_cnn()), images, labels, **{"norm": "l2", **change})


def test_all_wrong() -> None:
    images, labels = some(5)
    result = minimum_norm(as_target(small_cnn()), images, (labels + 1) % 10, "linf")
    assert bool((result.distance == 0).all())
    assert not np.isnan(result.median.value)
