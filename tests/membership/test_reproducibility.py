"""Whether the same records come out again: against scipy, sets, loops and coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from assay.core.errors import InputError
from assay.membership.evidence import roc
from assay.membership.reproducibility import agreement, identified

ranked = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=4, max_size=25)


@given(ranked)
def test_the_rank_correlation_is_that_of_scipy(rows: list[tuple[int, int]]) -> None:
    scores = np.array(rows, dtype=float).T
    found = agreement(scores).spearman
    if len(set(scores[0])) == 1 or len(set(scores[1])) == 1:
        assert math.isnan(found.value)
        assert (found.lo, found.hi) == (-1, 1)
    else:
        assert found.value == pytest.approx(spearmanr(*scores).statistic)
        assert found.lo - 1e-9 <= found.value <= found.hi + 1e-9


@given(st.permutations(range(12)), st.integers(1, 12))
def test_the_overlap_is_that_of_sets(order: list[int], top: int) -> None:
    scores = np.array([range(12), order], dtype=float)
    tops = [set(np.argsort(-row)[:top].tolist()) for row in scores]
    found = agreement(scores, top)
    assert found.overlap.value == pytest.approx(len(tops[0] & tops[1]) / top)
    assert found.overlap.lo <= found.overlap.value <= found.overlap.hi
    assert found.chance.value == top / 12


@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(1, 6))
def test_ties_at_the_edge_count_by_their_share(values: list[int], top: int) -> None:
    """The mean over all orders in which ties could have been broken."""
    scores = np.array([values, [5, 4, 3, 2, 1, 0]], dtype=float)
    other = set(range(top))
    shared = []
    for order in itertools.permutations(range(6)):
        best = sorted(order, key=lambda i: -values[i])[:top]
        shared.append(len(set(best) & other) / top)
    assert agreement(scores, top).overlap.value == pytest.approx(np.mean(shared))


def test_chance_is_what_unrelated_pools_share() -> None:
    rng = np.random.default_rng(1)
    found = [agreement(rng.normal(size=(2, 100)), 20) for _ in range(300)]
    chance = found[0].chance
    assert np.mean([one.overlap.value for one in found]) == pytest.approx(chance.value, abs=0.01)
    assert np.mean([chance.lo <= one.overlap.value <= chance.hi for one in found]) >= 0.94
    assert np.mean([one.spearman.lo <= 0 <= one.spearman.hi for one in found]) == pytest.approx(0.95, abs=0.04)
    three = agreement(rng.normal(size=(3, 100)), 20).chance
    assert three.value == 0.2
    assert chance.lo < three.lo < 0.2 < three.hi < chance.hi


def test_the_correlation_covers_the_truth() -> None:
    rng, rho = np.random.default_rng(2), 0.8
    truth = 6 / math.pi * math.asin(rho / 2)  # of two normal variables
    hits = 0
    for _ in range(200):
        first = rng.normal(size=80)
        second = rho * first + math.sqrt(1 - rho * rho) * rng.normal(size=80)
        found = agreement([first, second]).spearman
        hits += found.lo <= truth <= found.hi
    assert hits >= 180


def test_more_pools_are_taken_in_pairs() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(3, 50)) + rng.normal(size=50)
    pairs = [agreement(scores[list(pair)], 10) for pair in itertools.combinations(range(3), 2)]
    found = agreement(scores, 10)
    assert found.spearman.value == pytest.approx(np.mean([one.spearman.value for one in pairs]))
    assert found.overlap.value == pytest.approx(np.mean([one.overlap.value for one in pairs]))
    assert (found.pools, found.records, found.top) == (3, 50, 10)


def test_records_without_a_score_are_left_out() -> None:
    scores = np.array([[1.0, 2.0, 3.0, 4.0, math.nan], [1.0, 2.0, 3.0, 4.0, 0.0]])
    found = agreement(scores)
    assert (found.records, found.left_out, found.top) == (4, 1, 1)
    assert (found.spearman.value, found.overlap.value) == pytest.approx((1.0, 1.0))
    assert found.spearman.lo < 0.5


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=12, max_size=12),
    st.sampled_from([0.0, 0.34, 0.5]),
)
def test_identified_is_a_loop_over_models(cells: list[tuple[int, bool]], fpr: float) -> None:
    scores = np.array([c[0] for c in cells], dtype=float).reshape(3, 4)
    member = np.array([c[1] for c in cells]).reshape(3, 4)
    member[:, 3], member[:, 2] = False, True
    found = identified(scores, member, fpr)
    for n in range(4):
        for truth, share, trials in (
            (True, found.share, found.trials),
            (False, found.false_share, found.false_trials),
        ):
            hits = [scores[t, n] > roc(scores[t], member[t]).threshold(fpr) for t in range(3) if member[t, n] == truth]
            assert trials[n] == len(hits)
            assert share[n] == pytest.approx(np.mean(hits)) if hits else math.isnan(share[n])


def test_given_thresholds_and_missing_scores_count() -> None:
    found = identified([[0.4, math.nan], [0.6, 0.9]], [[True, True], [True, False]], thresholds=[0.5, 0.5])
    assert found.trials.tolist() == [2, 0]
    assert found.share[0] == 0.5
    assert (found.false_share[1], found.false_trials.tolist()) == (1.0, [0, 1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([[1.0, 2.0]],), "at least 2 pools"),
        (([[1.0, math.nan], [1.0, 2.0]],), "1 records with a score in every pool"),
        (([[1.0, 2.0], [1.0, 2.0]], 3), "top is 3; a number from 1 to 2"),
    ],
)
def test_what_cannot_be_compared(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        agreement(*arguments)  # type: ignore[arg-type]


def test_models_need_non_members_or_thresholds() -> None:
    with pytest.raises(InputError, match="Target model 1 has no non-member with a score"):
        identified([[1.0, 2.0], [1.0, 2.0]], [[True, False], [True, True]])
    with pytest.raises(InputError, match=r"thresholds are \(1,\) for 2 target models"):
        identified([[1.0, 2.0], [1.0, 2.0]], [[True, False], [True, True]], thresholds=[1.0])
