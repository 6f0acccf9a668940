"""Weighted detection: tokens where the model had a choice count for more, and the p-value is exact all the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.errors import DataError
from .schemes.base import EXPONENTIAL
from .statistics import Null

LEVELS = 64
"""Weights are rounded to this many steps of the largest, so that sums lie on a grid."""
_NODES, _PART = 64, 1 << 14


def entropy_weights(entropies: Any, floor: float | None = None) -> np.ndarray:
    """Weights from spike entropies: how far each exceeds ``floor``, the least; 0 where it is NaN.

    A token that had to follow carries no evidence. Cf. Lu et al., An Entropy-based Text Watermarking Detection
    Method, ACL 2024 (arXiv 2403.13485).

    Args:
        entropies: spike entropy of the distribution each token was drawn from, float [T].
        floor: that of a certain token, ``1/(1+modulus)``; None: the smallest given.

    >>> entropy_weights([0.5, 0.75, 1.0], 0.5).tolist()
    [0.0, 0.25, 0.5]
    """
    values = np.asarray(entropies, dtype=np.float64).reshape(-1)
    known = values[~np.isnan(values)]
    if floor is None:
        floor = float(known.min()) if len(known) else 0.0
    return np.maximum(np.nan_to_num(values, nan=floor) - floor, 0.0)


def weighted_log_tail(null: Null, values: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """The weighted sum of scores, its z, and ``ln P(sum >= this)`` under the null.

    Bernoulli scores: weights are first rounded to ``LEVELS`` steps, and sum, z and p-value are all those of the
    rounded weights, so that the p-value is exact. Where one list serves every context, hits are taken as independent,
    though drawn without replacement: their sum spreads less.

    Args:
        null: of the scheme.
        values: scores, [n].
        weights: finite, >= 0, [n].

    Raises:
        DataError: a weight is negative or not finite.
    """
    if not (np.isfinite(weights) & (weights >= 0)).all():
        bad = weights[~(np.isfinite(weights) & (weights >= 0))][0]
        raise DataError(f"A weight is {bad}; finite numbers of at least 0 are needed at every token that counts.")
    top = float(weights.max(initial=0.0))
    if top == 0.0:
        return 0.0, 0.0, 0.0
    if null.kind == EXPONENTIAL:
        score, mean, variance = float(weights @ values), float(weights.sum()), float(weights @ weights)
        z = (score - mean) / math.sqrt(variance)
        return score, z, _hypoexponential(weights / top, score / top)
    steps = np.rint(weights / top * LEVELS).astype(np.int64)
    reached = int(steps[values.astype(bool)].sum())
    gamma = null.gamma
    z = (reached - gamma * steps.sum()) / math.sqrt(gamma * (1 - gamma) * float(steps @ steps))
    levels, counts = np.unique(steps[steps > 0], return_counts=True)
    return reached * top / LEVELS, z, _lattice_tail(levels, counts, gamma, reached)


def _lattice_tail(levels: np.ndarray, counts: np.ndarray, gamma: float, reached: int) -> float:
    """``ln P(Σ k B_k >= reached)``, B_k ~ Binomial(counts, gamma), by Fourier inversion of the tilted sum.

    Under the tilted law, hits with odds multiplied by ``e^{θk}`` where θ makes ``reached`` the mean, what is sought is
    no rare event: rounding errors stay relative. The sum is
    ``e^{K(θ)} Σ_{x >= reached} e^{-θx} P_θ(x)``; frequencies enough to hold 30 deviations of P_θ.
    """
    most = int(levels @ counts)
    if reached <= 0:
        return 0.0
    if reached >= most:
        return float(counts.sum() * math.log(gamma))
    theta = 0.0 if reached <= gamma * most else _saddle(levels, counts, gamma, reached)
    rates = 1 / (1 + (1 - gamma) / gamma * np.exp(-theta * levels))
    cumulant = float(counts @ (np.log1p(-gamma) - np.log1p(-rates)))
    mean, deviation = float((levels * counts) @ rates), math.sqrt(float((levels**2 * counts) @ (rates * (1 - rates))))
    size = 1 << max(6, math.ceil(math.log2(30 * deviation + 2 * float(levels.max()))))
    size = min(size, 1 << math.ceil(math.log2(most + 1)))
    turns = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    transform = np.ones(len(turns), dtype=np.complex128)
    for level, count, rate in zip(levels.tolist(), counts.tolist(), rates.tolist(), strict=True):
        transform *= (1 - rate + rate * turns**level) ** count
    probabilities = np.maximum(np.fft.irfft(transform, size), 0.0)
    start = max(0, int(mean) - size // 2) if size <= most else 0
    sums = start + (np.arange(size) - start) % size
    above = (sums >= reached) & (sums <= most)
    terms = probabilities[above] * np.exp(-theta * (sums[above] - reached))
    total = float(terms.sum())
    return min(0.0, cumulant - theta * reached + math.log(total)) if total > 0 else cumulant - theta * reached


def _saddle(levels: np.ndarray, counts: np.ndarray, gamma: float, reached: int) -> float:
    """θ with ``Σ counts · levels · rate(θ) = reached``, by bisection; ``reached`` lies between mean and maximum."""
    odds = (1 - gamma) / gamma
    low, high = 0.0, 1.0 / float(levels.max())

    def mean(theta: float) -> float:
        return float((levels * counts) @ (1 / (1 + odds * np.exp(-theta * levels))))

    while mean(high) < reached and high < 500:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < reached else (low, middle)
    return (low + high) / 2


def _hypoexponential(weights: np.ndarray, score: float) -> float:
    """``ln P(Σ w_i E_i >= score)``, E_i ~ Exp(1), weights in [0, 1] with maximum 1.

    ``(1/2πi) ∫ e^{K(t) - ts} / t dt`` with ``K(t) = -Σ ln(1 - w_i t)`` over the parabola ``t = c + κv² + iv`` through
    the saddle point c between the pole 0 and the singularity 1; it bends away to where the integrand falls like
    a Gaussian, so that the trapezoidal rule converges at once.
    """
    w = weights[weights > 0]
    if score <= 0:
        return 0.0

    def slope(t: float) -> float:
        return float((w / (1 - w * t)).sum()) - score - 1 / t

    low, high = 1e-300, 1 - 1e-16
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    saddle = (low + high) / 2
    curvature = float(((w / (1 - w * saddle)) ** 2).sum()) + 1 / saddle**2
    step = 0.2 / math.sqrt(curvature)
    bend = 1 / (4 * max(1 - saddle, 1e-300))
    peak, total = 0.0, 0.0
    for start in range(0, 4096 * _NODES, _NODES):  # the integrand at -v is the conjugate of that at v
        v = np.arange(start, start + _NODES) * step
        t = saddle + bend * v**2 + 1j * v
        exponent = -t * score - np.log(t)
        for part in np.array_split(w, 1 + len(w) // _PART):
            exponent -= np.log(1 - np.multiply.outer(part, t)).sum(axis=0)
        if not start:
            peak = float(exponent[0].real)
        heights = (np.exp(exponent - peak) * (2 * bend * v + 1j)).imag
        total += float(heights.sum()) - (0.0 if start else 0.5 * float(heights[0]))
        if exponent[-1].real < peak - 45:
            break
    total *= step / math.pi
    return min(0.0, peak + math.log(total)) if total > 0 else 0.0
