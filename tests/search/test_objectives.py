"""Objectives: invariances, ranges, signs, and what few classes need."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.search.objectives import (
    cross_entropy,
    difference_of_logits_ratio,
    margin,
    targeted_difference_of_logits_ratio,
    targeted_margin,
)

UNTARGETED = (cross_entropy, margin, difference_of_logits_ratio)
TARGETED = (targeted_margin, targeted_difference_of_logits_ratio)


@st.composite
def logits(draw, fewest: int = 2, most: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct logits [3, C] and labels [3]."""
    count = draw(st.integers(fewest, most))
    rows = [draw(st.lists(st.integers(-50, 50), min_size=count, max_size=count, unique=True)) for _ in range(3)]
    labels = draw(st.lists(st.integers(0, count - 1), min_size=3, max_size=3))
    return torch.tensor(rows, dtype=torch.float64) / 4, torch.tensor(labels)


def pairs(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Each label with another class as its target."""
    return torch.stack([labels, (labels + 1) % classes], 1)


@given(logits())
def test_margin_is_positive_exactly_where_misclassified(case) -> None:
    z, y = case
    assert torch.equal(margin(z, y, 0) > 0, z.argmax(1) != y)


@given(logits(), st.floats(0.1, 10), st.floats(-20, 20))
def test_ratios_ignore_shift_and_scale(case, scale: float, shift: float) -> None:
    z, y = case
    classes = z.shape[1]
    if classes >= 3:
        moved = difference_of_logits_ratio(z * scale + shift, y, 0)
        assert torch.allclose(moved, difference_of_logits_ratio(z, y, 0), atol=1e-9)
    if classes >= 4:
        aims = pairs(y, classes)
        moved = targeted_difference_of_logits_ratio(z * scale + shift, aims, 0)
        assert torch.allclose(moved, targeted_difference_of_logits_ratio(z, aims, 0), atol=1e-9)


@given(logits(fewest=3))
def test_ratio_against_its_definition_and_range(case) -> None:
    z, y = case
    found = difference_of_logits_ratio(z, y, 0)
    for row, label, value in zip(z.numpy(), y.tolist(), found.tolist(), strict=True):
        order = np.sort(row)[::-1]
        others = np.delete(row, label).max()
        assert value == pytest.approx(-(row[label] - others) / (order[0] - order[2] + 1e-12))
        if row.argmax() == label:
            assert -1 - 1e-9 <= value <= 0
        else:
            assert value >= 0


@given(logits(fewest=4))
def test_targeted_ratio_against_its_definition(case) -> None:
    z, y = case
    aims = pairs(y, z.shape[1])
    for row, (label, target), value in zip(
        z.numpy(), aims.tolist(), targeted_difference_of_logits_ratio(z, aims, 0).tolist(), strict=True
    ):
        order = np.sort(row)[::-1]
        assert value == pytest.approx((row[target] - row[label]) / (order[0] - (order[2] + order[3]) / 2 + 1e-12))


@given(logits(most=3))
def test_few_classes_fall_back_on_margins(case) -> None:
    z, y = case
    aims = pairs(y, z.shape[1])
    assert torch.equal(targeted_difference_of_logits_ratio(z, aims, 0), targeted_margin(z, aims, 0))
    if z.shape[1] == 2:
        assert torch.equal(difference_of_logits_ratio(z, y, 0), margin(z, y, 0))
        assert torch.equal(targeted_margin(z, aims, 0), margin(z, y, 0))


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
@pytest.mark.parametrize("kind", ["spread", "equal", "huge"])
def test_gradients_are_finite(classes: int, kind: str) -> None:
    z = {
        "spread": torch.linspace(-3, 3, classes).repeat(2, 1),
        "equal": torch.zeros(2, classes),
        "huge": torch.linspace(-1e4, 1e4, classes).repeat(2, 1),
    }[kind]
    y = torch.tensor([0, classes - 1])
    for objective in (*UNTARGETED, *TARGETED):
        leaf = z.clone().requires_grad_(True)
        value = objective(leaf, y if objective in UNTARGETED else pairs(y, classes), 0)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        assert bool(torch.isfinite(value).all())
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_a_correct_row_always_has_a_gradient_towards_some_wrong_class(classes: int) -> None:
    """The fallbacks exist because the ratios are constant there."""
    z, y = torch.linspace(3, -3, classes)[None].clone(), torch.tensor([0])
    leaf = z.requires_grad_(True)
    (gradient,) = torch.autograd.grad(difference_of_logits_ratio(leaf, y, 0).sum(), leaf)
    assert float(gradient.abs().sum()) > 0
    for target in range(1, classes):
        aim = torch.tensor([[0, target]])
        (gradient,) = torch.autograd.grad(targeted_difference_of_logits_ratio(leaf, aim, 0).sum(), leaf)
        assert float(gradient.abs().sum()) > 0
