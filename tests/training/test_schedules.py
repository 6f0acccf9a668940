"""Learning rates over time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.training.schedules import SCHEDULES, factor


@given(name=st.sampled_from(sorted(SCHEDULES)), total=st.integers(1, 200), warmup=st.integers(0, 50), data=st.data())
def test_every_factor_is_a_share_and_falls_after_the_warmup(
    name: str, total: int, warmup: int, data: st.DataObject
) -> None:
    warmup = min(warmup, total - 1)
    step = data.draw(st.integers(0, total - 1))
    value = factor(name, step, total=total, warmup=warmup)
    assert 0 < value <= 1
    if warmup <= step < total - 1:
        assert factor(name, step + 1, total=total, warmup=warmup) <= value
    if step + 1 < warmup:
        assert factor(name, step + 1, total=total, warmup=warmup) > value


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("multistep", [1, 1, 0.1, 0.01]),
        ("cosine", [(1 + math.cos(math.pi * t)) / 2 for t in (0, 0.25, 0.5, 0.75)]),
    ],
)
def test_known_values(name: str, expected: list[float]) -> None:
    assert [factor(name, step, total=4) for step in range(4)] == pytest.approx(expected)
