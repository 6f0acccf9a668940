"""Means over seeds, differences, and verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from assay.core.estimates import Estimate, proportion
from reproductions.estimates import combine, difference, over_seeds, ratio, verdict

SHARES = st.integers(0, 1000).map(lambda count: count / 1000)


@given(st.lists(SHARES, min_size=2, max_size=6, unique=True))
def test_interval_over_seeds_is_students(values):
    found = over_seeds(values)
    lo, hi = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.lo, found.hi) == (pytest.approx(lo, abs=1e-9), pytest.approx(hi, abs=1e-9))
    assert found.n == len(values)


def test_one_training_keeps_the_interval_over_its_samples():
    single = proportion(80, 100)
    found = combine([single])
    assert (found.lo, found.hi, found.n) == (single.lo, single.hi, 1)
    assert "one training" in found.method


def test_trainings_that_are_all_alike_do_not_make_an_interval_of_no_width():
    found = combine([proportion(0, 100)] * 3)
    assert found.n == 3
    assert found.hi == proportion(0, 100).hi


def test_no_training_is_not_a_number():
    assert math.isnan(combine([]).value)


@given(SHARES, SHARES, SHARES, SHARES)
def test_a_difference_mirrors(a, b, down, up):
    first = Estimate(value=a, lo=a - down, hi=a + up, n=9, method="x")
    second = Estimate(value=b, lo=b - up, hi=b + down, n=9, method="x")
    there, back = difference(first, second), difference(second, first)
    assert there.value == -back.value
    assert (there.lo, there.hi) == (pytest.approx(-back.hi), pytest.approx(-back.lo))
    assert there.lo <= there.value <= there.hi


def test_a_difference_of_proportions_covers():
    rng = np.random.default_rng(0)
    p, q, n = 0.6, 0.3, 80
    draws = rng.binomial(n, [p, q], size=(400, 2))
    found = [difference(proportion(int(a), n), proportion(int(b), n)) for a, b in draws]
    assert np.mean([item.lo <= p - q <= item.hi for item in found]) >= 0.95


def test_a_ratio_to_nothing_is_infinite():
    assert ratio([proportion(5, 10)], [proportion(0, 10)]).value == math.inf
    assert ratio([proportion(5, 10)], [proportion(1, 10)]).value == pytest.approx(5)


@pytest.mark.parametrize(
    ("value", "lo", "expected"),
    [(0.2, 0.1, "holds"), (0.2, -0.1, "in the mean only"), (-0.1, -0.2, "fails"), (0.0, -0.1, "fails")],
)
def test_verdicts(value, lo, expected):
    assert verdict(Estimate(value=value, lo=lo, hi=1, n=3, method="x"), 0.0) == expected


def test_what_was_not_measured_is_not_run_and_one_value_alone_holds_in_the_mean_only():
    assert verdict(None, 0.0) == "not run"
    assert verdict(over_seeds([]), 0.0) == "not run"
    assert verdict(over_seeds([0.3]), 0.0) == "in the mean only"
