"""What a soft watermark must achieve: spike entropy, expected green tokens, tokens needed, cost in perplexity.

With ``α = e^δ``: a model whose distributions have average spike entropy ``S*`` writes a green token with chance at
least ``q = γα S* / (1 + (α-1)γ)``. Kirchenbauer et al., A Watermark for Large Language Models, ICML 2023
(arXiv 2301.10226), theorems 4.2 and 4.3.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from scipy.special import digamma, gammainccinv, ndtri, polygamma

from ..core.errors import InputError, SettingError
from .statistics import critical_count, log_binomial_tail

TYPICAL_CHOICES = 3.18
"""Equally likely tokens whose spike entropy is 0.807 at gamma 0.5 and delta 2, the paper's example of news text."""
_LONGEST = 10_000_000  # above it the normal approximation is exact enough


def spike_modulus(gamma: float, delta: float) -> float:
    """The modulus ``(1-γ)(α-1) / (1 + (α-1)γ)`` that belongs to a mark; ``(1-γ)/γ`` for infinite delta.

    >>> round(spike_modulus(0.5, 2.0), 4)
    0.7616
    """
    _check(gamma, delta)
    return (1 - gamma) * -math.expm1(-delta) / (gamma + (1 - gamma) * math.exp(-delta))


def spike_entropy(
    probs: Any, modulus: float | None = None, *, gamma: float | None = None, delta: float | None = None
) -> Any:
    """Spike entropy ``S(p) = Σ_v p_v / (1 + z p_v)`` of distributions over tokens.

    It lies between ``1/(1+z)``, all on one token, and ``N/(N+z)``, N tokens equally likely.

    Args:
        probs: [..., V], >= 0, each row with sum 1; an array, a list or a tensor.
        modulus: z >= 0; or give gamma and delta, whose modulus is used.
        gamma, delta: of the mark.

    Returns:
        [...] as an array (a float for one distribution), or as a tensor where a tensor was given.

    Raises:
        SettingError: neither or both of modulus and (gamma, delta).
        InputError: what was given are no probabilities.

    >>> float(spike_entropy([0.25, 0.25, 0.25, 0.25], modulus=1.0))
    0.8
    """
    if modulus is None and gamma is not None and delta is not None:
        modulus = spike_modulus(gamma, delta)
    elif modulus is None or gamma is not None or delta is not None:
        raise SettingError("Give either modulus, or gamma and delta: the spike entropy depends on them.")
    if not (modulus >= 0 and math.isfinite(modulus)):
        raise SettingError(f"modulus is {modulus}; a finite number of at least 0 is needed.")
    tensor = hasattr(probs, "detach")
    p: Any = probs if tensor else np.asarray(probs, np.float64)
    if not p.ndim or not p.shape[-1]:
        raise InputError("probs are a single number or empty; distributions [..., V] are needed.")
    if tensor and not p.dtype.is_floating_point:
        p = p.double()
    elif tensor and p.dtype.itemsize < 4:
        p = p.float()
    sums = p.sum(-1)
    if not bool((p >= 0).all()) or not bool((abs(sums - 1) <= 1e-3).all()):
        raise InputError("probs are no distributions: they must be >= 0 with sum 1 over the last axis.")
    return (p / (1 + modulus * p)).sum(-1)


def green_rate(entropy: float, gamma: float = 0.25, delta: float = 2.0) -> float:
    """The least chance of a green token, ``q = γα S* / (1 + (α-1)γ)``, theorem 4.2; 1 for infinite delta.

    Args:
        entropy: average spike entropy S* in (0, 1], at the modulus of gamma and delta.
        gamma: share of green tokens, in (0, 1).
        delta: bonus of green tokens, nats; ``math.inf`` for a hard mark, where every token is green.

    >>> round(green_rate(0.807, gamma=0.5, delta=2.0), 3)
    0.711
    """
    _check(gamma, delta)
    if not 0 < entropy <= 1:
        raise SettingError(f"entropy is {entropy}; a spike entropy is above 0 and at most 1.")
    if delta == math.inf:
        return 1.0
    return gamma / (gamma + (1 - gamma) * math.exp(-delta)) * float(entropy)


def expected_green(tokens: float, entropy: float, gamma: float = 0.25, delta: float = 2.0) -> float:
    """Lower bound on the mean number of green tokens, ``T q``.

    Args:
        tokens: T, marked tokens.
        entropy: average spike entropy S*.
        gamma, delta: of the mark; delta may be infinite.

    >>> round(expected_green(200, 0.807, gamma=0.5, delta=2.0), 1)
    142.2
    """
    return tokens * green_rate(entropy, gamma, delta)


