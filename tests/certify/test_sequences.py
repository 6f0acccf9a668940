"""Confidence sequences: the evidence is the mixture it claims to be, and the bounds cover at all times."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom

from assay.certify import clopper_pearson_lower, clopper_pearson_upper, confidence_sequence
from assay.certify.sequences import log_evidence, shows_more_than
from assay.core.errors import SettingError

levels = st.sampled_from([0.05, 0.001, 1e-6])


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.one_of(st.integers(1, 300), st.integers(1, 1_000_000)))
    return draw(st.one_of(st.just(0), st.just(n), st.integers(0, n))), n


@given(counts(), levels)
def test_bounds_lie_around_the_rate_and_outside_the_exact_ones(pair: tuple[int, int], alpha: float) -> None:
    k, n = pair
    one, two = confidence_sequence(k, n, alpha, side="lower").lower, confidence_sequence(k, n, alpha)
    assert 0 <= two.lower <= k / n <= two.upper <= 1
    assert 0 <= one <= clopper_pearson_lower(k, n, alpha)
    assert confidence_sequence(k, n, alpha, side="upper").upper >= clopper_pearson_upper(k, n, alpha)


@given(counts(), levels)
def test_the_upper_bound_is_the_lower_one_of_the_failures(pair: tuple[int, int], alpha: float) -> None:
    k, n = pair
    for side, other in (("both", "both"), ("lower", "upper")):
        lower = confidence_sequence(n - k, n, alpha, side=side).lower
        assert confidence_sequence(k, n, alpha, side=other).upper == 1 - lower


@given(counts(), levels, st.floats(0.5, 0.9999))
def test_one_evaluation_decides_as_the_bound_does(pair: tuple[int, int], alpha: float, p: float) -> None:
    k, n = pair
    lower = confidence_sequence(k, n, alpha, side="lower").lower
    if abs(lower - p) > 1e-9:
        assert bool(shows_more_than(k, n, p, alpha)) == (lower > p)


@given(counts(), levels)
def test_the_evidence_at_the_bound_is_one_over_alpha(pair: tuple[int, int], alpha: float) -> None:
    k, n = pair
    for side in ("lower", "both"):
        lower = confidence_sequence(k, n, alpha, side=side).lower
        ceiling = (k - (0.5 if side == "lower" else 0)) / n
        if 1e-6 < lower < min(ceiling, 1) - 1e-6:
            around = log_evidence(k, n, np.array([lower - 1e-9, lower + 1e-9]), alone=side == "lower")
            assert around[0] >= -math.log(alpha) - 1e-6
            assert around[1] <= -math.log(alpha) + 1e-6 + n * 1e-8


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (3, 5), (12, 12), (19, 25), (2, 40)])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_evidence_is_the_mixture_of_likelihood_ratios(k: int, n: int, p: float) -> None:
    def ratio(q: float) -> float:
        return float((q / p) ** k * ((1 - q) / (1 - p)) ** (n - k) * beta.pdf(q, 0.5, 0.5))

    both = quad(ratio, 0, p)[0] + quad(ratio, p, 1)[0]
    above = quad(ratio, p, 1)[0] / beta.sf(p, 0.5, 0.5)
    assert float(log_evidence(k, n, p, alone=False)) == pytest.approx(math.log(both), abs=1e-6)
    assert float(log_evidence(k, n, p, alone=True)) == pytest.approx(math.log(above), abs=1e-6)


@given(counts())
def test_the_one_sided_evidence_falls_up_to_the_rate(pair: tuple[int, int]) -> None:
    """What makes bisection right: below (k - 1/2) / n, every smaller p is rejected as well."""
    k, n = pair
    if k == 0:
        return
    grid = np.linspace(0, (k - 0.5) / n, 400)[1:]
    assert (np.diff(log_evidence(k, n, grid)) <= 1e-6).all()


@pytest.mark.parametrize("p", [0.5, 0.8, 0.99])
@pytest.mark.parametrize("side", ["lower", "upper", "both"])
def test_coverage_at_all_times_at_once(p: float, side: str) -> None:
    """Simulated: the share of streams whose bounds ever miss the truth is at most alpha, up to chance."""
    streams, length, alpha = 1000, 250, 0.05
    rng = np.random.default_rng([int(100 * p), len(side)])
    k = (rng.random((streams, length)) < p).cumsum(1)
    trials = np.arange(1, length + 1)

    def ever(misses: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
        """Share of streams with a miss at any time; each pair of count and trials is decided once."""
        counts, n = np.meshgrid(np.arange(length + 1), trials, indexing="ij")
        table = misses(np.minimum(counts, n), n)
        return float(table[k, trials - 1].any(1).mean())

    rules = {
        "both": lambda k, n: log_evidence(k, n, p, alone=False) >= -math.log(alpha),
        "lower": lambda k, n: shows_more_than(k, n, p, alpha),
        "upper": lambda k, n: shows_more_than(n - k, n, 1 - p, alpha),
    }
    assert ever(rules[side]) <= binom.ppf(0.9999, streams, alpha) / streams
    near = ever(lambda k, n: shows_more_than(k, n, p - 0.2, alpha))
    assert near > 0.9, "a bound that never comes near the truth would cover as well"


def test_examples_of_the_derivation() -> None:
    assert confidence_sequence(990, 1000, 0.001, side="lower").lower == pytest.approx(0.971, abs=5e-4)
    assert confidence_sequence(990, 1000, 0.001).lower == pytest.approx(0.968, abs=5e-4)


@pytest.mark.parametrize(("side", "alpha"), [("left", 0.1), ("both", 0.0), ("both", 1.5)])
def test_mistakes(side: str, alpha: float) -> None:
    with pytest.raises(SettingError, match="allowed"):
        confidence_sequence(1, 2, alpha, side=side)
