"""Theory against the paper's numbers, and against soft watermarks simulated on random distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from assay.core.errors import InputError, SettingError
from assay.watermark.statistics import critical_count, log_binomial_tail, log_gamma_tail
from assay.watermark.theory import (
    TYPICAL_CHOICES,
    choices_entropy,
    detection_power,
    expected_green,
    expected_z,
    green_rate,
    green_variance_bound,
    perplexity_bound,
    spike_entropy,
    spike_modulus,
    tokens_needed,
    tokens_needed_gumbel,
)

MARKS = [(0.5, 2.0), (0.25, 2.0), (0.25, 5.0), (0.25, 0.5), (0.1, 1.0), (0.5, 10.0)]


def test_the_numbers_of_the_paper() -> None:
    assert expected_green(200, 0.807, gamma=0.5, delta=2.0) == pytest.approx(142.2, abs=0.05)
    assert expected_z(16, 0.8, gamma=0.5, delta=math.inf) == 4.0
    assert expected_z(25, 0.8, gamma=0.5, delta=math.inf) == 5.0
    assert tokens_needed(0.5, math.inf, z=4.0) == 16
    assert tokens_needed(0.5, math.inf, z=5.0) == 25
    assert choices_entropy(TYPICAL_CHOICES, 0.5, 2.0) == pytest.approx(0.807, abs=5e-4)
    assert detection_power(200, 0.807, 0.5, 2.0, z=4.0) == pytest.approx(0.986, abs=0.01)


def test_spike_entropy_between_certainty_and_chance() -> None:
    z = 1.3
    assert spike_entropy(np.eye(5)[2], z) == pytest.approx(1 / (1 + z))
    assert spike_entropy(np.full(8, 1 / 8), z) == pytest.approx(8 / (8 + z))
    p = np.random.default_rng(0).dirichlet(np.ones(6), size=(2, 3))
    assert spike_entropy(p, z).shape == (2, 3)
    assert spike_entropy(p, z)[1, 2] == pytest.approx(sum(x / (1 + z * x) for x in p[1, 2]))
    assert spike_entropy(p, gamma=0.5, delta=2.0)[0, 0] == spike_entropy(p, spike_modulus(0.5, 2.0))[0, 0]
    assert np.allclose(spike_entropy(p.tolist(), 0.0), 1.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_spike_entropy_of_tensors_is_a_tensor(dtype: torch.dtype) -> None:
    p = torch.softmax(torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), -1)
    found = spike_entropy(p.to(dtype), 0.7)
    assert isinstance(found, torch.Tensor)
    assert found.shape == (4,)
    coarse = 2e-2 if dtype == torch.bfloat16 else 2e-3
    assert np.allclose(found.double().numpy(), spike_entropy(p.numpy(), 0.7), atol=coarse)
    p64 = p.clone().requires_grad_()
    spike_entropy(p64, 0.7).sum().backward()
    assert p64.grad is not None


def test_the_modulus_does_not_overflow() -> None:
    assert spike_modulus(0.5, 2.0) == pytest.approx(0.5 * (math.e**2 - 1) / (1 + (math.e**2 - 1) * 0.5))
    assert spike_modulus(0.25, 5000.0) == spike_modulus(0.25, math.inf) == pytest.approx(3.0)
    assert spike_modulus(0.25, 0.0) == 0.0
    assert green_rate(0.9, 0.25, 5000.0) == pytest.approx(0.9)
    assert green_rate(0.9, 0.25, math.inf) == 1.0
    assert perplexity_bound(0.25, 5000.0) == math.inf
    assert perplexity_bound(0.5, 0.0, 3.0) == 3.0


def random_distributions(count: int, vocabulary: int, seed: int) -> np.ndarray:
    """Sharp and flat ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, vocabulary)) * rng.uniform(0, 4, (count, 1))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def green_chances(p: np.ndarray, gamma: float, delta: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Chance of a green token, and expected surprise under p, for a fresh green list at every step."""
    size = p.shape[1]
    green = np.argsort(rng.random(p.shape), axis=1) < int(gamma * size)
    raised = p * np.where(green, math.exp(delta), 1.0)
    raised /= raised.sum(axis=1, keepdims=True)
    return (raised * green).sum(axis=1), raised


@pytest.mark.parametrize(("gamma", "delta"), MARKS)
def test_theorem_4_2_holds_in_simulation(gamma: float, delta: float) -> None:
    rng = np.random.default_rng(1)
    p = random_distributions(30, 60, 2)
    entropy = spike_entropy(p, gamma=gamma, delta=delta)
    chances = np.stack([green_chances(p, gamma, delta, rng)[0] for _ in range(1500)])
    error = chances.std() / math.sqrt(len(chances))
    bounds = np.array([green_rate(one, gamma, delta) for one in entropy])
    assert (chances.mean(axis=0) >= bounds - 6 * error).all()
    average = expected_green(30, float(entropy.mean()), gamma, delta)
    assert chances.mean(axis=0).sum() >= average - 6 * error
    counts = (rng.random(chances.shape) < chances).sum(axis=1)
    assert counts.var() <= green_variance_bound(30, float(entropy.mean()), gamma, delta) * 1.15


def test_the_variance_may_exceed_the_published_bound_where_few_tokens_are_green() -> None:
    """q = 0.2 promised, half of the tokens green in truth: the variance is T/4, not T q (1-q)."""
    assert green_variance_bound(100, 0.3, 0.25, 2.0) == 25.0
    assert green_variance_bound(200, 0.807, 0.5, 2.0) == pytest.approx(200 * 0.7108 * 0.2892, rel=1e-3)
    assert green_variance_bound(100, 0.8, 0.25, math.inf) == 0.0


@pytest.mark.parametrize(("gamma", "delta"), MARKS)
def test_theorem_4_3_holds_in_simulation(gamma: float, delta: float) -> None:
    rng = np.random.default_rng(3)
    p = random_distributions(20, 60, 4)
    surprise = -np.log(p)
    terms = np.mean([(green_chances(p, gamma, delta, rng)[1] * surprise).sum(axis=1) for _ in range(300)], axis=0)
    assert (terms <= perplexity_bound(gamma, delta) * (p * surprise).sum(axis=1) * 1.05).all()


@pytest.mark.parametrize(("gamma", "delta"), MARKS)
@pytest.mark.parametrize("power", [0.5, 0.9])
def test_tokens_needed_are_the_fewest_from_which_on_the_power_holds(gamma: float, delta: float, power: float) -> None:
    entropy = choices_entropy(5.0, gamma, delta)
    needed = int(tokens_needed(gamma, delta, entropy, fpr=1e-4, power=power))
    rate = green_rate(entropy, gamma, delta)
    lengths = np.arange(max(1, needed - 1), needed + 300)
    reached = np.exp(log_binomial_tail(critical_count(lengths, gamma, 1e-4), lengths, rate))
    assert (reached[1:] >= power).all()
    assert reached[0] < power
    assert detection_power(needed, entropy, gamma, delta, fpr=1e-4) == pytest.approx(float(reached[1]))


def test_tokens_needed_follow_the_formula_for_z() -> None:
    q = green_rate(0.8, 0.25, 2.0)
    assert tokens_needed(0.25, 2.0, 0.8, z=4.0) == math.ceil(16 * 0.25 * 0.75 / (q - 0.25) ** 2)
    T = tokens_needed(0.25, 2.0, 0.8, z=4.0, power=0.95)
    spread = [ndtri(0.95) * math.sqrt(q * (1 - q) * t) for t in (T - 1, T)]
    short, enough = [(q - 0.25) * t - s >= 4 * math.sqrt(t * 0.1875) for t, s in zip((T - 1, T), spread, strict=True)]
    assert enough
    assert not short
    near = tokens_needed(0.25, 2.0, 0.8, fpr=1e-6)
    assert near == pytest.approx(tokens_needed(0.25, 2.0, 0.8, z=float(-ndtri(1e-6))), rel=0.3)


def test_tokens_needed_when_a_mark_is_weak_or_none() -> None:
    assert (
        tokens_needed(0.25, 2.0, 0.3) == tokens_needed(0.25, 0.0, 1.0) == tokens_needed(0.25, 2.0, 0.3, z=4) == math.inf
    )
    assert 10_000 < tokens_needed(0.25, 0.1, choices_entropy(5, 0.25, 0.1)) < 100_000
    assert math.isfinite(tokens_needed(0.25, 0.001, choices_entropy(5, 0.25, 0.001)))
    assert tokens_needed(0.25, math.inf, fpr=1e-6) == 10
    assert tokens_needed(0.25, math.inf, fpr=1e-6, power=0.999) == 10


def test_gumbel_needs_as_many_tokens_as_simulated() -> None:
    needed = int(tokens_needed_gumbel(4.0, fpr=1e-4, power=0.9))
    best = np.random.default_rng(5).random((4000, needed, 4)).max(axis=2)
    found = np.mean(log_gamma_tail(-np.log1p(-best).sum(axis=1), needed) <= math.log(1e-4))
    assert 0.87 < found < 0.94
    assert tokens_needed_gumbel(1.0) == math.inf
    assert tokens_needed_gumbel(1.2) > tokens_needed_gumbel(50.0)


@given(st.floats(0.05, 0.95), st.floats(0.01, 20), st.floats(1.01, 1000))
@settings(max_examples=60, deadline=None)
def test_text_with_a_choice_can_be_marked_at_any_strength(gamma: float, delta: float, choices: float) -> None:
    rate = green_rate(choices_entropy(choices, gamma, delta), gamma, delta)
    assert gamma < rate <= 1
    assert perplexity_bound(gamma, delta, 2.0) >= 2.0


def test_text_is_typical_unless_its_entropy_is_given() -> None:
    typical = choices_entropy(TYPICAL_CHOICES, 0.25, 2.0)
    assert tokens_needed(0.25, 2.0) == tokens_needed(0.25, 2.0, typical, 1e-6)


def test_values_outside_their_ranges() -> None:
    for bad in (
        {"gamma": 0.0},
        {"gamma": 1.0},
        {"delta": -1.0},
        {"delta": math.nan},
        {"entropy": 0.0},
        {"entropy": 1.5},
    ):
        with pytest.raises(SettingError, match=next(iter(bad))):
            tokens_needed(**bad)
    for bad in ({"fpr": 0.0}, {"fpr": 1.0}, {"power": 1.0}, {"z": math.nan}, {"z": -1.0}, {"z": 4.0, "fpr": 0.1}):
        with pytest.raises(SettingError):
            tokens_needed(**bad)
    with pytest.raises(SettingError, match="not both"):
        detection_power(10, 0.8, fpr=0.1, z=4.0)
    with pytest.raises(SettingError, match="choices is"):
        tokens_needed_gumbel(0.5)
    for options in ({}, {"modulus": 1.0, "gamma": 0.5}, {"gamma": 0.5}, {"modulus": math.inf}, {"modulus": -1.0}):
        with pytest.raises(SettingError):
            spike_entropy([0.5, 0.5], **options)
    for probs in (0.5, [], [0.5, 0.6], [1.5, -0.5], [math.nan, 1.0], torch.tensor([1, 2])):
        with pytest.raises(InputError):
            spike_entropy(probs, 1.0)
