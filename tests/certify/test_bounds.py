"""Exact bounds against SciPy, the identities they keep, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, norm

from assay.certify import certified_radius, clopper_pearson_lower, clopper_pearson_upper, largest_radius
from assay.certify.bounds import check_reach, votes_needed
from assay.core.errors import SettingError

levels = st.sampled_from([0.5, 0.05, 0.001, 1e-6])


@st.composite
def counts(draw: st.DrawFn, largest: int = 5000) -> tuple[int, int]:
    n = draw(st.integers(1, largest))
    return draw(st.one_of(st.just(0), st.just(n), st.integers(0, n))), n


@given(counts(), levels)
def test_bounds_are_those_of_scipy(pair: tuple[int, int], alpha: float) -> None:
    k, n = pair
    below = binomtest(k, n, alternative="greater").proportion_ci(1 - alpha, "exact").low
    above = binomtest(k, n, alternative="less").proportion_ci(1 - alpha, "exact").high
    assert clopper_pearson_lower(k, n, alpha) == pytest.approx(below, rel=1e-9, abs=1e-12)
    assert clopper_pearson_upper(k, n, alpha) == pytest.approx(above, rel=1e-9, abs=1e-12)


@given(counts(), levels)
def test_upper_is_lower_of_the_failures(pair: tuple[int, int], alpha: float) -> None:
    k, n = pair
    assert clopper_pearson_upper(k, n, alpha) == 1 - clopper_pearson_lower(n - k, n, alpha)


@given(st.integers(1, 3000), levels, st.sampled_from([0.25, 1.0]))
def test_radius_never_falls_with_more_votes(n: int, alpha: float, sigma: float) -> None:
    found = certified_radius(np.arange(n + 1), n, alpha, sigma)
    assert (np.diff(found.radius) >= 0).all()
    assert ((found.radius == 0) | ~found.abstained).all()
    assert found.radius[-1] == pytest.approx(largest_radius(n, alpha, sigma))


def test_the_radius_is_the_published_one() -> None:
    k, n, alpha, sigma = 99_000, 100_000, 0.001, 0.5
    expected = sigma * norm.ppf(beta.ppf(alpha, k, n - k + 1))
    assert certified_radius(k, n, alpha, sigma) == (pytest.approx(expected, rel=1e-12), False)
    assert largest_radius(100_000, 0.001, 1.0) == pytest.approx(norm.ppf(0.001 ** (1 / 100_000)))


def test_scalars_give_plain_numbers_and_arrays_arrays() -> None:
    radius, abstained = certified_radius(10, 100, 0.001, 0.5)
    assert (radius, abstained) == (0.0, True)
    assert type(radius) is float
    assert type(abstained) is bool
    assert certified_radius([10, 100], 100, 0.001, 0.5).abstained.tolist() == [True, False]


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(("radius", "sigma"), [(0.25, 0.5), (0.75, 0.25), (1.0, 0.25)])
def test_votes_needed_is_the_fewest(radius: float, sigma: float, sequential: bool) -> None:
    enough = votes_needed(radius, 0.001, sigma, sequential=sequential)
    assert enough is not None
    assert largest_radius(enough, 0.001, sigma, sequential=sequential) >= radius
    assert largest_radius(enough - 1, 0.001, sigma, sequential=sequential) < radius
    check_reach(radius, enough + 1, 0.001, sigma, sequential=sequential)
    with pytest.raises(SettingError, match="raise n to"):
        check_reach(radius, enough - 1, 0.001, sigma, sequential=sequential)


def test_a_radius_that_no_number_of_votes_proves() -> None:
    assert votes_needed(10.0, 0.001, 0.5) is None
    with pytest.raises(SettingError, match="use a larger sigma"):
        check_reach(10.0, 1000, 0.001, 0.5, sequential=True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"count": 11}, "0 <= count <= n"),
        ({"count": -1}, "0 <= count <= n"),
        ({"count": 2.5}, "whole numbers"),
        ({"count": float("nan")}, "whole numbers"),
        ({"count": "many"}, "whole numbers"),
        ({"count": 0, "n": 0}, "n at least 1"),
        ({"alpha": 0.0}, "alpha is 0.0; allowed"),
        ({"alpha": 1}, "alpha is 1; allowed"),
        ({"sigma": 0.0}, "sigma is 0.0; allowed: above 0"),
        ({"sigma": -1.0}, "sigma is -1.0"),
        ({"sigma": float("nan")}, "sigma is nan"),
    ],
)
def test_mistakes(changes: dict[str, object], sentence: str) -> None:
    given = {"count": 9, "n": 10, "alpha": 0.001, "sigma": 0.5, **changes}
    with pytest.raises(SettingError, match=sentence):
        certified_radius(**given)  # type: ignore[arg-type]
