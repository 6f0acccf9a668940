"""Null distributions of a watermark's score: z, and exact upper tails in log space, for many texts at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, gammaincc, gammaln, ndtr

from .schemes.base import EXPONENTIAL

if TYPE_CHECKING:
    from .schemes.base import Scheme

_SAFE = 1e-280  # above it SciPy's tails have full relative precision
MEDIAN = math.log(2.0)  # of Exp(1): exponential scores above it are hits


@dataclass(frozen=True, slots=True)
class Null:
    """What the scores of a scheme are drawn from where the text knows nothing of the key. Holds no key.

    Attributes:
        kind: ``"bernoulli"`` or ``"exponential"``.
        gamma: chance of a hit.
        delta: bonus the scheme gives to logits; infinite for a hard mark.
        population: ids in the one list's vocabulary and, of them, green; None where every context has its own list.
    """

    kind: str
    gamma: float
    delta: float
    population: tuple[int, int] | None

    @classmethod
    def of(cls, scheme: Scheme) -> Null:
        """The null of a scheme."""
        settings = scheme.settings
        delta = math.inf if settings.hard else float(settings.delta)
        drawn = scheme.fixed and scheme.green is not None
        population = (int(settings.vocab_size), int(scheme.green or 0)) if drawn else None
        return cls(scheme.null, float(scheme.gamma), delta, population)

    def hits(self, values: np.ndarray) -> np.ndarray:
        """Which scores are hits: green, or above the median. bool [n]."""
        return values > MEDIAN if self.kind == EXPONENTIAL else values.astype(bool, copy=False)

    def z(self, score: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Sum of ``count`` scores, less its mean, over its standard deviation; 0 where nothing was counted."""
        mean, variance = (1.0, 1.0) if self.kind == EXPONENTIAL else (self.gamma, self.gamma * (1 - self.gamma))
        return (score - mean * count) / np.sqrt(np.maximum(count, 1) * variance)

    def log_tail(self, score: np.ndarray, count: np.ndarray, *, distinct: bool) -> np.ndarray:
        """``ln P(sum of count scores >= score)`` under the null.

        Args:
            score: sums, [m].
            count: numbers of scores, [m].
            distinct: every token was counted once, so that one list is drawn from without replacement.
        """
        if self.kind == EXPONENTIAL:
            return log_gamma_tail(score, count)
        if self.population is not None and distinct:
            return log_hypergeometric_tail(score, count, *self.population)
        return log_binomial_tail(score, count, self.gamma)


def log_binomial_tail(successes: ArrayLike, trials: ArrayLike, rate: float) -> np.ndarray:
    """``ln P(X >= successes)`` for X ~ Binomial(trials, rate); finite far below the smallest float.

    ``P = I_rate(g, T - g + 1)``, the regularised incomplete beta function. Where that underflows,
    ``ln P(X = g) + ln(1 + r_0 + r_0 r_1 + ...)`` with ``r_i = (T-g-i)/(g+1+i) · rate/(1-rate)``.

    Args:
        successes: whole numbers; -inf results where they exceed ``trials``.
        trials: whole numbers >= 0, of a shape that broadcasts.
        rate: in (0, 1).

    >>> float(log_binomial_tail(2000, 2000, 0.25)) / math.log(10)  # doctest: +ELLIPSIS
    -1204.11...
    """
    g, n = _aligned(successes, trials)
    inside = (g > 0) & (g <= n)
    g0, n0 = np.where(inside, g, 1.0), np.where(inside, n, 1.0)
    direct = betainc(g0, n0 - g0 + 1, rate)
    with np.errstate(divide="ignore"):
        found = np.log(direct)
    far = inside & (direct < _SAFE)
    if far.any():
        k, m = g0[far], n0[far]
        first = gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1) + k * math.log(rate) + (m - k) * math.log1p(-rate)
        odds = rate / (1 - rate)
        found[far] = first + _log_series(lambda i: (m - k - i) / (k + 1 + i) * odds, len(k))
    found = np.where(g <= 0, 0.0, np.where(g > n, -np.inf, np.minimum(found, 0.0)))
    return found.reshape(np.broadcast_shapes(np.shape(successes), np.shape(trials)))


