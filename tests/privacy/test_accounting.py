"""Accounting against exact formulas, quadrature, the published figures, and Opacus itself."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from scipy import stats as distributions

from assay.core.errors import MissingExtra, SettingError, Unsupported
from assay.privacy import Event, Ledger, calibrate_noise, effective_noise, epsilon, gaussian_epsilon
from assay.privacy.accountants import Steps, prv

pytest.importorskip("opacus")

SIGMA = st.floats(0.4, 20)
DELTA = st.sampled_from([1e-3, 1e-5, 1e-8])
RATE = st.sampled_from([1e-4, 0.003, 0.05, 0.4, 1.0])


def cost(sigma: float, rate: float, steps: int, delta: float, accountant: str = "rdp", **more) -> float:
    return epsilon(noise_multiplier=sigma, sample_rate=rate, steps=steps, delta=delta, accountant=accountant, **more)


def one_step_delta(eps, sigma: float, rate: float):
    """δ(ε) of one step, exact, for every real ε: hockey-stick divergence of (1-q) N(0,σ²) + q N(1,σ²) from N(0,σ²)."""
    eps = np.asarray(eps, dtype=np.float64)
    odds = (np.exp(eps) - (1 - rate)) / rate
    with np.errstate(all="ignore"):
        cut = sigma**2 * np.log(odds) + 0.5
        upper = rate * special.ndtr((1 - cut) / sigma) + (1 - rate - np.exp(eps)) * special.ndtr(-cut / sigma)
    return np.where(odds <= 0, 1 - np.exp(eps), upper)


def two_step_delta(eps: float, sigma: float, rate: float) -> float:
    """δ(ε) of two steps: average of the one-step value at ε minus the first step's loss."""
    x = np.linspace(-14 * sigma, 1 + 14 * sigma, 200_001)
    loss = np.log(1 - rate + rate * np.exp((2 * x - 1) / (2 * sigma**2)))
    density = (1 - rate) * distributions.norm.pdf(x, 0, sigma) + rate * distributions.norm.pdf(x, 1, sigma)
    return float(np.trapezoid(density * one_step_delta(eps - loss, sigma, rate), x))


def exact(delta_of, delta: float) -> float:
    return optimize.brentq(lambda eps: float(delta_of(eps)) - delta, 0, 100, xtol=1e-10)