def green_variance_bound(tokens: float, entropy: float, gamma: float = 0.25, delta: float = 2.0) -> float:
    """Upper bound on the variance of the number of green tokens: ``T q (1-q)`` where q >= 1/2, else ``T/4``.

    The mean may exceed its bound ``T q``. For q >= 1/2 that only lowers the variance; for less it may raise it.

    >>> round(green_variance_bound(200, 0.807, gamma=0.5, delta=2.0), 1)
    41.1
    """
    rate = max(0.5, green_rate(entropy, gamma, delta))
    return tokens * rate * (1 - rate)


def perplexity_bound(gamma: float = 0.25, delta: float = 2.0, perplexity: float = 1.0) -> float:
    """Upper bound on a token's expected perplexity term under the mark: ``(1 + (α-1)γ) P*``, theorem 4.3.

    Args:
        gamma, delta: of the mark; a hard mark has no bound (infinite).
        perplexity: P*, the term without the mark.

    >>> round(perplexity_bound(0.25, 2.0), 3)
    2.597
    """
    _check(gamma, delta)
    return perplexity * (1 + math.expm1(delta) * gamma) if delta < 700 else math.inf


def expected_z(tokens: float, entropy: float, gamma: float = 0.25, delta: float = 2.0) -> float:
    """The mean z of marked text, at least ``sqrt(T) (q-γ) / sqrt(γ(1-γ))``.

    >>> expected_z(16, 0.8, gamma=0.5, delta=math.inf)
    4.0
    """
    return math.sqrt(tokens) * (green_rate(entropy, gamma, delta) - gamma) / math.sqrt(gamma * (1 - gamma))


def detection_power(
    tokens: int,
    entropy: float,
    gamma: float = 0.25,
    delta: float = 2.0,
    *,
    fpr: float | None = None,
    z: float | None = None,
) -> float:
    """The share of marked texts that are found, at least, with green counts Binomial(T, q).

    Args:
        tokens: T, a whole number.
        entropy, gamma, delta: as in ``expected_green``.
        fpr: found means an exact p-value of at most this; default 1e-6.
        z: found means that z exceeds this, as published.

    >>> round(detection_power(200, 0.807, 0.5, 2.0, z=4.0), 3)
    0.982
    """
    rate = green_rate(entropy, gamma, delta)
    if z is not None and fpr is not None:
        raise SettingError("Give either fpr or z as the threshold, not both.")
    if z is not None:
        least = math.floor(gamma * tokens + z * math.sqrt(tokens * gamma * (1 - gamma))) + 1
    else:
        least = int(critical_count(tokens, gamma, _probability("fpr", 1e-6 if fpr is None else fpr)))
    return float(_power(np.array([least]), np.array([tokens]), rate)[0])


def tokens_needed(
    gamma: float = 0.25,
    delta: float = 2.0,
    entropy: float | None = None,
    fpr: float | None = None,
    *,
    z: float | None = None,
    power: float = 0.5,
) -> float:
    """How many marked tokens a detection needs, by theorem 4.2.

    With ``fpr``: the fewest from which on, at every length, a green count of Binomial(T, q) has an exact p-value of
    at most ``fpr`` with chance ``power``. With ``z``: the fewest whose mean z, less the normal quantile of ``power``
    times its deviation, reaches z; at power 1/2 that is ``T = z² γ(1-γ) / (q-γ)²``.

    Args:
        gamma, delta: of the mark; delta may be infinite (hard).
        entropy: average spike entropy S* of the model's distributions, at the modulus of gamma and delta; None: as if
            every token were chosen among ``TYPICAL_CHOICES``. A hard mark needs none.
        fpr: false positive rate, in (0, 1); default 1e-6 where z is not given.
        z: threshold of z instead.
        power: share of marked texts to be found, in (0, 1).

    Returns:
        A whole number, or ``math.inf`` where q <= gamma: the bound promises no excess of green tokens at any length.

    Raises:
        SettingError: a value is outside its range, or both thresholds are given.

    >>> tokens_needed(0.5, math.inf, z=4.0), tokens_needed(0.25, 2.0, 0.3)
    (16, inf)
    >>> tokens_needed(0.25, 2.0, 0.8, fpr=1e-6)
    52
    """
    if z is not None and fpr is not None:
        raise SettingError("Give either fpr or z as the threshold, not both.")
    rate = green_rate(choices_entropy(TYPICAL_CHOICES, gamma, delta) if entropy is None else entropy, gamma, delta)
    _probability("power", power)
    if z is not None and not (math.isfinite(z) and z > 0):
        raise SettingError(f"z is {z}; a finite threshold above 0 is needed, such as 4.")
    if z is None:
        return _tokens_exact(gamma, rate, _probability("fpr", 1e-6 if fpr is None else fpr), power)
    return _tokens_normal(gamma, rate, z, power)


