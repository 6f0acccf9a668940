"""Budgets in metric names."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.budgets import budget_text, same_name
from assay.core.settings import number


@given(st.integers(1, 254))
def test_steps_of_a_byte_are_read_back_exactly(steps: int) -> None:
    text = budget_text(steps / 255)
    assert number(text) == steps / 255
    assert text == f"{steps}/255" or len(text) <= 4


@pytest.mark.parametrize(
    ("eps", "text"),
    [(8 / 255, "8/255"), (1 / 255, "1/255"), (0.5, "0.5"), (0.0, "0"), (1.0, "1"), (12, "12"), (1 / 3, "85/255")],
)
def test_how_budgets_are_written(eps: float, text: str) -> None:
    assert budget_text(eps) == text


@given(st.floats(1e-6, 1e4))
def test_a_written_budget_means_the_same_number(eps: float) -> None:
    assert same_name(f"robust_accuracy@l2:{budget_text(eps)}", f"robust_accuracy@l2:{eps!r}")


def test_infinite_budgets_can_be_written() -> None:
    assert budget_text(math.inf) == "inf"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("robust_accuracy@linf:8/255", "robust_accuracy@linf:0.0313725490196", True),
        ("robust_accuracy@linf:8/255", "robust_accuracy@linf:0.03137", False),
        ("robust_accuracy @ linf : 8/255", "robust_accuracy@linf:8/255", True),
        ("robust_accuracy@linf:8/255", "robust_accuracy@l2:8/255", False),
        ("robust_accuracy@l2:0", "robust_accuracy@l2:0.0", True),
        ("clean_accuracy", "clean_accuracy", True),
        ("clean_accuracy", "robust_accuracy@l2:1", False),
        ("median_distance@l2", "median_distance@l2", True),
        ("a@l2:x", "a@l2:x", True),
        ("a@l2:x", "a@l2:1", False),
        ("a:1", "a:1.0", False),
    ],
)
def test_which_names_are_the_same(first: str, second: str, same: bool) -> None:
    assert same_name(first, second) is same
    assert same_name(second, first) is same
