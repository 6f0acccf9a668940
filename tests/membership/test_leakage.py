"""Lower bounds on ε and predictive values: never above the truth, and as often right as they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from assay.core.errors import InputError
from assay.core.estimates import proportion
from assay.membership.leakage import epsilon_lower_bound, positive_predictive_value, predictive_figure

TRIALS = 300
MOST = int(binom.ppf(0.999, TRIALS, 0.05))  # violations that chance allows a bound with 5 % error


def responses(rng: np.random.Generator, epsilon: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Randomised response: the true bit with odds of e^ε to 1."""
    member = rng.random(n) < 0.5
    told = np.where(rng.random(n) < 1 / (1 + math.exp(-epsilon)), member, ~member)
    return told.astype(float), member


def laplace(rng: np.random.Generator, epsilon: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The bit with Laplace noise: ε-private, with the ratio reached by every threshold above 1."""
    member = rng.random(n) < 0.5
    return member + rng.laplace(scale=1 / epsilon, size=n), member


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("threshold", [0.5, [-0.5, 0.5, 0.9], None])
def test_the_bound_on_randomised_response_is_seldom_wrong(epsilon: float, threshold: object) -> None:
    rng = np.random.default_rng(1)
    found = [
        epsilon_lower_bound(*responses(rng, epsilon, 300), threshold, seed=trial).epsilon  # type: ignore[arg-type]
        for trial in range(TRIALS)
    ]
    assert sum(one > epsilon for one in found) <= MOST
    assert all(one >= 0 for one in found)
    if epsilon == 2:
        assert np.median(found) > 1.2


@pytest.mark.parametrize("threshold", [[0.0, 0.5, 1.0, 1.5, 2.0], None])
def test_a_chosen_threshold_pays_for_the_choice(threshold: object) -> None:
    """The best of many thresholds on the same records, taken as if it had been fixed, is wrong too often."""
    rng, found, greedy = np.random.default_rng(2), [], []
    for trial in range(TRIALS):
        scores, member = laplace(rng, 1.0, 400)
        found.append(epsilon_lower_bound(scores, member, threshold, seed=trial).epsilon)  # type: ignore[arg-type]
        greedy.append(max(epsilon_lower_bound(scores, member, t).epsilon for t in np.linspace(-3, 4, 40)))
    assert sum(one > 1 for one in found) <= MOST
    assert sum(one > 1 for one in greedy) > sum(one > 1 for one in found)
    assert np.mean(found) > 0.2


def test_delta_is_taken_off() -> None:
    """With chance δ the bit is published as it is, else randomised response: (ε, δ)-private."""
    rng, epsilon, delta, wrong, careless = np.random.default_rng(3), 0.5, 0.2, 0, 0
    for _ in range(TRIALS):
        scores, member = responses(rng, epsilon, 400)
        scores = np.where(rng.random(400) < delta, member, scores)
        wrong += epsilon_lower_bound(scores, member, 0.5, delta).epsilon > epsilon
        careless += epsilon_lower_bound(scores, member, 0.5).epsilon > epsilon
    assert wrong <= MOST
    assert careless > 2 * MOST


def test_the_bound_is_made_of_one_sided_ends_at_half_the_error() -> None:
    member = np.arange(200) < 100
    scores = np.where(member, np.arange(200) < 40, np.arange(200) < 103).astype(float)
    found = epsilon_lower_bound(scores, member, 0.5, delta=0.01, level=0.9)
    low, high = beta.ppf(0.05, 40, 61), beta.ppf(0.95, 4, 97)
    assert (found.tpr.lo, found.fpr.hi) == pytest.approx((low, high))
    assert found.epsilon == pytest.approx(math.log((low - 0.01) / high))
    assert found.direction == "flagged"
    assert found.choice == "fixed beforehand"


def test_what_is_not_flagged_can_show_more() -> None:
    """No member escapes, so that a record which does was surely not one."""
    member = np.arange(200) < 100
    scores = np.where(member, 1.0, np.arange(200) < 150)
    found = epsilon_lower_bound(scores, member, 0.5)
    assert found.direction == "not flagged"
    assert found.epsilon == pytest.approx(math.log((1 - found.fpr.hi) / (1 - found.tpr.lo)))
    mirrored = epsilon_lower_bound(-scores, ~member, -0.5)
    assert mirrored.direction == "flagged"
    assert mirrored.epsilon == pytest.approx(found.epsilon)


def test_several_thresholds_share_the_error() -> None:
    rng = np.random.default_rng(4)
    scores, member = laplace(rng, 3.0, 500)
    several = epsilon_lower_bound(scores, member, [0.2, 0.8])
    alone = max((epsilon_lower_bound(scores, member, t, level=0.975) for t in (0.2, 0.8)), key=float)
    assert several.epsilon == alone.epsilon
    assert several.threshold == alone.threshold
    assert (several.candidates, several.level, several.choice) == (2, 0.95, "best of 2 fixed beforehand")


def test_halves_follow_the_seed_and_measure_on_the_other_half() -> None:
    rng = np.random.default_rng(5)
    scores, member = laplace(rng, 3.0, 400)
    first, again = (epsilon_lower_bound(scores, member, seed=1) for _ in range(2))
    assert first == again
    assert first.tpr.n + first.fpr.n in (200, 201, 202)
    assert "one half" in first.choice
    assert len({epsilon_lower_bound(scores, member, seed=seed).threshold for seed in range(8)}) > 1


def test_nothing_shown_is_zero_and_no_proof() -> None:
    member = np.arange(100) < 50
    for scores in (np.zeros(100), -member.astype(float), np.arange(100) % 2.0):
        found = epsilon_lower_bound(scores, member, 0.5)
        assert (found.epsilon, found.direction) == (0.0, "")
        assert "no proof of privacy" in str(found)
    leaking = epsilon_lower_bound(member.astype(float), member, 0.5)
    assert str(leaking).startswith(f"ε is at least {leaking.epsilon:.3g} at δ = 0 with 95% confidence")
    assert math.isfinite(leaking.epsilon)
    assert float(leaking) == leaking.epsilon


def test_missing_scores_are_left_out() -> None:
    member = np.arange(40) < 20
    scores = np.where(np.arange(40) % 5 == 0, math.nan, member)
    found = epsilon_lower_bound(scores, member, 0.5)
    assert (found.tpr.n, found.fpr.n) == (16, 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"delta": 1.0}, "delta is 1"),
        ({"level": 1.0}, "level is 1"),
        ({"threshold": []}, "threshold is"),
        ({"threshold": [math.nan]}, "threshold is"),
        ({"member": [True, True, True]}, "0 non-members with a score; at least 1"),
        ({"threshold": None}, "1 members with a score; at least 2 are needed, half of them to choose"),
    ],
)
def test_what_shows_no_bound(changes: dict[str, object], words: str) -> None:
    values: dict[str, object] = {
        "scores": [1.0, 2.0, 3.0],
        "member": [True, False, False],
        "threshold": 0.5,
        **changes,
    }
    with pytest.raises(InputError, match=words):
        epsilon_lower_bound(**values)  # type: ignore[arg-type]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_predictive_value_is_bayes_rule(tpr: float, fpr: float, prior: float) -> None:
    found = positive_predictive_value(tpr, fpr, prior)
    flagged = tpr * prior + fpr * (1 - prior)
    if flagged == 0:
        assert math.isnan(found.value)
        assert (found.lo, found.hi) == (0, 1)
    else:
        assert found.value == found.lo == found.hi == pytest.approx(tpr * prior / flagged)
        assert found.level == 1


def test_the_predictive_value_of_equal_rates_is_the_prior() -> None:
    assert positive_predictive_value(0.3, 0.3, 0.01).value == pytest.approx(0.01)


def test_the_ends_of_the_predictive_value_are_those_over_the_box() -> None:
    tpr, fpr = proportion(40, 200, level=0.975), proportion(2, 500, level=0.975)
    found = positive_predictive_value(tpr, fpr, 0.05)
    box = [
        positive_predictive_value(t, f, 0.05).value
        for t in np.linspace(tpr.lo, tpr.hi, 11)
        for f in np.linspace(fpr.lo, fpr.hi, 11)
    ]
    assert (found.lo, found.hi) == pytest.approx((min(box), max(box)))
    assert found.level == pytest.approx(0.95)
    assert found.lo < found.value < found.hi


def test_the_predictive_value_covers_the_truth() -> None:
    rng, hits = np.random.default_rng(6), 0
    truth = 0.2 * 0.1 / (0.2 * 0.1 + 0.02 * 0.9)
    for _ in range(TRIALS):
        tpr = proportion(int(rng.binomial(200, 0.2)), 200, level=0.975)
        fpr = proportion(int(rng.binomial(300, 0.02)), 300, level=0.975)
        found = positive_predictive_value(tpr, fpr, 0.1)
        hits += found.lo <= truth <= found.hi
    assert hits >= TRIALS - MOST


def test_rates_and_priors_are_shares() -> None:
    with pytest.raises(InputError, match=r"prior is 1\.5"):
        positive_predictive_value(0.1, 0.1, 1.5)
    with pytest.raises(InputError, match="tpr is -1"):
        positive_predictive_value(-1, 0.1, 0.5)


def test_the_curve_over_priors_falls_with_them() -> None:
    figure = predictive_figure({"1 %": (proportion(20, 100), proportion(1, 100)), "none": (0.0, 0.0)})
    line, none = figure.series
    assert list(line.y) == sorted(line.y)
    assert line.y[0] < 0.01 < 0.9 < line.y[-1]
    assert all(math.isnan(y) for y in none.y)
    assert figure.x_scale == "log"
    assert line.lo is not None
    assert line.hi is not None
    assert all(lo <= y <= hi for lo, y, hi in zip(line.lo, line.y, line.hi, strict=True))
