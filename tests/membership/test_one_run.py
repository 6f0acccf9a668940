"""A bound on ε from one run: its formula, and how often it is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from assay.core.errors import InputError
from assay.membership.evidence import epsilon_from_guesses
from assay.membership.one_run import _chance

from .test_leakage import MOST, TRIALS, laplace, responses


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_the_bound_is_seldom_wrong(epsilon: float) -> None:
    rng = np.random.default_rng(1)
    found = [
        epsilon_from_guesses(*responses(rng, epsilon, 300), guesses=300, seed=trial).epsilon for trial in range(TRIALS)
    ]
    assert sum(one > epsilon for one in found) <= MOST
    assert np.median(found) > 0.7 * epsilon - 0.2


@pytest.mark.parametrize("ends", ["both", "high"])
def test_several_numbers_of_guesses_share_the_error(ends: str) -> None:
    rng = np.random.default_rng(2)
    found = [epsilon_from_guesses(*laplace(rng, 2.0, 300), ends=ends, seed=trial) for trial in range(TRIALS)]
    assert sum(one.epsilon > 2 for one in found) <= MOST
    assert np.median([one.epsilon for one in found]) > 0.7
    assert {one.candidates for one in found} == {4}


def test_each_number_of_guesses_has_its_part_of_the_error() -> None:
    scores, member = laplace(np.random.default_rng(5), 3.0, 500)
    several = epsilon_from_guesses(scores, member, [50, 400])
    alone = max((epsilon_from_guesses(scores, member, count, level=0.975) for count in (50, 400)), key=float)
    assert several.epsilon == pytest.approx(alone.epsilon)
    assert (several.guesses, several.correct, several.level) == (alone.guesses, alone.correct, 0.95)


def test_a_model_that_tells_all_at_once_is_covered() -> None:
    """Guesses of one model can be right together; the published share δ is what that costs."""
    rng, epsilon, delta, wrong = np.random.default_rng(3), 0.5, 0.02, 0
    for trial in range(TRIALS):
        scores, member = responses(rng, epsilon, 200)
        if rng.random() < delta:
            scores = member.astype(float)
        wrong += epsilon_from_guesses(scores, member, 200, delta, seed=trial).epsilon > epsilon
    assert wrong <= MOST


@pytest.mark.parametrize(
    ("correct", "guesses", "m", "delta"), [(7, 10, 12, 0.0), (9, 10, 30, 1e-3), (40, 50, 50, 1e-5)]
)
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 4.0])
def test_the_chance_is_the_formula(correct: int, guesses: int, m: int, delta: float, epsilon: float) -> None:
    q = 1 / (1 + math.exp(-epsilon))

    def tail(v: int) -> float:
        return float(sum(binom.pmf(k, guesses, q) for k in range(max(v, 0), guesses + 1)))

    steepest = max((tail(correct - i) - tail(correct)) / i for i in range(1, m + 1))
    expected = min(1.0, tail(correct) + 2 * m * delta * steepest)
    assert _chance(correct, guesses, m, epsilon, delta) == pytest.approx(expected)


def test_delta_and_luck_make_the_bound_smaller() -> None:
    scores, member = responses(np.random.default_rng(4), 2.0, 1000)
    bounds = [epsilon_from_guesses(scores, member, 1000, delta).epsilon for delta in (0.0, 1e-5, 1e-3)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]
    assert epsilon_from_guesses(scores, member, 1000, level=0.999).epsilon < bounds[0]


def test_the_order_of_tied_records_tells_nothing() -> None:
    member = np.arange(400) < 200
    found = [epsilon_from_guesses(np.zeros(400), member, 100, seed=seed) for seed in range(40)]
    assert 45 < np.mean([one.correct for one in found]) < 55
    assert sum(one.epsilon > 0 for one in found) <= 6


def test_the_highest_are_members_and_the_lowest_not() -> None:
    scores, member = np.arange(10.0), np.array([False, True] + [False] * 3 + [True] * 4 + [False])
    assert epsilon_from_guesses(scores, member, 4).correct == 2
    assert epsilon_from_guesses(scores, member, 5).correct == 3
    assert epsilon_from_guesses(scores, member, 4, ends="high").correct == 3
    scores[9] = math.nan
    assert epsilon_from_guesses(scores, member, 4, ends="high").correct == 4


def test_what_is_shown_is_said() -> None:
    member = np.arange(100) < 50
    assert "no ε above 0" in str(epsilon_from_guesses(-member.astype(float), member, 10))
    leaking = epsilon_from_guesses(member.astype(float), member, 100)
    assert "100 of 100 guesses about 100 records are right: ε is at least" in str(leaking)
    assert "fair coin" in str(leaking)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"guesses": 0}, "whole numbers from 1 to 2"),
        ({"guesses": [1, 3]}, "whole numbers from 1 to 2"),
        ({"guesses": 1.5}, "whole numbers from 1 to 2"),
        ({"ends": "hihg"}, "Did you mean 'high'"),
        ({"delta": -0.1}, r"delta is -0\.1"),
    ],
)
def test_what_is_no_guess(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        epsilon_from_guesses([1.0, 2.0], [True, False], **changes)  # type: ignore[arg-type]
