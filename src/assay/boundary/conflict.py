"""Conflicting dynamics: for how many samples the boundary comes closer, and how close they are already."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import DataError, SettingError
from ..core.estimates import Estimate, bootstrap, proportion

BELOW = 8 / 255


class Bin(NamedTuple):
    """Samples whose margin lies in [low, high).

    Args:
        low, high: ends, in raw input units; may be infinite.
        closer: share of them with s < 0.
        away: share of them with s > 0.
        speed: their mean relative speed.
    """

    low: float
    high: float
    closer: Estimate
    away: Estimate
    speed: Estimate


def conflict(speed: ArrayLike, margin: ArrayLike, below: float = BELOW) -> Estimate:
    """Share of the vulnerable samples that the boundary comes closer to: s < 0 among 0 < R < ``below``.

    Samples without a boundary point (a margin that is not finite) and without a speed (NaN) are left out;
    :func:`left_out` counts them.

    Args:
        speed: relative speeds s, [N].
        margin: signed margins R, [N], in raw input units; negative where the sample is misclassified.
        below: margin under which a sample is vulnerable; infinity for all samples on their own side.

    Returns:
        The share with its Clopper-Pearson interval; NaN without a vulnerable sample. ``n`` counts the vulnerable.

    Raises:
        DataError: speeds and margins of different number.
        SettingError: ``below`` is not above 0.

    Xu et al., Exploring and Exploiting Decision Boundary Dynamics for Adversarial Robustness (arXiv 2302.03015).

    >>> str(conflict([-1.0, 2.0, -3.0, float("nan")], [0.01, 0.02, 0.5, 0.01]))
    '0.500 [0.013, 0.987], n=2'
    """
    s, r = _pair(speed, margin)
    if not below > 0:
        raise SettingError(f"below is {below!r}; allowed: above 0, such as 8/255.")
    vulnerable = usable(s, r) & (r > 0) & (r < below)
    return proportion(int((s[vulnerable] < 0).sum()), int(vulnerable.sum()))


def conflict_by_margin(speed: ArrayLike, margin: ArrayLike, edges: Sequence[float]) -> list[Bin]:
    """How the boundary moves for samples of each margin: shares and mean speed with intervals.

    Args:
        speed, margin: as for :func:`conflict`.
        edges: ends of the bins [low, high), ascending; may begin and end with an infinity.

    Returns:
        One bin fewer than edges. The intervals of shares are Clopper-Pearson's, those of the mean speed are
        by the bootstrap; bins without samples are NaN.

    Raises:
        DataError, SettingError: speeds and margins of different number; edges that do not ascend.
    """
    s, r = _pair(speed, margin)
    if len(edges) < 2 or not all(low < high for low, high in pairwise(edges)):
        raise SettingError(f"edges are {list(edges)}; at least two are needed, in ascending order.")
    known = usable(s, r)
    found = []
    for low, high in pairwise(edges):
        values = s[known & (r >= low) & (r < high)]
        closer, away = (proportion(int(sign.sum()), len(values)) for sign in (values < 0, values > 0))
        found.append(Bin(float(low), float(high), closer, away, bootstrap(values)))
    return found


def left_out(speed: ArrayLike, margin: ArrayLike) -> int:
    """How many samples have no boundary point, or no speed there.

    >>> left_out([1.0, float("nan"), 2.0], [0.1, 0.1, float("inf")])
    2
    """
    return int((~usable(*_pair(speed, margin))).sum())


def usable(speed: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Whether a sample has both a boundary point and a speed: [N] bool."""
    return np.isfinite(margin) & np.isfinite(speed)


def _pair(speed: ArrayLike, margin: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    s, r = np.asarray(speed, dtype=np.float64), np.asarray(margin, dtype=np.float64)
    if s.ndim != 1 or s.shape != r.shape:
        raise DataError(f"speed is {s.shape} and margin {r.shape}; both must be [N], over the same samples.")
    return s, r
