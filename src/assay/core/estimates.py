"""Estimates with intervals: rates, means, quantiles, paired comparisons, many tests at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, betaincinv, ndtr, ndtri, stdtrit

from .errors import InputError, did_you_mean

Statistic = Callable[[np.ndarray], Any]
_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with the interval that covers the truth with probability ``level``.

    Args:
        value: the point estimate; NaN if nothing was measured.
        lo: lower end.
        hi: upper end.
        n: number of samples behind it.
        method: how the interval was made.
        level: nominal coverage.
    """

    value: float
    lo: float
    hi: float
    n: int
    method: str
    level: float = 0.95

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lo:.3f}, {self.hi:.3f}], n={self.n}"


class McNemar(NamedTuple):
    """McNemar's exact test: the discordant pairs and the two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float


def proportion(successes: int, n: int, *, level: float = 0.95, method: str = "clopper-pearson") -> Estimate:
    """A rate ``successes / n`` with its interval.

    Args:
        successes: in 0..n.
        n: independent trials; 0 gives NaN with the interval [0, 1].
        level: nominal coverage, in (0, 1).
        method: ``"clopper-pearson"`` (never covers less than ``level``) or ``"wilson"`` (shorter, on average).

    >>> str(proportion(812, 1000))
    '0.812 [0.786, 0.836], n=1000'
    """
    intervals = {"clopper-pearson": clopper_pearson, "wilson": wilson}
    if method not in intervals:
        raise InputError(f"method is {method!r}.{did_you_mean(method, intervals)}")
    lo, hi = intervals[method](successes, n, level)
    value = int(successes) / int(n) if n else math.nan
    return Estimate(value=value, lo=lo, hi=hi, n=int(n), method=method, level=level)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact binomial interval of Clopper and Pearson (Biometrika, 1934).

    The ends are the ``α/2`` quantile of Beta(k, n-k+1) and the ``1-α/2`` quantile
    of Beta(k+1, n-k), for k successes and ``α = 1 - level``.
    """
    k, n = _counts(successes, n)
    tail = (1 - _level(level)) / 2
    lo = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    hi = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return lo, hi


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of Wilson (JASA, 1927).

    Solves ``|p̂ - p| = z sqrt(p (1 - p) / n)`` for p.
    """
    k, n = _counts(successes, n)
    z = float(ndtri((1 + _level(level)) / 2))
    if n == 0:
        return 0.0, 1.0
    rate, denominator = k / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / denominator
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / denominator
    return (0.0 if k == 0 else max(0.0, centre - half), 1.0 if k == n else min(1.0, centre + half))


def bootstrap(
    values: ArrayLike,
    statistic: Statistic = np.mean,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """A statistic of independent samples, or of independent clusters of samples, by the bootstrap.

    Units (samples, or whole clusters) are drawn with replacement; the interval
    lies between the ``α'`` and ``1-α'`` quantiles of the statistic over the draws.
    ``α' = Φ(sqrt(m / (m-1)) t)``, where t is the ``α/2`` quantile of Student's
    distribution with m-1 degrees of freedom, widens it for few units m
    (Hesterberg, The American Statistician, 2015: expanded percentiles).
    It cannot see what no sample shows: constant values give an interval of
    width 0, so use ``proportion`` for a rate of independent samples.

    Args:
        values: ``[N]`` or ``[N, ...]``, finite; resampled along the first axis.
        statistic: ``values -> number``; the mean is computed for many draws at once.
        clusters: ``[N]`` labels; samples that share one are drawn together.
        level: nominal coverage, in (0, 1).
        resamples: draws, at least 2.
        seed: any integer; the same seed gives the same interval.

    Returns:
        The estimate; without values NaN, with fewer than two units ends of NaN.
    """
    data = _finite("values", values)
    level = _level(level)
    if resamples < 2:
        raise InputError(f"resamples is {resamples}; at least 2 are needed (2000 is usual).")
    units, count = _units(clusters, len(data))
    method = "bootstrap" if clusters is None else "clustered bootstrap"
    value = float(statistic(data)) if len(data) else math.nan
    if count < 2:
        return Estimate(value=value, lo=math.nan, hi=math.nan, n=len(data), method=method, level=level)
    rng = np.random.default_rng(abs(seed) * 2 + (seed < 0))
    if statistic is np.mean and data.ndim == 1:
        draws = _mean_draws(data, units, count, resamples, rng)
    else:
        draws = _draws(data, statistic, units, count, resamples, rng)
    tail = float(ndtr(math.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - level) / 2)))
    lo, hi = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value=value, lo=float(lo), hi=float(hi), n=len(data), method=method, level=level)


def quantile(values: ArrayLike, q: float, *, level: float = 0.95) -> Estimate:
    """A quantile with the distribution-free interval between two order statistics.

    ``[x_(l), x_(u)]`` with ``P(B < l) <= α/2`` and ``P(B >= u) <= α/2`` for
    ``B ~ Binomial(n, q)`` covers with at least ``level``. Where too few values
    lie on one side, that end is infinite.

    Args:
        values: ``[N]``; infinite values are allowed (distances that were not found), NaN is not.
        q: in (0, 1); 0.5 is the median.
        level: nominal coverage, in (0, 1).
    """
    data = np.sort(np.asarray(values, dtype=np.float64).reshape(-1))
    if np.isnan(data).any():
        raise InputError(f"values hold {int(np.isnan(data).sum())} NaN; leave these samples out and say so.")
    if not 0 < q < 1:
        raise InputError(f"q is {q}; a number between 0 and 1 is needed, such as 0.5 for the median.")
    n, tail = len(data), (1 - _level(level)) / 2
    if n == 0:
        return Estimate(value=math.nan, lo=math.nan, hi=math.nan, n=0, method="order statistics", level=level)
    at_most = np.concatenate([[0.0], bdtr(np.arange(n), n, q), [1.0]])  # at_most[j] = P(B <= j - 1), j = 0..n+1
    lower = int(np.searchsorted(at_most, tail, side="right")) - 1
    upper = int(np.argmax(1 - at_most <= tail))
    return Estimate(
        value=_sorted_quantile(data, q),
        lo=float(data[lower - 1]) if lower >= 1 else -math.inf,
        hi=float(data[upper - 1]) if upper <= n else math.inf,
        n=n,
        method="order statistics",
        level=level,
    )


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """The mean of ``a - b`` over the same samples, by the paired bootstrap.

    Args:
        a: ``[N]`` numbers or booleans of the first.
        b: ``[N]`` of the second, in the same order of samples.
        clusters, level, resamples, seed: as in ``bootstrap``.
    """
    first, second = _finite("a", a), _finite("b", b)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"a is {first.shape} and b is {second.shape}; both must be [N], over the same samples.")
    found = bootstrap(first - second, clusters=clusters, level=level, resamples=resamples, seed=seed)
    return Estimate(**{**vars(found), "method": f"paired {found.method}"})


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """McNemar's exact test of whether two classifiers err equally often on the same samples.

    Under the null hypothesis the ``b`` samples that only the first gets right
    are Binomial(b + c, 1/2); the p-value is two-sided (McNemar, Psychometrika, 1947).

    Args:
        first: ``[N]`` booleans, whether the first is right.
        second: ``[N]`` booleans of the second, in the same order of samples.

    >>> mcnemar([True, True, True, False], [False, True, False, False])
    McNemar(only_first=2, only_second=0, p_value=0.5)
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.dtype != bool or other.dtype != bool or one.shape != other.shape or one.ndim != 1:
        raise InputError(
            f"first is {one.dtype} {one.shape} and second {other.dtype} {other.shape}; "
            "both must be booleans [N], over the same samples."
        )
    b, c = int((one & ~other).sum()), int((~one & other).sum())
    p_value = min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0
    return McNemar(b, c, p_value)