@functools.lru_cache(maxsize=256)
def tokens_needed_gumbel(choices: float = TYPICAL_CHOICES, *, fpr: float = 1e-6, power: float = 0.5) -> float:
    """How many tokens a detection of the Gumbel mark needs where N tokens are equally likely at every step.

    The token drawn has the largest of N uniforms, so that ``-ln(1-u)`` has mean ``H_N = Σ 1/k`` and variance
    ``Σ 1/k²`` over k = 1..N, against mean and variance 1 under the null. The null is exact, the mark's sum normal.

    Args:
        choices: N >= 1, need not be whole; ``math.inf`` where N = 1: such text cannot carry the mark.
        fpr, power: as in ``tokens_needed``.

    >>> tokens_needed_gumbel(4.0, fpr=1e-6)
    32
    """
    if not (math.isfinite(choices) and choices >= 1):
        raise SettingError(f"choices is {choices}; at least 1 equally likely token is needed.")
    _probability("fpr", fpr)
    quantile = float(ndtri(_probability("power", power)))
    mean = float(digamma(choices + 1)) + np.euler_gamma
    deviation = math.sqrt(math.pi**2 / 6 - float(polygamma(1, choices + 1)))
    if mean <= 1 + 1e-9:
        return math.inf

    def reached(tokens: int) -> bool:
        return mean * tokens - quantile * deviation * math.sqrt(tokens) >= float(gammainccinv(tokens, fpr))

    return _first(reached)


def choices_entropy(choices: float, gamma: float, delta: float) -> float:
    """Spike entropy ``N / (N + z)`` of N equally likely tokens at the modulus z of a mark.

    With it ``q > γ`` holds for every delta exactly where N > 1, so that one N describes a text for all marks.
    """
    return choices / (choices + spike_modulus(gamma, delta))


@functools.lru_cache(maxsize=1024)
def _tokens_exact(gamma: float, rate: float, fpr: float, power: float) -> float:
    if rate <= gamma:
        return math.inf
    threshold = float(-ndtri(fpr)) if fpr > 1e-300 else math.sqrt(-2 * math.log(fpr))
    guess = _tokens_normal(gamma, rate, max(threshold, 0.1), power)
    if guess > _LONGEST:
        return guess
    high, last = max(64, int(2 * guess)), 0
    while True:
        step = max(1, high // 2048)
        last = _last_miss(np.arange(1, high + 1, step), gamma, rate, fpr, power)
        if last <= 0.9 * high:
            break
        high *= 2
    if step > 1:  # the power rises in saw teeth: look at every length past the last miss that was seen
        teeth = min(20_000, int(8 / (gamma * (1 - gamma) * (rate - gamma))))
        last = _last_miss(np.arange(last, last + step + teeth + 1), gamma, rate, fpr, power)
    return last + 1


def _last_miss(lengths: np.ndarray, gamma: float, rate: float, fpr: float, power: float) -> int:
    """The largest of these lengths at which marked text is found with less than this chance; 0 if none is."""
    missed = np.flatnonzero(_power(critical_count(lengths, gamma, fpr), lengths, rate) < power)
    return int(lengths[missed[-1]]) if len(missed) else 0


def _tokens_normal(gamma: float, rate: float, z: float, power: float) -> float:
    """The fewest T with ``T (q-γ) - quantile sqrt(T q(1-q)) >= z sqrt(T γ(1-γ))``."""
    if rate <= gamma:
        return math.inf
    quantile = float(ndtri(power)) if power != 0.5 else 0.0
    root = (z * math.sqrt(gamma * (1 - gamma)) + quantile * math.sqrt(rate * (1 - rate))) / (rate - gamma)
    return max(1, math.ceil(max(root, 0.0) ** 2 - 1e-9))


def _power(least: np.ndarray, tokens: np.ndarray, rate: float) -> np.ndarray:
    if rate >= 1:
        return (tokens >= least).astype(np.float64)
    return np.exp(log_binomial_tail(least, tokens, rate))


def _first(reached: Any) -> int:
    """The first whole number from 1 at which a condition that stays true is true."""
    high = 1
    while not reached(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _check(gamma: float, delta: float) -> None:
    if not 0 < gamma < 1:
        raise SettingError(f"gamma is {gamma}; the share of green tokens is above 0 and below 1.")
    if not delta >= 0:
        raise SettingError(f"delta is {delta}; the bonus of green tokens is at least 0 (math.inf for a hard mark).")


def _probability(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise SettingError(f"{name} is {value}; a probability above 0 and below 1 is needed.")
    return float(value)
