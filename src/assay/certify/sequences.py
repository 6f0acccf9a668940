"""Bounds of a probability that hold at every moment, so that one may stop when the question is decided.

For k successes in n trials and the prior Beta(a, b), a = b = 1/2, the mixture

    log W_n(p) = log B(k+a, n-k+b) - log B(a, b) - k log p - (n-k) log(1-p)

averages likelihood ratios against p. If p is the truth it is a non-negative
martingale of mean 1, and Ville's inequality bounds the chance that W_n(p) >= 1/α
for any n by α, whatever the rule by which one stops (Robbins, Annals of
Mathematical Statistics, 1970). For a lower bound alone the prior is restricted to
q > p:

    log W⁺_n(p) = log W_n(p) + log(1 - I_p(k+a, n-k+b)) - log(1 - I_p(a, b)),

a supermartingale for every truth up to p, and so a test of p_A <= p; it is
tighter. Looking less often than after every trial only makes both conservative.

W⁺ falls in p up to (k - 1/2)/n, so that bisection finds all of the rejected p:
with the hazard h of the prior, d/dp log W⁺ = h(p) (1 - 1/W⁺) - (k - np) / (p (1 - p)),
and p (1 - p) h(p) <= 1/2 <= k - np there.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincc, betaln, xlog1py, xlogy

from ..core.errors import SettingError, did_you_mean

PRIOR = 0.5
MARGIN = 1e-12  # bounds are moved outwards by this much, above what float64 loses
SIDES = ("both", "lower", "upper")
_HALVINGS = 50


class Bounds(NamedTuple):
    """Ends of an interval of a probability; numbers, or arrays of the shape of the counts."""

    lower: Any
    upper: Any


def confidence_sequence(count: ArrayLike, n: ArrayLike, alpha: float, *, side: str = "both") -> Bounds:
    """Bounds of a probability that hold for all n at once with probability at least 1 - ``alpha``.

    Args:
        count: successes k, whole numbers in 0..n; broadcast with ``n``.
        n: trials so far, at least 1; it may depend on what was seen.
        alpha: in (0, 1).
        side: ``"both"``: both ends hold together at ``alpha``, from W; ``"lower"`` or ``"upper"``:
            that end alone holds at ``alpha``, from W⁺, and the other end is 1 or 0.

    Returns:
        The ends, moved outwards by 1e-12, as numbers or arrays.

    Raises:
        SettingError: counts, level or side are not allowed.

    >>> [round(confidence_sequence(990, 1000, 0.001, side=side).lower, 3) for side in ("lower", "both")]
    [0.971, 0.968]
    """
    k, total = check_counts(count, n)
    check_level(alpha)
    if side not in SIDES:
        raise SettingError(f"side is {side!r}; allowed: {', '.join(SIDES)}.{did_you_mean(side, SIDES)}")
    alone = side != "both"
    lower = _lower(k, total, alpha, alone) if side != "upper" else np.zeros(np.shape(k))
    upper = 1 - _lower(total - k, total, alpha, alone) if side != "lower" else np.ones(np.shape(k))
    return Bounds(lower, upper) if k.ndim else Bounds(float(lower), float(upper))


def log_evidence(count: ArrayLike, n: ArrayLike, p: ArrayLike, *, alone: bool = True) -> np.ndarray:
    """log W⁺_n(p), or log W_n(p) if not ``alone``: how strongly k of n speak against p_A <= p (or = p).

    Args:
        count: successes k; broadcast with ``n`` and ``p``.
        n: trials.
        p: in (0, 1).
    """
    k, total, at = (np.asarray(value, dtype=np.float64) for value in (count, n, p))
    failures = total - k
    value = betaln(k + PRIOR, failures + PRIOR) - betaln(PRIOR, PRIOR) - xlogy(k, at) - xlog1py(failures, -at)
    if alone:
        with np.errstate(divide="ignore"):
            value = value + np.log(betaincc(k + PRIOR, failures + PRIOR, at)) - np.log(betaincc(PRIOR, PRIOR, at))
    return np.asarray(value)


def shows_more_than(count: ArrayLike, n: ArrayLike, p: ArrayLike, alpha: float) -> np.ndarray:
    """Whether the lower bound of k of n lies above p, without finding the bound: W⁺_n(p) >= 1/α.

    The same as ``confidence_sequence(..., side="lower").lower >= p`` up to rounding, for the cost of one evaluation.
    """
    k, total, at = (np.asarray(value, dtype=np.float64) for value in (count, n, p))
    at = at + MARGIN
    inside = at <= (k - 0.5) / total
    return inside & (log_evidence(k, total, np.where(inside, at, 0.5)) >= -math.log(alpha))


def _lower(k: np.ndarray, n: np.ndarray, alpha: float, alone: bool) -> np.ndarray:
    """The largest p below which every value is rejected, by bisection."""
    wanted = -math.log(alpha)
    low = np.zeros(np.broadcast_shapes(k.shape, n.shape))
    high = np.where(k > 0, (k - (0.5 if alone else 0.0)) / n, 0.0)
    if alone:
        ceiling = np.where(k > 0, log_evidence(k, n, np.where(k > 0, high, 0.5)) >= wanted, False)
        low = np.where(ceiling, high, low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rejected = log_evidence(k, n, np.where(k > 0, middle, 0.5), alone=alone) >= wanted
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle)
    return np.where(k > 0, np.maximum(low - MARGIN, 0.0), 0.0)


def check_counts(count: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Counts and trials as float64 arrays of one shape; SettingError where they are not 0 <= k <= n, n >= 1."""
    try:
        k, total = np.broadcast_arrays(np.asarray(count, dtype=np.float64), np.asarray(n, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"count is {count!r:.60} and n is {n!r:.60}; whole numbers of one shape are needed."
        ) from error
    if not bool(np.all((k >= 0) & (k <= total) & (total >= 1) & (k == np.floor(k)) & (total == np.floor(total)))):
        raise SettingError(
            f"count is {count!r:.60} and n is {n!r:.60}; allowed: whole numbers with 0 <= count <= n and n at least 1."
        )
    return k, total


def check_level(alpha: float) -> None:
    """SettingError unless alpha is in (0, 1)."""
    if not (isinstance(alpha, int | float) and 0 < alpha < 1):
        raise SettingError(
            f"alpha is {alpha!r}; allowed: above 0 and below 1. It is the probability of a wrong certificate; 0.001 is "
            "usual."
        )
