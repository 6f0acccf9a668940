"""How often the best window of unmarked text is as good as this one: a calibrated p-value for a scan, however small.

The maximum over windows is no normal variable. Draw a window w in proportion to ``c_w P(z_w >= z)``, then a text given
that this window reaches z, and let D be the sum of c over the windows that do in it: with
``B = Σ_w c_w P(z_w >= z)``, ``P(max_w z_w >= z) = B · E[1/D]`` exactly (importance sampling; Naiman and Priebe,
Computing Scan Statistic p Values Using Importance Sampling, JCGS 2001, with c = 1). Every text drawn reaches z, so that
tiny p-values cost no more than others. Here c falls like 1/size: where a long window reaches z, many like it do, and
without c a few short ones would decide the average.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, logsumexp

from ..core.seeds import seed
from .kernel import count_windows
from .schemes.base import BERNOULLI, EXPONENTIAL
from .statistics import gamma_quantile, log_binomial_tail, log_gamma_tail

PRECISION = 0.05
"""Relative standard error at which sampling stops."""
_BATCH = 256
_LEAST, _MOST = 64, 8192  # texts
_WORK = {BERNOULLI: 1.5e9, EXPONENTIAL: 1.2e8}  # windows looked at: a fraction of a second
_PLACES = 5e6  # scores drawn for long texts
_CLASS = 1.25  # sizes up to this ratio have one c
_CACHED = 1 << 14  # numbers that stay close to the processor
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Tail:
    """A tail probability and what is known of it for certain.

    Attributes:
        log_p: natural logarithm of the estimate.
        error: relative standard error of the estimate.
        lower, upper: logarithms of certain bounds: independent windows of the best size, and the union bound.
    """

    log_p: float
    error: float
    lower: float
    upper: float


def tail_of_maximum(level: float, n: int, sizes: np.ndarray, kind: str, gamma: float) -> Tail:
    """The chance that any window of n scores of the null reaches a level.

    Args:
        level: the largest z of a text; for exponential scores the smallest ``ln P`` of a window by itself.
        n: its scores.
        sizes: window sizes, ascending, in 1..n.
        kind, gamma: of the null.

    Returns:
        An estimate that depends on the arguments alone; its relative standard error is about ``PRECISION``. Cost:
        some hundred texts of n scores, ``O(n · sizes)`` each; remembered.
    """
    thresholds = _thresholds(level, sizes, kind, gamma)
    return _tail(n, sizes.tobytes(), thresholds.tobytes(), kind, gamma)


def bounds_of_maximum(level: float, n: int, sizes: np.ndarray, kind: str, gamma: float) -> tuple[float, float]:
    """Certain bounds of ``ln tail_of_maximum``, at no cost."""
    logs = _log_tails(_thresholds(level, sizes, kind, gamma), sizes, kind, gamma)
    return _bounds(logs, n, sizes)


def _thresholds(level: float, sizes: np.ndarray, kind: str, gamma: float) -> np.ndarray:
    """Least score of each size that reaches the level: whole hits, or sums of exponential scores."""
    if kind == EXPONENTIAL:
        return gamma_quantile(level, sizes) * (1 - _SLACK)
    exact = gamma * sizes + level * np.sqrt(sizes * gamma * (1 - gamma))
    return np.maximum(np.ceil(exact - _SLACK * np.maximum(1.0, exact)), 0).astype(np.int64)


def _log_tails(thresholds: np.ndarray, sizes: np.ndarray, kind: str, gamma: float) -> np.ndarray:
    return log_gamma_tail(thresholds, sizes) if kind == EXPONENTIAL else log_binomial_tail(thresholds, sizes, gamma)


def _bounds(logs: np.ndarray, n: int, sizes: np.ndarray) -> tuple[float, float]:
    upper = min(0.0, float(logsumexp(logs + np.log(n - sizes + 1))))
    one = np.exp(np.minimum(logs, -1e-16))
    with np.errstate(divide="ignore"):
        none = (n // sizes) * np.log1p(-one)
        several = np.where(none > -1e-8, logs + np.log(n // sizes), np.log(-np.expm1(none)))
    return min(float(several.max()), upper), upper


@functools.lru_cache(maxsize=4096)
def _tail(n: int, sizes_bytes: bytes, thresholds_bytes: bytes, kind: str, gamma: float) -> Tail:
    sizes = np.frombuffer(sizes_bytes, dtype=np.int64)
    thresholds = np.frombuffer(thresholds_bytes, dtype=np.float64 if kind == EXPONENTIAL else np.int64)
    logs = _log_tails(thresholds, sizes, kind, gamma)
    lower, upper = _bounds(logs, n, sizes)
    if upper == -math.inf:
        return Tail(upper, 0.0, upper, upper)
    useful = np.isfinite(logs)  # a size that cannot reach z has no window to draw or to count
    plan = _Plan(n, sizes[useful], thresholds[useful], logs[useful], kind, gamma)
    budget = int(min(_MOST, max(_LEAST, min(_BATCH, _PLACES / n), _WORK[kind] / float((n - sizes + 1).sum()))))
    name = ("largest window", n, kind, str(gamma), sizes_bytes.hex(), thresholds_bytes.hex())
    rng = np.random.default_rng(seed(0, *name))
    inverse, mean, error = np.zeros(0), 1.0, math.inf
    while len(inverse) < budget and error > PRECISION:
        count = min(max(_BATCH, len(inverse)), budget - len(inverse), max(1, int(_PLACES / n)))
        inverse = np.concatenate([inverse, 1.0 / plan.draw(rng, count)])
        mean = float(inverse.mean())
        error = float(inverse.std()) / math.sqrt(len(inverse)) / mean
    return Tail(min(max(plan.log_sum + math.log(mean), lower), upper), error, lower, upper)


class _Plan:
    """Which windows are drawn how often, and what each adds to D."""

    def __init__(self, n: int, sizes: np.ndarray, least: np.ndarray, logs: np.ndarray, kind: str, gamma: float) -> None:
        self.n, self.sizes, self.least, self.logs, self.kind, self.gamma = n, sizes, least, logs, kind, gamma
        classes = np.floor(np.log(sizes) / math.log(_CLASS)).astype(np.int64)
        share = _CLASS ** -classes.astype(np.float64)  # c
        starts = [0, *(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(sizes)]
        self.classes = [(slice(a, b), float(share[a])) for a, b in itertools.pairwise(starts)]
        terms = logs + np.log(share * (n - sizes + 1))
        self.log_sum = float(logsumexp(terms))
        self.shares = np.cumsum(np.exp(terms - self.log_sum))

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """D of texts in which one window, drawn, reaches its threshold. [count]"""
        even = (np.arange(count) + rng.random(count)) / count * self.shares[-1]  # a stratum each
        which = np.minimum(np.searchsorted(self.shares, even, side="right"), len(self.sizes) - 1)
        size, least = self.sizes[which], self.least[which]
        start = (rng.random(count) * (self.n - size + 1)).astype(np.int64)
        places = np.arange(self.n)
        inside = (places >= start[:, None]) & (places < (start + size)[:, None])
        own = self._share(which)
        if self.kind == EXPONENTIAL:
            values = rng.exponential(size=(count, self.n))
            sums = np.where(inside, values, 0.0).sum(axis=1)
            large = gamma_quantile(np.log1p(-rng.random(count)) + self.logs[which], size)
            values *= np.where(inside, (np.maximum(large, least) / sums)[:, None], 1.0)
            found = sum(c * _count_sums(values, self.sizes[one], self.least[one]) for one, c in self.classes)
        else:
            uniform = rng.random((count, self.n))
            ranked = np.sort(np.where(inside, uniform, 2.0), axis=1)
            hits_inside = _many_hits(rng, size, least, self.gamma)
            limit = np.where(hits_inside > 0, ranked[np.arange(count), np.maximum(hits_inside - 1, 0)], -1.0)
            hits = (uniform <= np.where(inside, limit[:, None], self.gamma)).view(np.uint8)
            found = sum(c * count_windows(hits, self.sizes[one], self.least[one]) for one, c in self.classes)
        return np.maximum(found, own)

    def _share(self, which: np.ndarray) -> np.ndarray:
        every = np.empty(len(self.sizes))
        for one, c in self.classes:
            every[one] = c
        return every[which]


def _many_hits(rng: np.random.Generator, sizes: np.ndarray, least: np.ndarray, gamma: float) -> np.ndarray:
    """Binomial(size, gamma) given that it is at least ``least``, by inversion, size by size."""
    drawn = np.empty(len(sizes), dtype=np.int64)
    uniform = rng.random(len(sizes))
    for size in np.unique(sizes):
        here = sizes == size
        first = int(least[here][0])
        k = np.arange(first, size + 1, dtype=np.float64)
        logs = gammaln(size + 1.0) - gammaln(k + 1) - gammaln(size - k + 1)
        logs += k * math.log(gamma) + (size - k) * math.log1p(-gamma)
        steps = np.cumsum(np.exp(logs - logs.max()))
        drawn[here] = first + np.minimum(np.searchsorted(steps, uniform[here] * steps[-1], side="right"), size - first)
    return drawn


def _count_sums(values: np.ndarray, sizes: np.ndarray, least: np.ndarray) -> np.ndarray:
    """How many windows of each row have at least the sum their size asks for. [m]"""
    found = np.zeros(len(values), dtype=np.int64)
    pairs = list(zip(sizes.tolist(), (least * (1 - _SLACK)).tolist(), strict=True))
    rows = max(1, _CACHED // values.shape[1])
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        total = np.concatenate([np.zeros((len(part), 1)), np.cumsum(part, axis=1)], axis=1)
        for size, needed in pairs:
            found[start : start + rows] += np.count_nonzero(total[:, size:] - total[:, :-size] >= needed, axis=1)
    return found
