"""Bootstraps of the ROC: against records written out as often as they are drawn, and against coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from assay.core.errors import InputError
from assay.membership.evidence import roc, tpr_interval, two_way
from assay.membership.resampling import Ladder, cluster_strata, counts

cells = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 2.0, 3.5, math.inf, -math.inf]), st.booleans(), st.integers(0, 3)),
    min_size=1,
    max_size=15,
)
rates = st.sampled_from([0.05, 0.1, 0.25, 1 / 3, 0.5, 0.9])


@given(cells, rates, st.booleans())
def test_weights_are_copies(rows: list[tuple[float, bool, int]], fpr: float, strict: bool) -> None:
    scores, member, times = (np.array(column) for column in zip(*rows, strict=True))
    ladder = Ladder(scores, member)
    area, rate = ladder.auc(times[None].astype(float))[0], ladder.tpr(times[None].astype(float), fpr, strict)[0]
    copies, sides = np.repeat(scores, times), np.repeat(member, times)
    if not sides.any() or sides.all():
        assert math.isnan(area)
        assert math.isnan(rate)
    else:
        assert area == pytest.approx(roc(copies, sides).auc)
        assert rate == pytest.approx(roc(copies, sides).tpr_at(fpr, strict))


def test_at_a_rate_and_below_it_are_two_conventions() -> None:
    ladder = Ladder(np.arange(8.0), np.arange(8) % 2 == 0)
    ones = np.ones((1, 8))
    assert [ladder.tpr(ones, 0.5, strict)[0] for strict in (False, True)] == [0.5, 0.25]
    member, scores = np.arange(8) % 2 == 0, np.arange(8.0)
    assert two_way([scores], [member], 0.5, resamples=20).value == 0.5
    assert two_way([scores], [member], 0.5, strict=True, resamples=20).value == 0.25


def test_nan_has_no_weight() -> None:
    ladder = Ladder(np.array([1.0, math.nan, 0.0, math.nan]), np.array([True, True, False, False]))
    assert (ladder.known, ladder.both) == (2, True)
    assert ladder.auc(np.array([[1.0, 9.0, 1.0, 9.0]])) == [1.0]
    assert not Ladder(np.array([math.nan, 1.0]), np.array([True, False])).both


def test_draws_count_every_unit() -> None:
    drawn = counts(np.random.default_rng(0), 500, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert np.allclose(drawn.mean(axis=0), 1, atol=0.15)
    assert drawn.var(axis=0).mean() == pytest.approx(6 / 7, abs=0.1)


def test_clusters_are_drawn_by_what_they_hold() -> None:
    labels, member = np.array([0, 0, 1, 1, 2, 2]), np.array([True, True, False, False, True, False])
    assert cluster_strata(labels, member).tolist() == [1, 2, 3]


@pytest.mark.parametrize("statistic", ["auc", 0.2])
def test_two_ways_are_a_loop_over_drawn_models_and_records(statistic: str | float) -> None:
    rng = np.random.default_rng(1)
    member = rng.random((4, 60)) < 0.5
    scores = np.round(rng.normal(size=(4, 60)) + 1.5 * member + rng.normal(size=(4, 1)), 1)
    scores[2, :7] = math.nan

    def of(row: np.ndarray, side: np.ndarray) -> float:
        curve = roc(row, side)
        return curve.auc if statistic == "auc" else curve.tpr_at(float(statistic))

    drawn = []
    for _ in range(1500):
        records = rng.integers(60, size=60)
        drawn.append(np.mean([of(scores[t, records], member[t, records]) for t in rng.integers(4, size=4)]))
    found = two_way(scores, member, statistic, resamples=1500, level=0.5)
    assert found.value == pytest.approx(np.mean([of(scores[t], member[t]) for t in range(4)]))
    widened = ndtr(math.sqrt(4 / 3) * -0.7648923)  # Student's 25 % with 3 degrees of freedom
    assert [found.lo, found.hi] == pytest.approx(np.quantile(drawn, [widened, 1 - widened]), abs=0.015)
    assert found.n == 233
    assert "4 target models and 60 records" in found.method


def test_two_ways_cover_where_records_alone_do_not() -> None:
    """How much a model leaks varies from model to model; the truth is the mean over models."""
    gaps = np.linspace(0.2, 1.8, 400)
    truth, rng = float(ndtr(gaps / math.sqrt(2)).mean()), np.random.default_rng(2)
    both = alone = 0
    for _ in range(100):
        chosen = rng.choice(gaps, 6)
        member = rng.random((6, 150)) < 0.5
        scores = rng.normal(size=(6, 150)) + chosen[:, None] * member
        found = two_way(scores, member, resamples=200, level=0.9)
        both += found.lo <= truth <= found.hi
        first = two_way(scores[:1], member[:1], resamples=200, level=0.9)
        alone += first.lo <= truth <= first.hi
    assert both >= 85
    assert alone < 70


def test_one_model_leaves_the_records() -> None:
    rng = np.random.default_rng(4)
    member = rng.random((1, 80)) < 0.5
    found = two_way(rng.normal(size=(1, 80)) + member, member, resamples=200)
    assert "one target model" in found.method
    assert found.lo < found.value < found.hi


def test_models_of_one_side_are_left_out() -> None:
    scores, member = np.array([[0.0, 1.0, 2.0], [5.0, 6.0, 7.0]]), np.array([[False, True, True], [True, True, True]])
    assert two_way(scores, member, resamples=50).n == 3
    with pytest.raises(InputError, match="No target model has scores of members and of non-members"):
        two_way(scores[1:], member[1:])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"statistic": "acu"}, "Did you mean 'auc'"),
        ({"statistic": 1.0}, "false positive rate between 0 and 1"),
        ({"resamples": 1}, "resamples is 1; at least 2"),
        ({"level": 0.0}, "level is 0"),
        ({"scores": [1.0, 2.0]}, r"numbers \[T, N\]"),
    ],
)
def test_what_cannot_be_drawn(changes: dict[str, object], words: str) -> None:
    values: dict[str, object] = {"scores": [[1.0, 2.0]], "member": [[True, False]], **changes}
    with pytest.raises(InputError, match=words):
        two_way(**values)  # type: ignore[arg-type]


def test_rates_of_clusters_cover_the_truth() -> None:
    """Five records a person, nearly alike: as clusters they cover, as independent records they do not."""
    truth, rng = float(ndtr(1.5 - ndtri(0.8))), np.random.default_rng(7)
    hits = naive = 0
    for _ in range(100):
        people = np.arange(400) // 5
        member = people % 2 == 0
        scores = 1.5 * member + 0.97 * rng.normal(size=80)[people] + math.sqrt(1 - 0.97**2) * rng.normal(size=400)
        found = tpr_interval(scores, member, 0.2, people, resamples=200)
        hits += found.lo <= truth <= found.hi
        alone = roc(scores, member).interval(0.2, method="bootstrap", resamples=200)
        naive += alone.lo <= truth <= alone.hi
    assert hits >= 88
    assert naive < 75


def test_independent_records_have_the_exact_interval() -> None:
    rng = np.random.default_rng(8)
    member = rng.random(200) < 0.5
    scores = rng.normal(size=200) + member
    assert tpr_interval(scores, member, 0.1, strict=True) == roc(scores, member).interval(0.1, strict=True)


def test_clusters_that_all_agree_still_have_a_width() -> None:
    member = np.arange(40) % 2 == 0
    found = tpr_interval(member.astype(float), member, 0.1, np.arange(40) // 4, resamples=50)
    assert found.value == found.hi == 1
    assert found.lo == pytest.approx(0.025 ** (1 / 10))


def test_clusters_are_one_a_record() -> None:
    with pytest.raises(InputError, match="no non-members with a score"):
        tpr_interval([1.0, 2.0], [True, True], 0.1)
    with pytest.raises(InputError, match=r"clusters are \(2,\) for 3 records"):
        tpr_interval([1.0, 2.0, 3.0], [True, False, False], 0.1, [0, 1])
