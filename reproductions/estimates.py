"""Means over seeds with their intervals, and what they are compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from assay.core.estimates import Estimate

LEVEL = 0.95


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of independent trainings with Student's interval, x̄ ± t_{n-1} s/√n; one value has no interval.

    >>> print(over_seeds([0.1, 0.2, 0.3]))
    0.200 [-0.048, 0.448], n=3
    """
    data = np.asarray(values, dtype=np.float64)
    n = len(data)
    mean = float(data.mean()) if n else math.nan
    if n < 2:
        return Estimate(value=mean, lo=math.nan, hi=math.nan, n=n, method="one training")
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * data.std(ddof=1) / math.sqrt(n))
    return Estimate(value=mean, lo=mean - half, hi=mean + half, n=n, method="Student's t over seeds")


def combine(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of trainings with the interval over seeds.

    Where that has no width, with one training or with all alike, the interval is the one over test samples.

    Args:
        estimates: one a seed, each with its interval over samples.
    """
    n = len(estimates)
    if n == 0 or len({item.value for item in estimates}) > 1:
        return over_seeds([item.value for item in estimates])
    alike = "one training" if n == 1 else f"alike in {n} trainings"
    return replace(estimates[0], n=n, method=f"{estimates[0].method} over test samples, {alike}")


def share(estimate: Estimate) -> Estimate:
    """The interval of a rate, cut where a rate ends: at 0 and 1; ends that are NaN stay so."""
    return replace(estimate, lo=max(estimate.lo, 0.0), hi=min(estimate.hi, 1.0))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b with an interval from the intervals of both, taken as independent.

    The interval of Zou and Donner (Statistics in Medicine, 2008): from
    (a - b) - sqrt((a - a_lo)² + (b_hi - b)²) to its mirror image.
    """
    value = a.value - b.value
    down = math.hypot(a.value - a.lo, b.hi - b.value)
    up = math.hypot(a.hi - a.value, b.value - b.lo)
    return Estimate(value=value, lo=value - down, hi=value + up, n=min(a.n, b.n), method="difference of intervals")


def ratio(a: Sequence[Estimate], b: Sequence[Estimate]) -> Estimate:
    """The ratio of means, without an interval: it tells a size, and no claim rests on it alone."""
    below = float(np.mean([item.value for item in b])) if b else math.nan
    above = float(np.mean([item.value for item in a])) if a else math.nan
    value = above / below if below else math.inf
    return Estimate(value=value, lo=math.nan, hi=math.nan, n=len(a), method="ratio of means")


def verdict(estimate: Estimate | None, threshold: float) -> str:
    """Whether a quantity lies above a threshold, by the lower end of its interval.

    Returns:
        ``"holds"``, ``"in the mean only"`` (the interval holds the threshold), ``"fails"``
        (the mean does not exceed it), or ``"not run"``.
    """
    if estimate is None or math.isnan(estimate.value):
        return "not run"
    if not estimate.value > threshold:
        return "fails"
    return "holds" if estimate.lo > threshold else "in the mean only"
