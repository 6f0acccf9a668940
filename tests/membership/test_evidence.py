"""The area with its interval, the null, and what small sets allow: against definitions and against coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from assay.core.errors import InputError
from assay.membership.evidence import auc_interval, null_auc, rate_name, roc, roc_figure, shared_references, small_sets

rows = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 5)), min_size=4, max_size=30)


def obuchowski(scores: np.ndarray, member: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """The area and its variance by the double sum over all pairs."""
    x, y = scores[member], scores[~member]
    order = (x[:, None] > y[None, :]) + (x[:, None] == y[None, :]) / 2
    area, m, n = float(order.mean()), len(x), len(y)
    in_x, in_y = clusters[member], clusters[~member]
    s10 = s01 = s11 = 0.0
    for c in set(clusters.tolist()):
        a = sum(order[i].mean() for i in range(m) if in_x[i] == c) - (in_x == c).sum() * area
        d = sum(order[:, j].mean() for j in range(n) if in_y[j] == c) - (in_y == c).sum() * area
        s10, s01, s11 = s10 + a * a, s01 + d * d, s11 + a * d
    i10, i01, i = len(set(in_x.tolist())), len(set(in_y.tolist())), len(set(clusters.tolist()))
    if min(i10, i01) < 2:
        return area, 0.0
    s10, s01, s11 = i10 / ((i10 - 1) * m) * s10, i01 / ((i01 - 1) * n) * s01, i / (i - 1) * s11
    return area, s10 / m + s01 / n + 2 * s11 / (m * n)


@given(rows, st.booleans())
def test_the_interval_is_that_of_the_double_sum(given_rows: list[tuple[int, bool, int]], clustered: bool) -> None:
    scores, member, clusters = (np.array(column) for column in zip(*given_rows, strict=True))
    if member.all() or not member.any():
        return
    labels = clusters if clustered else np.arange(len(scores))
    area, variance = obuchowski(scores.astype(float), member, labels)
    found = auc_interval(scores, member, clusters if clustered else None)
    assert found.value == pytest.approx(area)
    assert 0 <= found.lo <= found.value <= found.hi <= 1
    if variance > 1e-12 and 0 < area < 1:
        half = ndtri(0.975) * math.sqrt(variance) / (area * (1 - area))
        ends = [1 / (1 + math.exp(-(math.log(area / (1 - area)) + sign * half))) for sign in (-1, 1)]
        assert [found.lo, found.hi] == pytest.approx(ends)
        assert found.method == ("Obuchowski, logit" if clustered else "DeLong, logit")
    elif variance < 1e-15:
        assert found.method.startswith("newcombe")


@pytest.mark.parametrize("clustered", [False, True])
def test_the_area_covers_the_truth(clustered: bool) -> None:
    """Every person gives four records of one side or both; taken as independent, they would promise too much."""
    truth, rng = float(ndtr(1 / math.sqrt(2))), np.random.default_rng(3)
    hits = naive = 0
    for _ in range(200):
        people = np.arange(120) // 4 if clustered else np.arange(120)
        member = rng.random(120) < 0.5 if not clustered else (people % 2 == 0)
        own = rng.normal(size=120) if not clustered else 0.95 * rng.normal(size=30)[people]
        scores = member + own + (math.sqrt(1 - 0.95**2) * rng.normal(size=120) if clustered else 0.0)
        found = auc_interval(scores, member, people if clustered else None)
        hits += found.lo <= truth <= found.hi
        alone = auc_interval(scores, member)
        naive += alone.lo <= truth <= alone.hi
    assert hits >= 178  # 10 misses of 200 are expected at 95 %; few clusters miss a little more often
    assert (naive < 150) == clustered


@pytest.mark.parametrize(
    ("scores", "member", "clusters"),
    [
        ([2.0, 3.0, 0.0, 1.0], [True, True, False, False], None),
        ([0.0, 0.0, 1.0, 1.0], [True, True, False, False], None),
        ([1.0] * 6, [True, False] * 3, None),
        ([0.1, 0.9, 0.5], [True, True, False], None),
        ([0.1, 0.9, 0.5, 0.2], [True, True, False, False], [0, 0, 0, 0]),
    ],
)
def test_an_area_without_variance_still_has_a_width(
    scores: list[float], member: list[bool], clusters: list[int] | None
) -> None:
    found = auc_interval(scores, member, clusters)
    assert found.method.startswith("newcombe")
    assert found.hi - found.lo > 0.2


def test_one_record_a_cluster_is_no_cluster() -> None:
    rng = np.random.default_rng(0)
    scores, member = rng.normal(size=40), np.arange(40) % 2 == 0
    alone, clustered = auc_interval(scores, member), auc_interval(scores, member, [f"p{i}" for i in range(40)])
    assert (alone.lo, alone.hi) == pytest.approx((clustered.lo, clustered.hi))


def test_members_may_follow_the_signature_of_the_contract() -> None:
    curve = roc([0.9, 0.8, 0.7, 0.1], np.array([True, True, False, False]))
    assert curve.auc == 1
    assert curve.tpr_at(0.4) == curve.tpr_at(0.5, strict=True) == 1
    assert 0 < curve.interval("auc").lo < 1
    assert curve.interval(0.5).hi == 1


@pytest.mark.parametrize(
    ("scores", "member", "words"),
    [
        ([1.0, math.nan], [True, False], r"no non-members with a score \(1 have"),
        ([1.0, 2.0], [False, False], "no members with a score;"),
        ([1.0], [True, False], r"booleans \[N\], over the same records"),
        ([1.0, 2.0], [1, 0], "member is int64"),
    ],
)
def test_what_is_no_pair_of_sides_is_said_in_their_words(scores: list[float], member: list[bool], words: str) -> None:
    for function in (roc, auc_interval, null_auc):
        with pytest.raises(InputError, match=words):
            function(scores, member)


def test_the_null_agrees_with_all_labellings() -> None:
    scores, member = np.array([0.1, 0.4, 0.4, 0.8, 0.9, 0.2]), np.array([False, True, False, True, True, False])
    areas = []
    for chosen in itertools.combinations(range(6), 3):
        mask = np.isin(np.arange(6), chosen)
        areas.append(roc(scores, mask).auc)
    found = null_auc(scores, member, 4000, seed=1)
    assert found.value == roc(scores, member).auc
    assert found.shuffled.value == pytest.approx(0.5, abs=0.02)
    far = np.mean(np.abs(np.array(areas) - 0.5) >= abs(found.value - 0.5) - 1e-12)
    assert found.p_value == pytest.approx(far, abs=0.025)
    assert (found.shuffled.lo, found.shuffled.hi) == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.06)


def test_scores_that_know_nothing_lie_inside_the_null_and_others_outside() -> None:
    rng = np.random.default_rng(5)
    member = rng.random(400) < 0.5
    inside = [null_auc(rng.normal(size=400), member, 200, seed=seed).inside for seed in range(100)]
    assert 87 <= sum(inside) <= 100  # 95 are expected
    leaking = null_auc(rng.normal(size=400) + member, member, 200)
    assert not leaking.inside
    assert leaking.p_value == pytest.approx(1 / 201)
    assert null_auc(np.append(member, math.nan).astype(float), np.append(member, True), 50).shuffled.n == 400


def test_the_figure_is_logarithmic_both_ways_with_the_line_of_chance() -> None:
    rng = np.random.default_rng(6)
    member = np.arange(600) < 200
    figure = roc_figure({"LiRA": roc(rng.normal(size=600) + member, member)})
    assert (figure.x_scale, figure.y_scale, figure.x_limits, figure.y_limits) == (
        "log",
        "log",
        (1 / 400, 1.0),
        (1 / 400, 1.0),
    )
    line, chance = figure.series
    assert chance.label == "chance"
    assert chance.x == chance.y == (1 / 400, 1.0)
    assert line.lo is not None
    assert line.hi is not None
    curve = roc(rng.normal(size=600), member)
    again = roc_figure({"LiRA": curve}).series[0]
    for index in (0, 30, 60):
        exact = curve.interval(again.x[index])  # type: ignore[arg-type]
        assert (again.lo[index], again.hi[index]) == (exact.lo, exact.hi)  # type: ignore[index]
    assert "200 members, 400 non-members" in figure.caption
    assert [mark.value for mark in figure.marks] == [0.01]


def test_small_sets_are_named_in_plain_words() -> None:
    def curve(n: int) -> list[str]:
        return [one.code for one in small_sets(roc(np.arange(float(n + 5)), np.arange(n + 5) < 5))]

    assert curve(99) == ["no-false-positive-allowed"] * 2
    assert curve(100) == curve(999) == ["no-false-positive-allowed", "few-false-positives"]
    assert curve(1000) == ["few-false-positives"]
    assert curve(10_000) == []
    first, second = small_sets(roc(np.arange(505.0), np.arange(505) < 5))
    assert "With 500 non-members" in first.message
    assert "at least 1,000 non-members" in first.remedy
    assert "At 1 %, 5 of the 500 non-members" in second.message
    assert "1,000 non-members" in second.remedy
    for finding in (first, second, shared_references()):
        assert not {"FPR", "TPR", "n0", "alpha"} & set(f"{finding.message} {finding.remedy}".replace(",", " ").split())


def test_records_without_a_score_are_said_first() -> None:
    curve = roc([1.0, math.nan, 0.0, math.nan], [True, True, False, False])
    assert small_sets(curve, [])[0].message.startswith("1 members and 1 non-members have no score")


def test_a_rate_is_called_what_it_is() -> None:
    assert rate_name(0.001, 999) == "TPR at zero false positives"
    assert rate_name(0.001, 1000) == "TPR at FPR 0.1%"
