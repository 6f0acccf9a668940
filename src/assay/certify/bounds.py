"""From votes to a radius: exact bounds of a probability after a fixed number of trials.

A class that wins k of n noisy votes has a probability p_A of at least
lower(k, n, α), and the smoothed classifier keeps its answer within the L2 radius
R = σ Φ⁻¹(lower) around the input (Cohen, Rosenfeld and Kolter, arXiv 1902.02918).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, ndtr, ndtri

from ..core.errors import SettingError
from .sequences import check_counts, check_level, confidence_sequence


class CertifiedRadius(NamedTuple):
    """A radius, 0 where the smoothed classifier abstains; numbers, or arrays of the shape of the counts."""

    radius: Any
    abstained: Any


def clopper_pearson_lower(count: ArrayLike, n: ArrayLike, alpha: float) -> Any:
    """One-sided lower bound of a probability: 0 for k = 0, else the α quantile of Beta(k, n-k+1).

    It lies above the truth with probability at most ``alpha``, for n fixed beforehand
    (Clopper and Pearson, Biometrika, 1934); for n that depends on the counts see
    :func:`confidence_sequence`.

    Args:
        count: successes k, whole numbers in 0..n; broadcast with ``n``.
        n: trials, at least 1.
        alpha: in (0, 1).

    Returns:
        A float, or an array of the broadcast shape.

    Raises:
        SettingError: counts or level are not allowed.

    >>> round(clopper_pearson_lower(990, 1000, 0.001), 3)
    0.976
    """
    k, total = check_counts(count, n)
    check_level(alpha)
    lower = np.where(k > 0, betaincinv(np.maximum(k, 1), total - k + 1, alpha), 0.0)
    return lower if lower.ndim else float(lower)


def clopper_pearson_upper(count: ArrayLike, n: ArrayLike, alpha: float) -> Any:
    """One-sided upper bound of a probability, 1 - lower(n - k, n): see :func:`clopper_pearson_lower`."""
    k, total = check_counts(count, n)
    return 1.0 - clopper_pearson_lower(total - k, total, alpha)


def certified_radius(count: ArrayLike, n: ArrayLike, alpha: float, sigma: float) -> CertifiedRadius:
    """The L2 radius that k of n votes prove: σ Φ⁻¹(lower(k, n, α)), abstaining where the bound is below 1/2.

    With probability at least 1 - ``alpha`` over the noise, the smoothed classifier gives
    the counted class everywhere in the open ball of this radius. The class must have been
    chosen before these votes were counted.

    Args:
        count: votes of the class, whole numbers in 0..n; broadcast with ``n``.
        n: votes in all, fixed beforehand.
        alpha: probability of a wrong certificate, in (0, 1).
        sigma: standard deviation of the noise, above 0, in units of the raw input.

    Returns:
        Radius and whether it abstained, as numbers or arrays.

    Raises:
        SettingError: counts, level or noise are not allowed.

    >>> round(certified_radius(99_000, 100_000, 0.001, sigma=0.5).radius, 6)
    1.145
    >>> certified_radius(40, 100, 0.001, sigma=0.5)
    CertifiedRadius(radius=0.0, abstained=True)
    """
    check_sigma(sigma)
    return radius_of(clopper_pearson_lower(count, n, alpha), sigma)


def radius_of(lower: ArrayLike, sigma: float) -> CertifiedRadius:
    """σ Φ⁻¹(p) of lower bounds p of p_A, 0 and abstained below 1/2."""
    p = np.asarray(lower, dtype=np.float64)
    abstained = p < 0.5
    radius = np.where(abstained, 0.0, sigma * ndtri(np.maximum(p, 0.5)))
    return CertifiedRadius(radius, abstained) if p.ndim else CertifiedRadius(float(radius), bool(abstained))


def largest_radius(n: int, alpha: float, sigma: float, *, sequential: bool = False) -> float:
    """The largest radius that n votes can prove, reached when all agree: σ Φ⁻¹(α^{1/n}).

    Args:
        n: votes, at least 1.
        alpha: probability of a wrong certificate, in (0, 1).
        sigma: standard deviation of the noise.
        sequential: for bounds that may be looked at any time, which prove a little less.

    >>> round(largest_radius(100_000, 0.001, sigma=1.0), 2)
    3.81
    """
    check_sigma(sigma)
    if sequential:
        return float(radius_of(confidence_sequence(n, n, alpha, side="lower").lower, sigma).radius)
    return float(certified_radius(n, n, alpha, sigma).radius)


def votes_needed(radius: float, alpha: float, sigma: float, *, sequential: bool = False) -> int | None:
    """The fewest votes that can prove a radius, all of them agreeing; None beyond a milliard."""
    fewest = math.log(alpha) / math.log(ndtr(radius / sigma)) if radius < 8 * sigma else math.inf
    if fewest > 1e9:
        return None
    low, high = 0, max(1, math.ceil(fewest))
    while largest_radius(high, alpha, sigma, sequential=sequential) < radius:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if largest_radius(middle, alpha, sigma, sequential=sequential) < radius:
            low = middle
        else:
            high = middle
    return high


def check_reach(radius: float, n: int, alpha: float, sigma: float, *, sequential: bool) -> None:
    """SettingError where n votes cannot prove a radius even if all of them agree."""
    most = largest_radius(n, alpha, sigma, sequential=sequential)
    if radius < most:
        return
    enough = votes_needed(radius, alpha, sigma, sequential=sequential)
    remedy = f"raise n to {enough:,} or more, or use" if enough else "use"
    raise SettingError(
        f"The radius {radius:g} cannot be proved with n = {n:,} noisy copies at sigma = {sigma:g} and alpha = "
        f"{alpha:g}: even if all of them agree, the certificate reaches {most:.4g}. Ask for a radius below that, "
        f"{remedy} a larger sigma."
    )


def check_sigma(sigma: float) -> None:
    """SettingError unless sigma is a positive finite number."""
    if not (isinstance(sigma, int | float) and 0 < sigma < math.inf):
        raise SettingError(
            f"sigma is {sigma!r}; allowed: above 0 and finite. It is the standard deviation of the noise, in units of "
            "the raw input; 0.25, 0.5 and 1 are usual for images in [0, 1]."
        )
