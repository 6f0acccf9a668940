"""Tails against exact sums of whole numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from assay.watermark.schemes.base import EXPONENTIAL
from assay.watermark.statistics import (
    Null,
    critical_count,
    gamma_quantile,
    log_binomial_tail,
    log_gamma_tail,
    log_hypergeometric_tail,
    normal_tail,
)

from .toys import Toy


def log_of(value: Fraction) -> float:
    """ln of a fraction of any size."""
    top, bottom = value.numerator, value.denominator
    shift = top.bit_length() - bottom.bit_length()
    scaled = Fraction(top, bottom) / Fraction(2) ** shift
    return math.log(float(scaled)) + shift * math.log(2)


@given(
    st.integers(0, 400), st.data(), st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(1, 64), Fraction(7, 8)])
)
@settings(max_examples=60, deadline=None)
def test_binomial_tail_is_exact(trials: int, data: st.DataObject, rate: Fraction) -> None:
    g = data.draw(st.integers(0, trials))
    exact = sum(
        (math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(g, trials + 1)), Fraction(0)
    )
    found = float(log_binomial_tail(g, trials, float(rate)))
    assert found == pytest.approx(log_of(exact), rel=1e-9, abs=1e-9)


def test_binomial_tail_far_out_and_at_the_ends() -> None:
    assert log_binomial_tail(0, 10, 0.3) == 0.0
    assert log_binomial_tail(0, 0, 0.3) == 0.0
    assert log_binomial_tail(11, 10, 0.3) == -math.inf
    assert log_binomial_tail(5000, 5000, 0.25) == pytest.approx(5000 * math.log(0.25))
    far = log_binomial_tail([400_000, 600_000], 1_000_000, 0.25)
    assert np.isfinite(far).all()
    assert far[1] < far[0] < -50_000
    exact = math.log(math.comb(3000, 2900) * 3**100) - 3000 * math.log(4)  # the first term carries nearly all
    assert float(log_binomial_tail(2900, 3000, 0.25)) == pytest.approx(exact + 0.0117, abs=2e-3)


def test_binomial_tail_has_no_seam_where_the_series_takes_over() -> None:
    g = np.arange(400, 1000)
    logs = log_binomial_tail(g, 1000, 0.25)
    assert (np.diff(logs) < 0).all()
    assert (np.diff(logs, 2) < 1e-6).all()  # log-concave


@given(st.integers(2, 60), st.data())
@settings(max_examples=80, deadline=None)
def test_hypergeometric_tail_is_exact(population: int, data: st.DataObject) -> None:
    marked = data.draw(st.integers(1, population - 1))
    trials = data.draw(st.integers(0, population))
    g = data.draw(st.integers(0, trials + 1))
    ways = sum(math.comb(marked, k) * math.comb(population - marked, trials - k) for k in range(g, trials + 1))
    found = float(log_hypergeometric_tail(g, trials, population, marked))
    if not ways:
        assert found == -math.inf
    else:
        assert found == pytest.approx(log_of(Fraction(ways, math.comb(population, trials))), rel=1e-9, abs=1e-9)


def test_hypergeometric_tail_is_below_the_binomial_one_and_near_it_for_few_draws() -> None:
    g = np.arange(60, 150, 10)
    narrow = log_hypergeometric_tail(g, 200, 50_000, 12_500)
    wide = log_binomial_tail(g, 200, 0.25)
    assert (narrow < wide).all()
    assert np.allclose(narrow, wide, rtol=0.01)


@given(st.integers(1, 60), st.floats(0.01, 3000))
@settings(max_examples=80, deadline=None)
def test_gamma_tail_is_exact(count: int, score: float) -> None:
    k = np.arange(count)
    exact = -score + logsumexp(k * math.log(score) - np.array([math.lgamma(i + 1) for i in k]))
    assert float(log_gamma_tail(score, count)) == pytest.approx(float(exact), rel=1e-8, abs=1e-8)


def test_gamma_tail_at_the_ends() -> None:
    assert log_gamma_tail(0.0, 0) == 0.0
    assert log_gamma_tail(0.0, 5) == 0.0
    assert log_gamma_tail(1e5, 3) == pytest.approx(-1e5 + 2 * math.log(1e5) - math.log(2), abs=1e-3)


@given(st.integers(1, 5000), st.floats(-3000, -1e-3))
@settings(max_examples=80, deadline=None)
def test_gamma_quantile_is_the_inverse_of_the_tail(count: int, log_tail: float) -> None:
    assert float(log_gamma_tail(gamma_quantile(log_tail, count), count)) == pytest.approx(log_tail, rel=1e-7, abs=1e-7)


@given(st.integers(0, 300), st.floats(0.02, 0.9), st.floats(1e-12, 0.5))
@settings(max_examples=60, deadline=None)
def test_critical_count_is_the_first_whose_tail_is_small_enough(trials: int, rate: float, fpr: float) -> None:
    least = int(critical_count(trials, rate, fpr))
    tails = log_binomial_tail(np.arange(trials + 2), trials, rate)
    assert least == int(np.argmax(tails <= math.log(fpr)))


def test_shapes_follow_the_arguments() -> None:
    assert log_binomial_tail(1, 2, 0.5).shape == ()
    assert log_binomial_tail([1], 2, 0.5).shape == (1,)
    assert log_gamma_tail([[1.0, 2.0]], 3).shape == (1, 2)
    assert log_hypergeometric_tail(1, [2, 3], 9, 3).shape == (2,)
    assert critical_count(5, 0.5, 0.1).shape == ()


def test_z_is_the_published_one_and_the_normal_tail_belongs_to_it() -> None:
    null = Null.of(Toy(gamma=0.25))
    z = null.z(np.array([70]), np.array([200]))
    assert z[0] == (70 - 50) / math.sqrt(200 * 0.25 * 0.75)
    assert float(normal_tail(1.6448536269514722)) == pytest.approx(0.05)
    assert Null.of(Toy(null=EXPONENTIAL)).z(np.array([12.0]), np.array([4]))[0] == 4.0
    assert null.z(np.array([0]), np.array([0]))[0] == 0.0


def test_a_null_knows_its_scheme_but_no_key() -> None:
    null = Null.of(Toy(fixed=True, key=918273645, hard=True))
    assert null.population == (1000, 250)
    assert null.delta == math.inf
    assert "918273645" not in repr(null)
    assert Null.of(Toy(key=918273645)).population is None
