"""Intervals of pooled metrics over images and over heads.

The value is the mean over heads of the metric of each head on all images. Images and heads
are two sources of chance. The interval over images, for the heads at hand, is a bootstrap
with expanded percentiles (Hesterberg, 2015), or Clopper and Pearson's for a share of images; that
over heads is θ ± t_{H-1} s / √H. They are joined by their squares (MOVER: Zou and Donner,
Statistics in Medicine, 2008):

    lo = θ - sqrt((θ - lo_images)² + (θ - lo_heads)²),  hi = θ + sqrt((hi_images - θ)² + (hi_heads - θ)²).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy.special import betaincinv, ndtr, stdtrit

from ...core.estimates import Estimate

RESAMPLES = 1000
LEVEL = 0.95

Statistic = Callable[[np.ndarray], np.ndarray]


def pooled(sums: np.ndarray, of: Statistic, *, rate: bool = False, most: float = math.inf, seed: int = 0) -> Estimate:
    """A metric of pooled sums, with its interval over images and heads.

    Args:
        sums: [H, N, F], heads, images, columns.
        of: sums [..., F] over images -> values [...].
        rate: the metric is a share of images.
        most: its largest possible value; the smallest is 0.
        seed: of the bootstrap.

    Returns:
        The estimate; ``n`` counts images. Without images NaN.

    >>> sums = np.array([[[1.0, 1.0], [0.0, 1.0]]])
    >>> pooled(sums, lambda s: s[..., 0] / s[..., 1], rate=True).value
    0.5
    """
    heads, count, _ = sums.shape
    if not count or not heads:
        return Estimate(value=math.nan, lo=math.nan, hi=math.nan, n=0, method="bootstrap", level=LEVEL)
    values = of(sums.sum(1))
    value = float(values.mean())
    if rate:
        low, high = _exact(value, count)
    else:
        low, high = _resampled(sums, of, seed)
    spread = _over_heads(values)
    lo = value - math.hypot(value - low, spread) if math.isfinite(low) else math.nan
    hi = value + math.hypot(high - value, spread) if math.isfinite(high) else math.nan
    method = ("clopper-pearson" if rate else "bootstrap") + (" over images" if heads == 1 else " over images and heads")
    if math.isfinite(lo):
        lo, hi = max(0.0, lo), min(1.0 if rate else most, hi)
    return Estimate(value=value, lo=lo, hi=hi, n=count, method=method, level=LEVEL)


def difference(first: np.ndarray, second: np.ndarray, of: Statistic, *, seed: int = 0) -> Estimate:
    """A metric of the first minus that of the second on the same images, with its interval.

    Args:
        first: sums [H, N, F].
        second: sums [H', N, F] of the same images.
        of, seed: as for :func:`pooled`.
    """
    count = first.shape[1]
    one, other = of(first.sum(1)), of(second.sum(1))
    value = float(one.mean() - other.mean())
    if count < 2:
        return Estimate(value=value, lo=math.nan, hi=math.nan, n=count, method="paired bootstrap", level=LEVEL)
    weights = _weights(count, seed)
    draws = _draws(first, of, weights).mean(0) - _draws(second, of, weights).mean(0)
    low, high = np.quantile(draws, _tails(count))
    spread = math.hypot(_over_heads(one), _over_heads(other))
    return Estimate(
        value=value,
        lo=value - math.hypot(min(0.0, low - value), spread),
        hi=value + math.hypot(max(0.0, high - value), spread),
        n=count,
        method="paired bootstrap over images and heads",
        level=LEVEL,
    )


def _exact(value: float, count: int) -> tuple[float, float]:
    """Clopper and Pearson's ends; a mean over heads is a count that need not be whole."""
    k, tail = value * count, (1 - LEVEL) / 2
    lo = float(betaincinv(k, count - k + 1, tail)) if k > 0 else 0.0
    hi = float(betaincinv(k + 1, count - k, 1 - tail)) if k < count else 1.0
    return min(lo, value), max(hi, value)


def _resampled(sums: np.ndarray, of: Statistic, seed: int) -> tuple[float, float]:
    count = sums.shape[1]
    if count < 2:
        return math.nan, math.nan
    draws = _draws(sums, of, _weights(count, seed)).mean(0)
    value = float(of(sums.sum(1)).mean())
    low, high = np.quantile(draws, _tails(count))
    return min(float(low), value), max(float(high), value)


def _draws(sums: np.ndarray, of: Statistic, weights: np.ndarray) -> np.ndarray:
    """The metric of every head in every resample: [H, R]."""
    return np.stack([of(weights @ head) for head in sums])


@functools.lru_cache(maxsize=4)
def _weights(count: int, seed: int) -> np.ndarray:
    """How often each image is drawn in each resample: [R, N]."""
    rng = np.random.default_rng(abs(seed))
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)


def _tails(count: int) -> tuple[float, float]:
    tail = float(ndtr(math.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - LEVEL) / 2)))
    return tail, 1 - tail


def _over_heads(values: np.ndarray) -> float:
    """Half the width of the interval over heads; 0 for a single head, of which no more is known."""
    heads = len(values)
    if heads < 2:
        return 0.0
    return float(-stdtrit(heads - 1, (1 - LEVEL) / 2) * values.std(ddof=1) / math.sqrt(heads))
