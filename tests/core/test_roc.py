"""The ROC: against counting by hand, its intervals against coverage, and what it refuses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from assay.core.errors import InputError
from assay.core.roc import Roc, roc, roc_figure

scores = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.sampled_from([math.inf, -math.inf])), min_size=1, max_size=12
)


def make(positives: list[float], negatives: list[float]) -> Roc:
    mask = [True] * len(positives) + [False] * len(negatives)
    return roc([*positives, *negatives], mask)


@given(scores, scores)
def test_the_area_is_the_share_of_pairs_in_order(positives: list[float], negatives: list[float]) -> None:
    pairs = [1.0 if x > y else 0.5 if x == y else 0.0 for x, y in itertools.product(positives, negatives)]
    assert make(positives, negatives).auc == pytest.approx(np.mean(pairs))


@given(scores, scores, st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1 / 3, 1.0])), st.booleans())
def test_a_rate_is_the_best_over_all_thresholds(
    positives: list[float], negatives: list[float], fpr: float, strict: bool
) -> None:
    best = 0.0
    for threshold in {*positives, *negatives}:
        false = np.mean([y >= threshold for y in negatives])
        if false < fpr if strict else false <= fpr:
            best = max(best, float(np.mean([x >= threshold for x in positives])))
    assert make(positives, negatives).tpr_at(fpr, strict) == best


@given(scores, scores)
def test_the_curve_rises_from_corner_to_corner_and_has_the_area(positives: list[float], negatives: list[float]) -> None:
    curve = make(positives, negatives)
    fpr, tpr = curve.curve()
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert (np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum() == pytest.approx(curve.auc)


@given(scores, scores, st.floats(0.01, 0.99))
def test_what_is_above_the_threshold_is_flagged(positives: list[float], negatives: list[float], fpr: float) -> None:
    curve = make(positives, negatives)
    threshold = curve.threshold(fpr)
    assert np.mean(np.array(negatives) > threshold) <= fpr
    assert np.mean(np.array(positives) > threshold) == curve.tpr_at(fpr)


@given(scores, scores, st.floats(0.01, 0.99))
def test_intervals_hold_their_value(positives: list[float], negatives: list[float], fpr: float) -> None:
    curve = make(positives, negatives)
    for what, method in (("auc", "newcombe"), (fpr, "exact")):
        found = curve.interval(what, method=method)
        assert 0 <= found.lo <= found.value <= found.hi <= 1


def test_nan_is_counted_and_left_out() -> None:
    curve = roc([1.0, math.nan, 0.0, math.nan, math.nan], [True, True, False, False, False])
    assert (curve.auc, curve.nan_positives, curve.nan_negatives) == (1.0, 1, 2)
    (finding,) = curve.findings()
    assert finding.code == "scores-left-out"
    assert "1 positives and 2 negatives" in finding.message


def test_a_perfect_area_has_a_width() -> None:
    curve = make([2.0] * 20, [1.0] * 30)
    found = curve.interval("auc")
    assert found.method == "newcombe"
    assert 0.8 < found.lo < 1 == found.hi
    wider = make([2.0] * 5, [1.0] * 5).interval("auc")
    assert wider.lo < found.lo


def test_newcombe_solves_its_equation() -> None:
    rng = np.random.default_rng(0)
    curve = make(rng.normal(1, 1, 40).tolist(), rng.normal(0, 1, 60).tolist())
    found, z = curve.interval("auc", method="newcombe"), float(ndtri(0.975))
    for end in (found.lo, found.hi):
        spread = end * (1 - end) * (1 + 49 * ((1 - end) / (2 - end) + end / (1 + end))) / (40 * 60)
        assert abs(curve.auc - end) == pytest.approx(z * math.sqrt(spread), rel=1e-9)


@pytest.mark.parametrize(("what", "method"), [("auc", "bootstrap"), ("auc", "newcombe"), (0.1, "exact")])
def test_intervals_cover_the_truth(what: str | float, method: str) -> None:
    truth = float(ndtr(1 / math.sqrt(2))) if what == "auc" else float(ndtr(1 - ndtri(0.9)))
    rng = np.random.default_rng(1)
    repeats, hits = 200, 0
    for _ in range(repeats):
        curve = make(rng.normal(1, 1, 50).tolist(), rng.normal(0, 1, 80).tolist())
        found = curve.interval(what, method=method, resamples=200)
        hits += found.lo <= truth <= found.hi
    assert hits >= 0.9 * repeats  # 5 % misses are expected; 20 of 200 has a chance of 0.3 %


def test_exact_rates_cover_with_ties() -> None:
    """Scores are counts: the rate is the largest over thresholds with P(Y >= t) <= fpr."""
    fpr, rate, n = 0.1, 0.6, 8
    rng = np.random.default_rng(2)
    tail = [float(np.mean(rng.binomial(n, 0.3, 200_000) >= t)) for t in range(n + 2)]
    threshold = next(t for t in range(n + 2) if tail[t] <= fpr)
    truth = float(np.mean(rng.binomial(n, rate, 200_000) >= threshold))
    hits = 0
    for _ in range(150):
        found = make(rng.binomial(n, rate, 60).tolist(), rng.binomial(n, 0.3, 90).tolist()).interval(fpr)
        hits += found.lo <= truth <= found.hi
    assert hits >= 140


def test_the_bootstrap_of_a_rate_agrees_with_drawing_by_hand() -> None:
    rng = np.random.default_rng(3)
    positives, negatives = rng.normal(1, 1, 60), rng.normal(0, 1, 100)
    found = make(positives.tolist(), negatives.tolist()).interval(0.1, method="bootstrap", seed=5)
    draws = [
        make(rng.choice(positives, 60).tolist(), rng.choice(negatives, 100).tolist()).tpr_at(0.1) for _ in range(1000)
    ]
    assert np.allclose([found.lo, found.hi], np.quantile(draws, [0.025, 0.975]), atol=0.05)
    assert found.method == "stratified bootstrap"


def test_the_seed_decides_the_bootstrap() -> None:
    curve = make([1.0, 2.0, 3.0, 0.5], [0.0, 1.5, 0.7])
    same, other = curve.interval("auc", seed=1), curve.interval("auc", seed=2, resamples=50)
    assert curve.interval("auc", seed=1) == same
    assert same.value == other.value


def test_few_negatives_are_flagged() -> None:
    curve = make([1.0] * 10, np.arange(999.0).tolist())
    assert curve.too_few(1e-3)
    assert not make([1.0], np.arange(1000.0).tolist()).too_few(1e-3)
    (finding,) = curve.findings([1e-3, 1e-5, 0.1])
    assert finding.code == "few-negatives"
    assert "0.001 and 1e-05" in finding.message
    assert "1,000 negatives, 100,000 for 1e-05" in finding.remedy
    assert curve.interval(1e-5).lo == 0.0


def test_the_figure_has_a_band_and_begins_where_it_can() -> None:
    rng = np.random.default_rng(4)
    curve = make(rng.normal(1, 1, 50).tolist(), rng.normal(0, 1, 200).tolist())
    figure = roc_figure({"plain": curve}, fprs=[1e-3, 1e-2])
    (line,) = figure.series
    assert (figure.x_scale, line.x[0], line.x[-1], line.y[-1]) == ("log", 1 / 200, 1.0, 1.0)
    assert [mark.value for mark in figure.marks] == [1e-2]
    assert line.lo is not None
    assert line.hi is not None
    assert all(lo <= y <= hi for lo, y, hi in zip(line.lo, line.y, line.hi, strict=True))


def test_the_figure_can_be_logarithmic_both_ways_with_the_line_of_chance() -> None:
    rng = np.random.default_rng(4)
    curve = make(rng.normal(1, 1, 50).tolist(), rng.normal(0, 1, 200).tolist())
    plain = roc_figure({"plain": curve})
    both = roc_figure({"plain": curve}, y_scale="log", chance=True, sides=("members", "non-members"))
    assert (plain.y_scale, plain.y_limits, len(plain.series)) == ("linear", (0.0, 1.0), 1)
    assert (both.y_scale, both.y_limits, both.x_limits) == ("log", (1 / 200, 1.0), (1 / 200, 1.0))
    assert both.series[0] == plain.series[0]
    assert (both.series[1].label, both.series[1].x, both.series[1].y) == ("chance", (1 / 200, 1.0), (1 / 200, 1.0))
    assert "50 members, 200 non-members" in both.caption
    assert "Left of 1/non-members" in both.caption
    assert "Rates of 0 lie on the lower edge" in both.caption
    bent = roc_figure({"plain": curve}, chance=True).series[1]
    assert bent.x == bent.y
    assert len(bent.x) > 50


def test_one_negative_can_be_drawn() -> None:
    assert roc_figure({"plain": make([1.0, 2.0], [0.0])}, y_scale="log", chance=True).series[1].y == (1.0,)
    assert roc_figure({"plain": make([1.0, 2.0], [0.0])}).series[0].y == (1.0,)


@pytest.mark.parametrize(
    ("values", "mask", "message"),
    [
        ([1.0, 2.0], [True, True], "no negatives"),
        ([1.0, math.nan], [True, False], r"no negatives with a score \(1 have"),
        ([1.0], [False], "no positives"),
        ([1.0, 2.0], [True], "over the same samples"),
        ([1.0, 2.0], [1, 0], "booleans"),
    ],
)
def test_what_cannot_be_compared(values: list[float], mask: list[bool], message: str) -> None:
    with pytest.raises(InputError, match=message):
        roc(values, mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"what": "uac"}, "Did you mean 'auc'"),
        ({"what": 0.0}, "false positive rate between 0 and 1"),
        ({"what": 0.1, "method": "newcombe"}, "There are: bootstrap, exact"),
        ({"what": "auc", "level": 1.0}, "level is 1.0"),
        ({"what": "auc", "resamples": 1}, "at least 2"),
    ],
)
def test_what_has_no_interval(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make([1.0, 2.0], [0.0]).interval(**arguments)  # type: ignore[arg-type]


def test_rates_lie_between_0_and_1() -> None:
    with pytest.raises(InputError, match=r"fpr is 1\.5"):
        make([1.0], [0.0]).tpr_at(1.5)