@pytest.mark.parametrize("steps", [60 * (54_676 // 256)])
def test_the_stated_epsilon_of_the_published_mnist_training(steps: int) -> None:
    assert cost(0.8, 256 / 54_676, steps, 1e-6) == pytest.approx(5.90, abs=0.005)


def test_the_stated_epsilon_of_the_dp_cert_mnist_training() -> None:
    steps = 40 * math.ceil(60_000 / 512)
    assert cost(1.23, 512 / 60_000, steps, 1e-6) == pytest.approx(2.9, abs=0.02)
    assert cost(1.23, 512 / 60_000, steps, 1e-6, "prv") == pytest.approx(2.70, abs=0.01)


@pytest.mark.parametrize(
    ("sigma", "count_noise", "rate", "steps", "over_published", "over_gradient", "centred_over_gradient"),
    [(1.0, 2.0, 0.01, 1000, 1.24, 1.31, 1.07), (0.8, 1.0, 0.05, 500, 1.52, 1.83, 1.19)],
)
def test_joint_accounting_of_counts_against_the_published_one(
    sigma, count_noise, rate, steps, over_published, over_gradient, centred_over_gradient
) -> None:
    published = Ledger()
    for noise in (sigma, count_noise):
        published.charge(Event(noise, rate, steps=steps))
    alone = cost(sigma, rate, steps, 1e-5)
    joint = cost(sigma, rate, steps, 1e-5, count_noise=count_noise)
    centred = cost(sigma, rate, steps, 1e-5, count_noise=count_noise, centred=True)
    assert joint / published.epsilon(1e-5) == pytest.approx(over_published, abs=0.01)
    assert joint / alone == pytest.approx(over_gradient, abs=0.01)
    assert centred / alone == pytest.approx(centred_over_gradient, abs=0.01)


@given(sigma=st.floats(0.05, 50), delta=st.floats(1e-9, 0.1))
def test_the_gaussian_formula_is_inverted(sigma: float, delta: float) -> None:
    found = gaussian_epsilon(sigma, delta)
    normal = distributions.norm
    reached = normal.cdf(0.5 / sigma - found * sigma) - np.exp(found + normal.logcdf(-0.5 / sigma - found * sigma))
    if found == 0:
        assert reached <= delta
    else:
        assert reached == pytest.approx(delta, rel=1e-6, abs=1e-14)


def test_the_gaussian_formula_knows_its_ends() -> None:
    assert gaussian_epsilon(0, 1e-5) == math.inf
    assert gaussian_epsilon(math.inf, 1e-5) == 0
    assert gaussian_epsilon(1e6, 1e-5) == 0  # δ(0) is below 1e-5 already
    assert gaussian_epsilon(1e-3, 1e-5) == pytest.approx(504_263, rel=1e-3)


@settings(max_examples=12)
@given(sigma=st.floats(0.3, 20), steps=st.integers(1, 100), delta=DELTA)
def test_on_the_whole_data_the_bounds_lie_just_above_the_exact_epsilon(sigma: float, steps: int, delta: float) -> None:
    truth = gaussian_epsilon(sigma / math.sqrt(steps), delta)
    assume(truth < 400)
    rdp, tight = cost(sigma, 1.0, steps, delta), cost(sigma, 1.0, steps, delta, "prv")
    assert truth <= tight <= truth + max(0.025, truth / 20)
    assert truth <= rdp <= 1.25 * truth + 0.3


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0])
def test_one_and_two_steps_against_the_exact_divergence(accountant: str, rate: float, sigma: float) -> None:
    for delta in (1e-4, 1e-7):
        for steps, delta_of in ((1, one_step_delta), (2, two_step_delta)):
            if delta_of(0.0, sigma, rate) <= delta:
                continue
            truth = exact(lambda eps, of=delta_of: of(eps, sigma, rate), delta)
            bound = cost(sigma, rate, steps, delta, accountant)
            assert bound >= truth - 1e-6
            if accountant == "prv":
                assert bound <= truth + 0.03


@settings(max_examples=8)
@given(sigma=SIGMA, rate=RATE, steps=st.integers(1, 200), delta=DELTA)
def test_rdp_is_never_below_prv(sigma: float, rate: float, steps: int, delta: float) -> None:
    bound = cost(sigma, rate, steps, delta)
    assume(bound < 100)
    assert prv([Steps(sigma, rate, steps)], delta) <= bound


@pytest.mark.parametrize(
    ("sigma", "rate", "steps"), [(0.8, 256 / 54_676, 2_000), (2.0, 0.05, 500), (0.6, 0.001, 3_000)]
)
def test_opacus_gives_the_same(sigma: float, rate: float, steps: int) -> None:
    """Its orders are a part of ours, and its discretisation as fine, so that ours may be lower, never higher."""
    from opacus.accountants import PRVAccountant, RDPAccountant

    theirs = RDPAccountant()
    theirs.history = [(sigma, rate, steps)]
    assert cost(sigma, rate, steps, 1e-5) == pytest.approx(theirs.get_epsilon(1e-5), rel=1e-3)
    theirs = PRVAccountant()
    theirs.history = [(sigma, rate, steps)]
    assert cost(sigma, rate, steps, 1e-5, "prv") == pytest.approx(theirs.get_epsilon(1e-5), abs=0.011)


@settings(max_examples=15)
@given(
    sigma=SIGMA, rate=st.floats(1e-4, 0.9), steps=st.integers(1, 5_000), delta=DELTA, more=st.floats(1.01, 3),
    accountant=st.sampled_from(["rdp", "gdp"]),
)  # fmt: skip
@example(sigma=3.0, rate=1e-4, steps=10, delta=1e-5, more=1.5, accountant="rdp")
def test_epsilon_is_monotone(sigma, rate, steps, delta, more, accountant) -> None:
    base = cost(sigma, rate, steps, delta, accountant)
    slack = base * 1e-9 + 1e-12
    assert cost(sigma * more, rate, steps, delta, accountant) <= base + slack
    assert cost(sigma, min(rate * more, 1.0), steps, delta, accountant) >= base - slack
    assert cost(sigma, rate, math.ceil(steps * more), delta, accountant) >= base - slack
    assert cost(sigma, rate, steps, min(delta * more, 0.5), accountant) <= base + slack


def test_prv_is_monotone_within_its_error() -> None:
    found = [cost(sigma, 0.01, 1_000, 1e-5, "prv") for sigma in (0.6, 0.7, 0.9, 1.3, 3, 10, 100)]
    assert found == sorted(found, reverse=True)
    found = [cost(1.0, 0.01, steps, 1e-5, "prv") for steps in (1, 10, 100, 1_000)]
    assert found == sorted(found)


def test_tiny_and_huge_epsilons_have_answers() -> None:
    """Opacus' own routines give -0.002 and 0.1 here, warn, or fill the memory."""
    assert cost(1e4, 0.001, 10, 1e-5) < 0.01
    assert cost(1e4, 0.001, 10, 1e-5, "prv") < 0.01
    assert cost(1e4, 0.001, 10, 1e-5, "gdp") == 0
    assert cost(1e6, 1.0, 1, 0.1) == 0
    for accountant in ("rdp", "prv", "gdp"):
        assert cost(1e5, 1e-4, 1, 0.5, accountant) >= 0
    assert 1_000 < cost(0.5, 0.2, 10_000, 1e-5) < math.inf
    with pytest.raises(Unsupported, match="Use accountant='rdp', which bounds epsilon by 2"):
        cost(0.5, 0.2, 10_000, 1e-5, "prv")
    assert cost(0.1, 0.001, 3, 1e-5, "gdp") == math.inf  # exp(σ^-2) leaves float64


def test_ends_of_the_range() -> None:
    for accountant in ("rdp", "prv", "gdp"):
        assert cost(1.0, 0.1, 0, 1e-5, accountant) == 0.0
        assert cost(0.0, 0.1, 10, 1e-5, accountant) == math.inf
        assert cost(math.inf, 0.1, 10, 1e-5, accountant) == 0.0
    assert cost(0.0, 0.1, 10, 1e-5, count_noise=3.0) == math.inf


@given(sigma=st.floats(0.1, 100), counts=st.floats(0.1, 100))
def test_effective_noise_adds_precisions(sigma: float, counts: float) -> None:
    found = effective_noise(sigma, counts)
    assert found**-2 == pytest.approx(sigma**-2 + counts**-2)
    assert found < min(sigma, counts) * (1 + 1e-12)
    assert effective_noise(sigma, counts, centred=True) == pytest.approx(effective_noise(sigma, 2 * counts))
    assert effective_noise(sigma) == sigma
    # The share of the gradient can be taken out again: σ = (σ_eff^-2 - σ_b^-2)^-1/2 > σ_eff.
    assert (found**-2 - counts**-2) ** -0.5 == pytest.approx(sigma, rel=1e-5 * max(1, (sigma / counts) ** 2))


@settings(max_examples=6)
@given(
    target=st.floats(0.3, 30), rate=st.sampled_from([0.001, 0.02, 0.3]), steps=st.integers(1, 5_000),
    counts=st.sampled_from([None, 30.0]), centred=st.booleans(), accountant=st.sampled_from(["rdp", "gdp"]),
)  # fmt: skip
def test_calibration_is_safe_and_tight(target, rate, steps, counts, centred, accountant) -> None:
    common = {"rate": rate, "steps": steps, "delta": 1e-5, "accountant": accountant}
    if counts is not None:
        common |= {"count_noise": counts, "centred": centred}
        assume(cost(1e6, **common) < 0.9 * target)
    named = {("sample_rate" if key == "rate" else key): value for key, value in common.items()}
    try:
        sigma = calibrate_noise(target, **named)
    except SettingError:  # one step at a small rate: hardly any noise is needed
        assert cost(2.0**-6, **common) <= target
        return
    assert cost(sigma, **common) <= target
    assert cost(sigma / 1.0011, **common) > target


def test_calibration_by_prv_needs_less_noise() -> None:
    common = {"sample_rate": 0.01, "steps": 500, "delta": 1e-5}
    tight = calibrate_noise(target_epsilon=2.0, accountant="prv", **common)
    assert cost(tight, 0.01, 500, 1e-5, "prv") <= 2.0 < cost(tight / 1.0011, 0.01, 500, 1e-5, "prv")
    assert tight < calibrate_noise(2.0, **common)


def test_targets_out_of_reach_name_what_can_be_reached() -> None:
    common = {"sample_rate": 0.01, "steps": 1_000, "delta": 1e-6}
    with pytest.raises(SettingError, match=r"0\.001 is out of reach: .* still 0\.0\d+.*larger epsilon or delta"):
        calibrate_noise(1e-3, **common)
    with pytest.raises(SettingError, match=r"count_noise = 1\) cost this much by themselves: raise count_noise"):
        calibrate_noise(1.0, count_noise=1.0, **common)
    with pytest.raises(SettingError, match="out of reach from above"):
        calibrate_noise(1e12, **common)
    for wrong in ({}, {"epsilon": 1.0, "target_epsilon": 1.0}):
        with pytest.raises(SettingError, match="once: as epsilon or as target_epsilon"):
            calibrate_noise(**wrong, **common)
    for target in (0, -1, math.inf):
        with pytest.raises(SettingError, match="finite number above 0"):
            calibrate_noise(target, **common)
    with pytest.raises(SettingError, match="at least 1"):
        calibrate_noise(1.0, sample_rate=0.1, steps=0, delta=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"delta": 0}, "delta is 0; allowed: between 0 and 1"),
        ({"delta": 1.0}, "delta is 1.0"),
        ({"delta": math.nan}, "delta"),
        ({"sample_rate": 0.0}, "sample_rate is 0.0; allowed: above 0"),
        ({"sample_rate": 1.5}, "sample_rate is 1.5"),
        ({"steps": -1}, "steps is -1"),
        ({"steps": 1.5}, "whole number"),
        ({"noise_multiplier": -0.1}, "noise_multiplier is -0.1"),
        ({"count_noise": 0}, "count_noise is 0; allowed: above 0"),
        ({"accountant": "rpd"}, "Did you mean 'rdp'"),
    ],
)
def test_values_out_of_range_are_named(change: dict, says: str) -> None:
    given_ = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 10, "delta": 1e-5}
    with pytest.raises(SettingError, match=says):
        epsilon(**{**given_, **change})


def test_a_missing_opacus_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "opacus"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(MissingExtra, match=r"pip install 'assay-ml\[privacy\]'"):
        cost(1.2345, 0.1, 10, 1e-5)
    assert gaussian_epsilon(1.0, 1e-5) > 0  # needs none