def holm(p_values: ArrayLike) -> np.ndarray:
    """P-values adjusted for multiplicity by Holm's step-down method (Scand. J. Statist., 1979).

    ``p̃_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))``; rejecting where ``p̃ <= α``
    keeps the probability of any false rejection at most α, whatever the dependence.

    Args:
        p_values: ``[m]`` in [0, 1].

    Returns:
        ``[m]`` adjusted, in the order given.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"p_values are {p.tolist()!s:.80}; a list of numbers in [0, 1] is needed.")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty_like(p)
    adjusted[order] = stepped
    return adjusted


def log10_holm(log10_p: Sequence[float], tried: int | None = None) -> list[float]:
    """Holm's correction of p-values given as logarithms, however small they are.

    The i-th smallest of m is multiplied by m - i + 1, and made no smaller than those before it.

    Args:
        log10_p: log10 of the p-values.
        tried: how many were looked at, if more than are given: the others count as 1.

    >>> [round(10**p, 6) for p in log10_holm([-3.0, -1.0])]
    [0.002, 0.1]
    """
    count = max(tried or 0, len(log10_p))
    found, before = [0.0] * len(log10_p), -math.inf
    for rank, place in enumerate(sorted(range(len(log10_p)), key=lambda place: log10_p[place])):
        before = max(before, min(0.0, log10_p[place] + math.log10(count - rank)))
        found[place] = before
    return found


def _counts(successes: int, n: int) -> tuple[int, int]:
    try:
        k, total = int(successes), int(n)
    except (TypeError, ValueError, OverflowError):
        k, total = 1, 0
    if not 0 <= k <= total or k != successes or total != n:
        raise InputError(
            f"successes is {successes!r} and n is {n!r}; whole numbers with 0 <= successes <= n are needed."
        )
    return k, total


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level is {level}; a number between 0 and 1 is needed, such as 0.95.")
    return level


def _finite(name: str, values: ArrayLike) -> np.ndarray:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim == 0:
        raise InputError(f"{name} is the single number {data}; a list of values, one a sample, is needed.")
    if not np.isfinite(data).all():
        count = int((~np.isfinite(data)).sum())
        raise InputError(f"{name} hold {count} values that are NaN or infinite; leave these samples out and say so.")
    return data


def _units(clusters: ArrayLike | None, n: int) -> tuple[np.ndarray | None, int]:
    """The number of the unit each sample belongs to (``None``: each its own), and how many units."""
    if clusters is None:
        return None, n
    labels = np.asarray(clusters)
    if labels.shape != (n,):
        raise InputError(f"clusters are {labels.shape} for {n} values; one label a value is needed.")
    found, units = np.unique(labels, return_inverse=True)
    return units, len(found)


def _mean_draws(
    data: np.ndarray, units: np.ndarray | None, count: int, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Means of resampled units: sums of drawn units over their sizes. ``[resamples]``."""
    sums = data if units is None else np.bincount(units, weights=data, minlength=count)
    sizes = np.ones(count) if units is None else np.bincount(units, minlength=count).astype(np.float64)
    rows = max(1, _CELLS_AT_ONCE // count)
    means = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(count, size=(min(rows, resamples - start), count))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def _draws(
    data: np.ndarray,
    statistic: Statistic,
    units: np.ndarray | None,
    count: int,
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """The statistic of every resample, one after another. ``[resamples]``."""
    members: list[np.ndarray] = []
    if units is not None:
        order = np.argsort(units, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(units, minlength=count))[:-1])
    found = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(count, size=count)
        rows = drawn if units is None else np.concatenate([members[unit] for unit in drawn])
        found[i] = float(statistic(data[rows]))
    return found


def _sorted_quantile(data: np.ndarray, q: float) -> float:
    """The quantile of sorted values that averages at jumps, as the median does; infinities are allowed."""
    position = round(q * len(data), 9)
    index = math.ceil(position) - 1
    value = float(data[max(index, 0)])
    if position.is_integer() and 0 < position < len(data):
        following = float(data[index + 1])
        return value if value == following else value / 2 + following / 2
    return value
