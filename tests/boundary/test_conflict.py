"""The share of vulnerable samples that lose margin, and how it depends on the margin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.boundary.conflict import conflict, conflict_by_margin, left_out
from assay.core.errors import DataError, SettingError
from assay.core.estimates import clopper_pearson

NUMBERS = st.one_of(st.floats(-1, 1), st.sampled_from([math.nan, math.inf, -math.inf, 0.0]))


def test_only_vulnerable_samples_with_a_speed_count() -> None:
    speed = [-1.0, -2.0, 3.0, 0.0, -1.0, -1.0, math.nan, -1.0]
    margin = [0.01, 0.02, 0.03, 0.01, 0.5, -0.01, 0.01, math.inf]
    found = conflict(speed, margin, 0.1)
    assert (found.value, found.n) == (0.5, 4)
    assert (found.lo, found.hi) == clopper_pearson(2, 4)
    assert left_out(speed, margin) == 2
    assert conflict(speed, margin, math.inf).n == 5
    assert conflict(speed, margin).n == 4  # 0.03 < 8/255


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30), st.floats(0.01, 1))
def test_it_agrees_with_counting(pairs: list[tuple[float, float]], below: float) -> None:
    speed, margin = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    vulnerable = [s for s, r in pairs if math.isfinite(s) and math.isfinite(r) and 0 < r < below]
    found = conflict(speed, margin, below)
    assert found.n == len(vulnerable)
    if vulnerable:
        assert found.value == sum(s < 0 for s in vulnerable) / len(vulnerable)
    else:
        assert math.isnan(found.value)
    bins = conflict_by_margin(speed, margin, [-math.inf, 0.0, below, math.inf])
    assert sum(item.closer.n for item in bins) + left_out(speed, margin) == len(pairs)


def test_bins_hold_their_samples() -> None:
    speed, margin = np.array([-1.0, 3.0, -2.0, 0.0, 5.0]), np.array([-0.2, 0.0, 0.05, 0.05, 0.1])
    wrong, near, far = conflict_by_margin(speed, margin, [-math.inf, 0.0, 0.1, math.inf])
    assert (wrong.closer.value, wrong.away.value, wrong.closer.n) == (1.0, 0.0, 1)
    assert (near.closer.value, near.away.value) == (1 / 3, 1 / 3)
    assert near.speed.value == pytest.approx(1 / 3)
    assert near.speed.lo < 1 / 3 < near.speed.hi
    assert (far.low, far.high, far.speed.value) == (0.1, math.inf, 5.0)


def test_without_vulnerable_samples_nothing_is_known() -> None:
    found = conflict([1.0, -1.0], [0.5, 0.6], 0.1)
    assert math.isnan(found.value)
    assert (found.lo, found.hi, found.n) == (0.0, 1.0, 0)
    assert conflict([], []).n == 0
    (only,) = conflict_by_margin([], [], [0, 1])
    assert math.isnan(only.speed.value)


def test_what_cannot_be_used() -> None:
    with pytest.raises(DataError, match="over the same samples"):
        conflict([1.0], [0.1, 0.2])
    with pytest.raises(DataError, match="over the same samples"):
        conflict_by_margin([[1.0]], [[0.1]], [0, 1])
    with pytest.raises(SettingError, match="below is 0"):
        conflict([1.0], [0.1], 0)
    with pytest.raises(SettingError, match="ascending"):
        conflict_by_margin([1.0], [0.1], [0, 1, 1])
