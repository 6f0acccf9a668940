"""The soft logit margin against its definition and its bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from assay.boundary import soft_margin
from assay.core.errors import DataError, SettingError


def exact(logits: Tensor, labels: Tensor) -> Tensor:
    """z_y - max of the others, row by row."""
    return torch.stack(
        [row[y] - torch.cat([row[:y], row[y + 1 :]]).max() for row, y in zip(logits, labels.tolist(), strict=True)]
    )


@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 12),
    temperature=st.sampled_from([0.1, 1.0, 5.0, 50.0]),
    scale=st.sampled_from([0.01, 1.0, 100.0]),
)
def test_between_the_exact_margin_and_log_k_below_it(seed: int, classes: int, temperature: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(7, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (7,), generator=generator)
    found, bound = soft_margin(logits, labels, temperature), exact(logits, labels)
    slack = 1e-9 * scale
    assert bool((found <= bound + slack).all())
    assert bool((found >= bound - math.log(classes - 1) / temperature - slack).all())
    torch.testing.assert_close(soft_margin(logits, labels, math.inf), bound)
    written_out = [
        row[y]
        - math.log(sum(math.exp(temperature * (float(z) - float(row.max()))) for j, z in enumerate(row) if j != y))
        / temperature
        - row.max()
        for row, y in zip(logits, labels.tolist(), strict=True)
        if temperature * scale <= 50
    ]
    if written_out:
        torch.testing.assert_close(found, torch.stack(written_out), rtol=1e-9, atol=1e-9 * max(1.0, scale))


def test_two_classes_have_the_difference_of_their_logits_at_every_temperature() -> None:
    logits, labels = torch.tensor([[3.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1])
    for temperature in (0.5, 5.0, math.inf):
        torch.testing.assert_close(soft_margin(logits, labels, temperature), torch.tensor([2.0, -2.0]))


def test_saturated_logits_give_finite_margins_and_gradients() -> None:
    logits = torch.tensor([[1e6, -1e6, 0.0], [-1e6, 1e6, 0.0]], requires_grad=True)
    margins = soft_margin(logits, torch.tensor([0, 0]))
    margins.sum().backward()
    torch.testing.assert_close(margins.detach(), torch.tensor([1e6, -2e6]))
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, 0.0, -1.0], [1.0, -1.0, 0.0]]))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_the_temperature_is_above_zero(temperature: float) -> None:
    with pytest.raises(SettingError, match="temperature"):
        soft_margin(torch.zeros(1, 2), torch.tensor([0]), temperature)


def test_shapes_are_checked() -> None:
    with pytest.raises(DataError, match="at least two classes"):
        soft_margin(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long))
    with pytest.raises(DataError, match=r"labels have shape \(2,\)"):
        soft_margin(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long))
