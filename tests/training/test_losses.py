"""Losses against the slow obvious sums."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.training.losses import cross_entropy, kl_divergence
from assay.training.mart import boosted_cross_entropy

ROWS = st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=4)


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


@given(rows=ROWS, smoothing=st.floats(0, 0.9))
def test_cross_entropy(rows: list[list[float]], smoothing: float) -> None:
    labels = [i % 3 for i in range(len(rows))]
    expected = []
    for row, label in zip(rows, labels, strict=True):
        target = [smoothing / 3 + (1 - smoothing) * (k == label) for k in range(3)]
        expected.append(-sum(q * math.log(p) for q, p in zip(target, softmax(row), strict=True)))
    found = cross_entropy(torch.tensor(rows), torch.tensor(labels), smoothing)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


@given(first=ROWS, second=ROWS)
def test_kl_divergence(first: list[list[float]], second: list[list[float]]) -> None:
    count = min(len(first), len(second))
    first, second = first[:count], second[:count]
    expected = [
        sum(p * math.log(p / q) for p, q in zip(softmax(a), softmax(b), strict=True))
        for a, b in zip(first, second, strict=True)
    ]
    found = kl_divergence(torch.tensor(first), torch.tensor(second))
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


@given(rows=ROWS)
def test_boosted_cross_entropy(rows: list[list[float]]) -> None:
    labels = [i % 3 for i in range(len(rows))]
    expected = []
    for row, label in zip(rows, labels, strict=True):
        p = softmax(row)
        rival = max(value for k, value in enumerate(p) if k != label)
        expected.append(-math.log(p[label]) - math.log(1.0001 - rival))
    found = boosted_cross_entropy(torch.tensor(rows), torch.tensor(labels))
    assert found.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 0])
    total = boosted_cross_entropy(logits, labels).sum() + kl_divergence(logits, logits.flip(1)).sum()
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()
