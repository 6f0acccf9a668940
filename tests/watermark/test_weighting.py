"""Weighted sums: z and exact p-values against enumeration, and calibration of weighted detection."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaincc

from assay.core.errors import DataError
from assay.watermark.detection import detect, detect_many
from assay.watermark.schemes.base import EXPONENTIAL
from assay.watermark.statistics import Null, log_binomial_tail
from assay.watermark.weighting import LEVELS, entropy_weights, weighted_log_tail

from .toys import Toy, marked, matches, not_above

HITS = Null.of(Toy(gamma=0.25))
SUMS = Null.of(Toy(null=EXPONENTIAL))


@given(st.lists(st.tuples(st.integers(0, LEVELS), st.booleans()), min_size=1, max_size=11))
@settings(max_examples=60, deadline=None)
def test_the_tail_of_weighted_hits_is_exact(pairs: list[tuple[int, bool]]) -> None:
    weights = np.array([weight for weight, _ in pairs], dtype=np.float64)
    weights[0] = LEVELS  # so that rounding changes nothing
    values = np.array([hit for _, hit in pairs])
    score, z, log_p = weighted_log_tail(HITS, values, weights / LEVELS)
    exact = sum(
        0.25 ** sum(hits) * 0.75 ** (len(hits) - sum(hits))
        for hits in itertools.product((0, 1), repeat=len(weights))
        if np.dot(hits, weights) >= values @ weights
    )
    assert score == pytest.approx(values @ weights / LEVELS)
    assert log_p == pytest.approx(math.log(exact), abs=1e-9)
    assert z == pytest.approx((values @ weights - 0.25 * weights.sum()) / math.sqrt(0.1875 * weights @ weights))


@pytest.mark.parametrize(
    ("count", "green"), [(40, 0), (40, 10), (200, 90), (2000, 900), (2000, 2000), (30_000, 15_000)]
)
def test_equal_weights_are_no_weights(count: int, green: int) -> None:
    values = np.arange(count) < green
    _, _, log_p = weighted_log_tail(HITS, values, np.full(count, 0.3))
    assert log_p == pytest.approx(float(log_binomial_tail(green, count, 0.25)), rel=1e-8, abs=1e-9)
    total = np.linspace(0.5, 1.5, count)
    _, _, log_p = weighted_log_tail(SUMS, total, np.full(count, 0.3))
    assert math.exp(log_p) == pytest.approx(float(gammaincc(count, total.sum())), rel=1e-7)


def test_two_sizes_of_weights_convolve() -> None:
    rng = np.random.default_rng(0)
    heavy, light = rng.random(60) < 0.6, rng.random(90) < 0.5
    weights = np.concatenate([np.full(60, 1.0), np.full(90, 0.25)])
    _, _, log_p = weighted_log_tail(HITS, np.concatenate([heavy, light]), weights)
    needed = 4 * heavy.sum() + light.sum()
    a = np.array([math.comb(60, k) * 0.25**k * 0.75 ** (60 - k) for k in range(61)])
    exact = sum(a[k] * np.exp(log_binomial_tail(needed - 4 * k, 90, 0.25)) for k in range(61))
    assert math.exp(log_p) == pytest.approx(float(exact), rel=1e-8)
    assert log_p < -15


@pytest.mark.parametrize("count", [1, 2, 3, 6, 12])
def test_the_tail_of_weighted_exponentials_is_exact(count: int) -> None:
    """Different weights: Σ_i w_i^(n-1) / Π_{j≠i} (w_i - w_j) e^(-s/w_i)."""
    w = np.linspace(1.0, 0.3, count)
    for score in (0.05, 0.5, 2.0, 8.0, 30.0, 200.0):
        terms = [w[i] ** (count - 1) / np.prod(np.delete(w[i] - w, i)) * math.exp(-score / w[i]) for i in range(count)]
        values = np.full(count, score / w.sum())
        total, z, log_p = weighted_log_tail(SUMS, values, w)
        assert total == pytest.approx(score)
        assert z == pytest.approx((score - w.sum()) / math.sqrt(w @ w))
        assert math.exp(log_p) == pytest.approx(sum(terms), rel=1e-5, abs=1e-12), score


def test_far_tails_of_weighted_sums_are_finite_and_ordered() -> None:
    rng = np.random.default_rng(1)
    weights = rng.random(2000)
    logs = [weighted_log_tail(HITS, np.arange(2000) < green, weights)[2] for green in (300, 600, 1200, 1800, 2000)]
    assert all(b < a for a, b in itertools.pairwise(logs))
    assert -3000 < logs[-1] < -2600
    logs = [weighted_log_tail(SUMS, np.full(300, mean), weights[:300])[2] for mean in (0.5, 1.0, 2.0, 5.0, 50.0)]
    assert all(b < a for a, b in itertools.pairwise(logs))
    assert -10_000 < logs[-1] < -3000


def test_p_values_of_weighted_detection_are_calibrated() -> None:
    rng = np.random.default_rng(2)
    docs = rng.integers(0, 10_000, (1500, 60))
    weights = rng.gamma(0.5, size=docs.shape)
    found = detect_many(Toy(vocab_size=10_000), docs, weights=weights)
    not_above([one.p_value for one in found])
    matches([one.p_value for one in found], (0.3, 0.1, 0.03), slack=0.05)
    matches(
        [
            one.p_value
            for one in detect_many(Toy(vocab_size=10_000, null=EXPONENTIAL), docs[:600], weights=weights[:600])
        ]
    )


@pytest.mark.parametrize("null", ["bernoulli", "exponential"])
def test_repeats_and_low_entropy_weigh_nothing(null: str) -> None:
    scheme = Toy(null=null, entropy_threshold=0.5)
    ids, weights = [1, 2, 1, 2, 1, 3, 4], np.array([9.0, 1.0, 0.5, 7.0, 8.0, 0.25, 5.0])
    entropies = [1.0] * 6 + [0.1]
    found = detect(scheme, ids, weights=weights, entropies=entropies)
    assert np.flatnonzero(found.counted).tolist() == [0, 1, 4]
    alone = weighted_log_tail(
        Null.of(scheme), scheme.score(np.array([[1], [2], [1]]), np.array([2, 1, 3])), weights[[1, 2, 5]]
    )
    assert (found.score, found.z, found.log_p) == pytest.approx(alone)


def test_weights_find_a_mark_that_only_free_tokens_carry() -> None:
    scheme = Toy(vocab_size=5000)
    free, fixed = marked(scheme, 60), np.random.default_rng(3).integers(0, 5000, 400).tolist()
    entropies = [0.9] * 60 + [0.4] * 400
    weights = entropy_weights(entropies, floor=0.39)
    weighted, plain = detect(scheme, free + fixed, weights=weights), detect(scheme, free + fixed)
    assert weighted.log_p < plain.log_p - 5
    assert weighted.scored == plain.scored
    assert weighted.green == plain.green


def test_entropy_weights() -> None:
    assert entropy_weights([0.5, math.nan, 0.75]).tolist() == [0.0, 0.0, 0.25]
    assert entropy_weights([math.nan]).tolist() == [0.0]
    assert entropy_weights([]).tolist() == []


def test_weights_that_are_none() -> None:
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="A weight is"):
            detect(Toy(), [1, 2, 3], weights=[bad, 1.0, bad])
    assert detect(Toy(), [1, 2, 3], weights=[math.nan, 1.0, 1.0]).scored == 2  # the first token is no target
    nothing = detect(Toy(), [1, 2, 3], weights=[0.0, 0.0, 0.0])
    assert (nothing.z, nothing.p_value) == (0.0, 1.0)
