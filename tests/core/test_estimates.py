"""Intervals and tests against SciPy, statsmodels and simulated coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from assay.core.errors import InputError
from assay.core.estimates import (
    Estimate,
    bootstrap,
    clopper_pearson,
    holm,
    mcnemar,
    paired_difference,
    proportion,
    quantile,
    wilson,
)

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.floats(0.5, 0.999)


@given(counts, levels)
def test_clopper_pearson_is_that_of_statsmodels(pair: tuple[int, int], level: float) -> None:
    expected = proportion_confint(*pair, alpha=1 - level, method="beta")
    assert clopper_pearson(*pair, level) == pytest.approx(expected, abs=1e-9)


@given(counts, levels)
def test_wilson_is_that_of_statsmodels(pair: tuple[int, int], level: float) -> None:
    expected = proportion_confint(*pair, alpha=1 - level, method="wilson")
    assert wilson(*pair, level) == pytest.approx(expected, abs=1e-9)


@given(counts, levels, st.sampled_from(["clopper-pearson", "wilson"]))
def test_the_interval_holds_the_rate_and_grows_with_the_level(pair: tuple[int, int], level: float, method: str) -> None:
    found = proportion(*pair, level=level, method=method)
    wider = proportion(*pair, level=(1 + level) / 2, method=method)
    assert 0 <= wider.lo <= found.lo <= found.value <= found.hi <= wider.hi <= 1


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_clopper_pearson_covers_at_least_its_level_for_every_rate(n: int, level: float) -> None:
    intervals = np.array([clopper_pearson(k, n, level) for k in range(n + 1)])
    for rate in np.linspace(0.001, 0.999, 401):
        covered = (intervals[:, 0] <= rate) & (rate <= intervals[:, 1])
        assert binom.pmf(np.arange(n + 1), n, rate)[covered].sum() >= level - 1e-9


def test_wilson_covers_its_level_on_average_and_is_shorter() -> None:
    n, rates = 40, np.linspace(0.05, 0.95, 181)
    intervals = np.array([wilson(k, n) for k in range(n + 1)])
    coverage = [
        binom.pmf(np.arange(n + 1), n, rate)[(intervals[:, 0] <= rate) & (rate <= intervals[:, 1])].sum()
        for rate in rates
    ]
    assert abs(np.mean(coverage) - 0.95) < 0.01
    exact = np.array([clopper_pearson(k, n) for k in range(n + 1)])
    assert np.diff(intervals).mean() < np.diff(exact).mean()


def test_a_rate_of_nothing_is_unknown() -> None:
    found = proportion(0, 0)
    assert math.isnan(found.value)
    assert (found.lo, found.hi, found.n) == (0.0, 1.0, 0)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "n"), [(-1, 3), (4, 3), (1.5, 3), (0, -1), (math.nan, 3), (1, math.inf), ("many", 3), (None, 3)]
)
def test_impossible_counts_are_refused(successes: object, n: object) -> None:
    with pytest.raises(InputError, match="0 <= successes <= n"):
        proportion(successes, n)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, math.nan])
def test_impossible_levels_are_refused(level: float) -> None:
    for call in (
        lambda: proportion(1, 2, level=level),
        lambda: wilson(1, 2, level),
        lambda: bootstrap([1.0, 2.0], level=level),
        lambda: quantile([1.0, 2.0], 0.5, level=level),
    ):
        with pytest.raises(InputError, match=r"level is .*0\.95"):
            call()


def test_unknown_interval_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'wilson'"):
        proportion(1, 2, method="wilsen")


def test_estimate_reads_as_a_number_and_as_a_sentence() -> None:
    found = Estimate(value=0.812, lo=0.79, hi=0.832, n=1000, method="wilson")
    assert float(found) == 0.812
    assert str(found) == "0.812 [0.790, 0.832], n=1000"


def _coverage(cluster_size: int, use_clusters: bool, repetitions: int = 300) -> float:
    """Share of intervals for a mean of 0 that hold 0; samples of a cluster share most of their value."""
    rng = np.random.default_rng(7)
    clusters = np.repeat(np.arange(30), cluster_size)
    hits = 0
    for repetition in range(repetitions):
        values = rng.normal(size=30)[clusters] + 0.5 * rng.normal(size=len(clusters))
        found = bootstrap(values, clusters=clusters if use_clusters else None, resamples=400, seed=repetition)
        hits += found.lo <= 0 <= found.hi
    return hits / repetitions


def test_bootstrap_covers_independent_samples() -> None:
    assert abs(_coverage(1, use_clusters=False) - 0.95) < 0.035


def test_clustered_bootstrap_covers_where_the_plain_one_undercovers() -> None:
    assert abs(_coverage(8, use_clusters=True) - 0.95) < 0.035
    assert _coverage(8, use_clusters=False) < 0.75


def _slow_statistic(values: np.ndarray) -> float:
    return float(values.sum() / len(values))


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=12),
    st.integers(-5, 5),
    st.booleans(),
)
def test_fast_means_equal_the_slow_obvious_bootstrap(values: list[float], seed: int, clustered: bool) -> None:
    clusters = [f"source {i // 2}" for i in range(len(values))] if clustered else None
    fast = bootstrap(values, clusters=clusters, resamples=50, seed=seed)
    slow = bootstrap(values, _slow_statistic, clusters=clusters, resamples=50, seed=seed)
    assert fast.value == pytest.approx(slow.value)
    assert (fast.lo, fast.hi) == pytest.approx((slow.lo, slow.hi), nan_ok=True)


def test_large_bootstraps_are_worked_off_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=50)
    whole = bootstrap(values, resamples=100)
    monkeypatch.setattr("assay.core.estimates._CELLS_AT_ONCE", 120)
    assert bootstrap(values, resamples=100) == whole


def test_bootstrap_is_repeatable_and_depends_on_the_seed() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert len({bootstrap(values, seed=seed).lo for seed in (-2, -1, 0, 1, 2)}) == 5


def test_bootstrap_of_rows_and_other_statistics() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 2))
    rows[:, 1] += 0.9 * rows[:, 0]
    found = bootstrap(rows, lambda chosen: np.corrcoef(chosen.T)[0, 1], resamples=300)
    assert found.lo < found.value < found.hi
    assert found.value == pytest.approx(np.corrcoef(rows.T)[0, 1])
    assert found.method == "bootstrap"


def test_too_few_units_have_no_interval() -> None:
    alone = bootstrap([3.0])
    assert (alone.value, alone.n) == (3.0, 1)
    assert math.isnan(alone.lo)
    one_cluster = bootstrap([1.0, 2.0, 3.0], clusters=["a", "a", "a"])
    assert one_cluster.value == 2.0
    assert math.isnan(one_cluster.hi)
    assert math.isnan(bootstrap([]).value)


def test_bootstrap_refuses_what_it_cannot_use() -> None:
    with pytest.raises(InputError, match="2 values that are NaN or infinite"):
        bootstrap([1.0, math.nan, math.inf])
    with pytest.raises(InputError, match="one label a value"):
        bootstrap([1.0, 2.0], clusters=[1])
    with pytest.raises(InputError, match="resamples is 1"):
        bootstrap([1.0, 2.0], resamples=1)
    with pytest.raises(InputError, match="single number"):
        bootstrap(3.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_quantile_value_is_that_of_numpy(values: list[float], q: float) -> None:
    expected = np.quantile(values, round(q, 3), method="averaged_inverted_cdf")
    assert quantile(values, round(q, 3)).value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert quantile(values, 0.5).value == pytest.approx(np.median(values), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n", [5, 30, 120])
@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
def test_quantile_interval_covers_for_any_continuous_distribution(n: int, q: float) -> None:
    ranks = np.arange(1.0, n + 1)
    found = quantile(ranks, q, level=0.9)
    below = binom(n, q)
    lower = 0 if math.isinf(found.lo) else int(found.lo)
    upper = n + 1 if math.isinf(found.hi) else int(found.hi)
    # x_(l) <= truth <= x_(u) when l <= number of values below the truth < u
    assert below.cdf(upper - 1) - below.cdf(lower - 1) >= 0.9
    # and neither end can be drawn in by one rank
    assert below.cdf(lower) > 0.05
    assert below.sf(upper - 2) > 0.05


def test_quantile_accepts_distances_that_were_not_found() -> None:
    found = quantile([0.1, 0.2, math.inf, math.inf], 0.5)
    assert found.value == math.inf
    assert quantile([math.inf] * 4, 0.5).value == math.inf
    assert quantile([0.1, 0.2, 0.3, math.inf], 0.5).value == pytest.approx(0.25)
    assert math.isnan(quantile([], 0.5).value)


def test_quantile_refuses_what_it_cannot_use() -> None:
    with pytest.raises(InputError, match="1 NaN"):
        quantile([1.0, math.nan], 0.5)
    for q in (0, 1, -1, math.nan):
        with pytest.raises(InputError, match=r"0\.5 for the median"):
            quantile([1.0, 2.0], q)


def test_paired_difference_is_sharper_than_two_rates() -> None:
    rng = np.random.default_rng(1)
    first = rng.random(500) < 0.7
    second = first & (rng.random(500) < 0.95)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert 0 < found.lo < found.value < found.hi
    assert found.method == "paired bootstrap"
    assert found.hi - found.lo < proportion(int(first.sum()), 500).hi - proportion(int(first.sum()), 500).lo


def test_paired_difference_with_clusters_is_wider() -> None:
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(25), 20)
    gain = rng.normal(size=25)[clusters]
    plain = paired_difference(gain, np.zeros(500))
    clustered = paired_difference(gain, np.zeros(500), clusters=clusters)
    assert clustered.method == "paired clustered bootstrap"
    assert clustered.hi - clustered.lo > 2 * (plain.hi - plain.lo)


def test_paired_difference_needs_the_same_samples() -> None:
    with pytest.raises(InputError, match=r"\(2,\) and b is \(3,\)"):
        paired_difference([1, 2], [1, 2, 3])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80))
def test_mcnemar_is_the_exact_binomial_test(pairs: list[tuple[bool, bool]]) -> None:
    first = np.array([a for a, _ in pairs], dtype=bool)
    second = np.array([b for _, b in pairs], dtype=bool)
    found = mcnemar(first, second)
    b, c = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
    assert (found.only_first, found.only_second) == (b, c)
    assert found.p_value == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1.0)


def test_mcnemar_needs_booleans_of_the_same_samples() -> None:
    with pytest.raises(InputError, match="must be booleans"):
        mcnemar([0, 1], [True, False])
    with pytest.raises(InputError, match="must be booleans"):
        mcnemar([True], [True, False])


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_keeps_the_order_given() -> None:
    values = [0.04, 0.001, 0.03]
    for order in itertools.permutations(range(3)):
        assert holm([values[i] for i in order]) == pytest.approx([holm(values)[i] for i in order])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("p_values", [[-0.1], [1.1], [math.nan], [[0.1]], 0.1])
def test_holm_refuses_what_is_not_a_probability(p_values: object) -> None:
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        holm(p_values)  # type: ignore[arg-type]