def log_hypergeometric_tail(successes: ArrayLike, trials: ArrayLike, population: int, marked: int) -> np.ndarray:
    """``ln P(X >= successes)``, X the marked ones among ``trials`` drawn without replacement.

    The sum of the probabilities on the shorter side of ``successes``.

    Args:
        successes: whole numbers.
        trials: whole numbers in 0..population.
        population: how many there are.
        marked: how many of them are marked.

    >>> float(np.exp(log_hypergeometric_tail(2, 2, 4, 2)))  # doctest: +ELLIPSIS
    0.1666...
    """
    g, n = _aligned(successes, trials)
    least, most = np.maximum(0.0, n + marked - population), np.minimum(n, marked)
    found = np.where(g <= least, 0.0, -np.inf)
    inside = (g > least) & (g <= most)
    above = inside & (g > n * marked / population)
    for where, rising in ((above, True), (inside & ~above, False)):
        if not where.any():
            continue
        k, m = g[where] - (not rising), n[where]
        rest = population - marked - m
        total = _log_choose(marked, k) + _log_choose(population - marked, m - k) - _log_choose(population, m)
        if rising:
            total += _log_series(_neighbours(marked - k, m - k, k, rest + k), len(k))
            found[where] = np.minimum(total, 0.0)
        else:
            total += _log_series(_neighbours(k, rest + k, marked - k, m - k), len(k))
            found[where] = np.log1p(-np.minimum(np.exp(total), 1 - 1e-16))
    return found.reshape(np.broadcast_shapes(np.shape(successes), np.shape(trials)))


def log_gamma_tail(score: ArrayLike, count: ArrayLike) -> np.ndarray:
    """``ln P(S >= score)``, S the sum of ``count`` draws of Exp(1): ``Q(T, s)``, and its series where that underflows.

    >>> float(log_gamma_tail(5000.0, 1))
    -5000.0
    """
    s, n = _aligned(score, count)
    some = (n > 0) & (s > 0)
    s0, n0 = np.where(some, s, 1.0), np.where(some, n, 1.0)
    direct = gammaincc(n0, s0)
    with np.errstate(divide="ignore"):
        found = np.log(direct)
    far = some & (direct < _SAFE)
    if far.any():
        x, m = s0[far], n0[far]
        found[far] = (m - 1) * np.log(x) - x - gammaln(m) + _log_series(lambda i: (m - 1 - i) / x, len(x))
    found = np.where(some, np.minimum(found, 0.0), np.where(s > 0, -np.inf, 0.0))
    return found.reshape(np.broadcast_shapes(np.shape(score), np.shape(count)))


def gamma_quantile(log_tail: ArrayLike, count: ArrayLike) -> np.ndarray:
    """The score whose ``log_gamma_tail`` is given, by Newton's method on the logarithm, which is concave.

    Started right of the root, at ``T + sqrt(2Tx) + x`` with ``x = -ln P`` (a Chernoff bound), it falls to it.

    Args:
        log_tail: at most 0.
        count: at least 1.

    >>> float(gamma_quantile(-5000.0, 1))
    5000.0
    """
    x, n = _aligned(log_tail, count)
    x = -x
    score = n + np.sqrt(2 * n * x) + x
    for _ in range(60):
        logs = log_gamma_tail(score, n)
        hazard = np.exp((n - 1) * np.log(np.maximum(score, 1e-300)) - score - gammaln(n) - logs)
        step = (logs + x) / np.maximum(hazard, 1e-300)
        score = np.maximum(score + step, score / 2)
        if (np.abs(step) <= 1e-13 * score).all():
            break
    return np.where(x > 0, score, 0.0).reshape(np.broadcast_shapes(np.shape(log_tail), np.shape(count)))


def normal_tail(z: ArrayLike) -> np.ndarray:
    """``P(Z >= z)`` of the standard normal: the published p-value, far too small for few tokens."""
    return np.asarray(ndtr(-np.asarray(z, np.float64)))


def critical_count(trials: ArrayLike, rate: float, fpr: float) -> np.ndarray:
    """The fewest hits whose p-value is at most ``fpr``; ``trials + 1`` where even all are too few. int64.

    >>> critical_count([3, 10, 200], 0.25, 1e-3).tolist()
    [4, 8, 71]
    """
    n = np.atleast_1d(np.asarray(trials, np.int64))
    low, high = np.zeros_like(n), n + 1  # p(low) > fpr >= p(high), p(T + 1) = 0
    bound = math.log(fpr)
    while (high - low > 1).any():
        middle = (low + high) // 2
        small = log_binomial_tail(middle, n, rate) <= bound
        high, low = np.where(small, middle, high), np.where(small, low, middle)
    return high.reshape(np.shape(trials))


def _aligned(first: ArrayLike, second: ArrayLike) -> list[np.ndarray]:
    return [*np.broadcast_arrays(np.atleast_1d(np.asarray(first, np.float64)), np.asarray(second, np.float64))]


def _log_choose(n: ArrayLike, k: ArrayLike) -> np.ndarray:
    n, k = np.asarray(n, np.float64), np.asarray(k, np.float64)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _neighbours(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> Callable[[int], np.ndarray]:
    """Ratio of neighbouring hypergeometric probabilities, i steps on."""
    return lambda i: (a - i) * (b - i) / ((c + 1 + i) * (d + 1 + i))


def _log_series(ratio: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """``ln(1 + r_0 + r_0 r_1 + ...)`` for ratios that fall, up to the last term that matters."""
    total, term, i = np.ones(count), np.ones(count), 0
    while True:
        term = term * np.maximum(ratio(i), 0.0)
        total += term
        i += 1
        if (term <= 1e-17 * total).all():
            return np.log(total)
