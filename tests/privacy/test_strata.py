from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import InputError
from assay.core.estimates import Estimate
from assay.privacy.strata import (
    bonferroni,
    independent_difference,
    mean_by_t,
    most_different,
    paired_rates,
    rates,
    strata_of,
    widest_gap,
)

from .runs import three_classes


def test_strata_are_the_groups_or_else_the_classes() -> None:
    classes = strata_of(three_classes(6))
    assert (classes.kind, classes.names, classes.present) == ("class", ("p", "q", "r"), ("p", "q", "r"))
    assert classes.rows("q").tolist() == [1, 4]
    assert classes.stratum("q") == "class=q"
    grouped = strata_of(three_classes(6, groups=True))
    assert (grouped.kind, grouped.names, grouped.numbers.tolist()) == ("group", ("a", "b"), [0, 1, 0, 1, 0, 1])
    assert strata_of(three_classes(6, groups=True), "class").kind == "class"
    assert strata_of(three_classes(2)).present == ("p", "q")
    with pytest.raises(InputError, match="--group"):
        strata_of(three_classes(6), "group")


def test_rates_are_of_the_groups_that_are_there() -> None:
    strata = strata_of(three_classes(4))
    found = rates(np.array([True, False, True, False]), strata)
    assert {name: (item.value, item.n) for name, item in found.items()} == {"p": (0.5, 2), "q": (0, 1), "r": (1, 1)}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_paired_difference_lies_in_its_interval(pairs: list[tuple[bool, bool]]) -> None:
    first, second = np.array(pairs).T
    one, other = paired_rates(first, second), paired_rates(second, first)
    assert -1 <= one.lo <= one.value <= one.hi <= 1
    assert one.lo < one.hi
    assert (other.value, other.lo, other.hi) == pytest.approx((-one.value, -one.hi, -one.lo))
    assert one.value == pytest.approx(first.mean() - second.mean())


@pytest.mark.parametrize(
    ("n", "cells"), [(20, (0.7, 0.2, 0.02, 0.08)), (45, (0.6, 0.35, 0.0, 0.05)), (30, (1, 0, 0, 0))]
)
def test_the_paired_interval_covers(n: int, cells: tuple[float, ...]) -> None:
    """Both right, first only, second only, neither: at least 93 % of 2000 draws are covered."""
    rng = np.random.default_rng(0)
    truth = cells[1] - cells[2]
    covered = 0
    for _ in range(2000):
        both, one, other, none = rng.multinomial(n, cells)
        first = np.repeat([True, True, False, False], [both, one, other, none])
        second = np.repeat([True, False, True, False], [both, one, other, none])
        estimate = paired_rates(first, second)
        covered += estimate.lo <= truth <= estimate.hi
    assert covered >= 0.93 * 2000


def test_student_intervals() -> None:
    assert str(mean_by_t([1.0, 2.0, 3.0, math.nan])) == "2.000 [-0.484, 4.484], n=3"
    assert math.isnan(mean_by_t([]).value)
    single = mean_by_t([4.0])
    assert single.value == 4
    assert math.isnan(single.lo)


def test_differences_and_gaps() -> None:
    def of(value: float, lo: float, hi: float) -> Estimate:
        return Estimate(value=value, lo=lo, hi=hi, n=10, method="m")

    difference = independent_difference(of(0.6, 0.3, 0.7), of(0.2, 0.1, 0.6))
    assert (difference.value, difference.lo, difference.hi) == pytest.approx((0.4, -0.1, 0.4 + math.hypot(0.1, 0.1)))
    gap = widest_gap({"a": of(0.9, 0.8, 0.95), "b": of(0.5, 0.4, 0.6), "c": of(0.7, 0.1, 1.0)})
    assert (gap.value, gap.lo, gap.hi) == pytest.approx((0.4, 0.2, 0.9))
    assert widest_gap({"a": of(0.9, 0.1, 1.0), "b": of(0.5, 0.4, 0.6)}).lo == 0
    assert bonferroni(5) == pytest.approx(0.99)


def test_the_groups_drawn_are_the_extremes_in_their_order() -> None:
    values = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.2, "e": math.nan}
    assert most_different(values, 3) == ("a", "b", "c")
    assert most_different(values, 9) == ("a", "b", "c", "d")
    assert most_different({}, 2) == ()
