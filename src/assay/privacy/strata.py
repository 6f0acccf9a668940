"""Groups of the examined data, and what is said of each: rates, paired differences, the widest gap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from ..core.errors import InputError
from ..core.estimates import Estimate, proportion, wilson

if TYPE_CHECKING:
    from ..data.dataset import Dataset

LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Strata:
    """The groups of a data set.

    Args:
        kind: ``"group"`` where the data name groups, else ``"class"``.
        names: of the groups, in the order of ``numbers``; for classes those without samples included.
        numbers: group of each sample, [N] int64.
    """

    kind: str
    names: tuple[str, ...]
    numbers: np.ndarray

    def rows(self, name: str) -> np.ndarray:
        """The samples of one group, [n]."""
        return np.flatnonzero(self.numbers == self.names.index(name))

    @property
    def present(self) -> tuple[str, ...]:
        """Groups that have a sample."""
        return tuple(self.names[number] for number in np.unique(self.numbers))

    def stratum(self, name: str) -> str:
        """As metrics write it, ``"class=3"``."""
        return f"{self.kind}={name}"


def strata_of(data: Dataset, kind: str = "auto") -> Strata:
    """The groups of the data: those they name, else their classes; ``kind`` asks for one of them.

    Args:
        kind: ``"auto"``, ``"group"`` or ``"class"``.

    Raises:
        InputError: groups are asked for and the data name none.
    """
    if kind == "group" and data.groups is None:
        raise InputError(
            "The data name no group for the samples; name the array or column with --group, or use the classes."
        )
    if kind == "class" or data.groups is None:
        return Strata("class", data.class_names, np.asarray(data.labels, dtype=np.int64))
    names, index = np.unique(data.groups, return_inverse=True)
    return Strata("group", tuple(str(name) for name in names), index.astype(np.int64))


def rates(correct: np.ndarray, strata: Strata, *, level: float = LEVEL) -> dict[str, Estimate]:
    """Share of ``correct`` [N] in each group that has samples, with Clopper-Pearson intervals."""
    found = {}
    for name in strata.present:
        own = correct[strata.rows(name)]
        found[name] = proportion(int(own.sum()), len(own), level=level)
    return found


def mean_by_t(values: Sequence[float] | np.ndarray, *, level: float = LEVEL) -> Estimate:
    """A mean with Student's interval, x̄ ± t_{n-1} s/√n; values that are NaN are left out.

    Args:
        values: [n]; fewer than two give ends of NaN.
        level: nominal coverage.

    >>> str(mean_by_t([1.0, 2.0, 3.0]))
    '2.000 [-0.484, 4.484], n=3'
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    count, method = len(known), "Student t"
    value = float(known.mean()) if count else math.nan
    if count < 2:
        return Estimate(value=value, lo=math.nan, hi=math.nan, n=count, method=method, level=level)
    half = float(-stdtrit(count - 1, (1 - level) / 2) * known.std(ddof=1) / math.sqrt(count))
    return Estimate(value=value, lo=value - half, hi=value + half, n=count, method=method, level=level)


def paired_rates(first: np.ndarray, second: np.ndarray, *, level: float = LEVEL) -> Estimate:
    """Rate of the first minus rate of the second on the same samples, by Newcombe's score interval.

    Method 10 of Newcombe (Statistics in Medicine 17:2635, 1998): Wilson's intervals of both rates, combined
    with the correlation of the pairs. Unlike a bootstrap it has a width where no pair differs.

    Args:
        first: [n] booleans, n at least 1.
        second: [n] booleans of the same samples.
        level: nominal coverage.

    >>> str(paired_rates(np.array([True] * 8 + [False] * 2), np.array([True] * 5 + [False] * 5)))
    '0.300 [-0.053, 0.567], n=10'
    """
    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    n = len(one)
    a, b = int((one & other).sum()), int((one & ~other).sum())
    c, d = int((~one & other).sum()), int((~one & ~other).sum())
    p, q = (a + b) / n, (a + c) / n
    p_lo, p_hi = wilson(a + b, n, level)
    q_lo, q_hi = wilson(a + c, n, level)
    product = a * d - b * c
    cross = max(product - n / 2, 0.0) if product > 0 else float(product)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    phi = cross / math.sqrt(margins) if margins else 0.0

    def reach(one_side: float, other_side: float) -> float:
        return math.sqrt(max(0.0, one_side**2 - 2 * phi * one_side * other_side + other_side**2))

    lo, hi = p - q - reach(p - p_lo, q_hi - q), p - q + reach(p_hi - p, q - q_lo)
    return Estimate(value=p - q, lo=max(-1.0, lo), hi=min(1.0, hi), n=n, method="Newcombe, paired", level=level)


def independent_difference(first: Estimate, second: Estimate) -> Estimate:
    """First minus second of two independent estimates, from their intervals.

    The square-and-add rule, lo = d - √((θ1 - lo1)² + (hi2 - θ2)²), and hi alike (Zou and Donner,
    Statistics in Medicine 27:1693, 2008).
    """
    value = first.value - second.value
    down = math.hypot(first.value - first.lo, second.hi - second.value)
    up = math.hypot(first.hi - first.value, second.value - second.lo)
    return Estimate(
        value=value,
        lo=value - down,
        hi=value + up,
        n=first.n + second.n,
        method=f"{first.method}, square-and-add",
        level=first.level,
    )


def widest_gap(estimates: Mapping[str, Estimate], *, level: float = LEVEL) -> Estimate:
    """Largest minus smallest value; it covers if every estimate's own interval does.

    Args:
        estimates: at least two, each at the level 1 - (1 - ``level``) / their number (Bonferroni).
        level: coverage of the result, for any number of groups.
    """
    known = list(estimates.values())
    values = [item.value for item in known]
    return Estimate(
        value=max(values) - min(values),
        lo=max(0.0, max(item.lo for item in known) - min(item.hi for item in known)),
        hi=max(item.hi for item in known) - min(item.lo for item in known),
        n=sum(item.n for item in known),
        method=f"{known[0].method}, Bonferroni",
        level=level,
    )


def bonferroni(count: int, level: float = LEVEL) -> float:
    """The level that each of ``count`` intervals needs for all of them to cover together."""
    return 1 - (1 - level) / max(count, 1)


def most_different(values: Mapping[str, float], count: int, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The groups to draw: those asked for, else the extremes of ``values``, in the order of ``values``.

    >>> most_different({"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.2}, 2)
    ('a', 'b')
    """
    if asked:
        return tuple(name for name in values if name in asked)
    order = sorted((name for name in values if math.isfinite(values[name])), key=lambda name: values[name])
    chosen: list[str] = []
    while order and len(chosen) < count:
        chosen.append(order.pop(-1 if len(chosen) % 2 == 0 else 0))
    return tuple(name for name in values if name in chosen)
