"""Two attacks on the same records: how much better the first is, with the correlation of the records kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from ..core.errors import InputError
from ..core.estimates import Estimate
from ..core.roc import roc

_CELLS = 4_000_000


def auc_difference(first: ArrayLike, second: ArrayLike, member: ArrayLike, *, level: float = 0.95) -> Estimate:
    """AUC of the first scores minus AUC of the second, by DeLong's paired variance.

    With V10 and V01 the placements of members and non-members, ``Var = var(V10₁ - V10₂) / m + var(V01₁ - V01₂) / n``
    (DeLong, DeLong and Clarke-Pearson, Biometrics, 1988). Records with a NaN in either are left out.

    Args:
        first: [N].
        second: [N] of the same records.
        member: [N] booleans.
        level: nominal coverage.

    >>> str(auc_difference([0.9, 0.8, 0.1, 0.2, 0.7, 0.3], [0.9, 0.1, 0.8, 0.2, 0.7, 0.3], [1, 1, 0, 0, 1, 0]))
    '0.444 [-0.172, 1.000], n=6'
    """
    one, other, mask = _pair(first, second, member)
    members, others = _placements(one, mask), _placements(other, mask)
    value = float(members[0].mean() - others[0].mean())
    spread = 0.0
    for mine, theirs in zip(members, others, strict=True):
        if len(mine) > 1:
            spread += float((mine - theirs).var(ddof=1)) / len(mine)
    half = float(ndtri((1 + level) / 2)) * spread**0.5
    lo, hi = max(-1.0, value - half), min(1.0, value + half)
    return Estimate(value=value, lo=lo, hi=hi, n=len(mask), method="paired DeLong", level=level)


def tpr_difference(
    first: ArrayLike,
    second: ArrayLike,
    member: ArrayLike,
    fpr: float,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """TPR of the first scores at a false positive rate minus that of the second, by a paired bootstrap of records.

    Members and non-members are drawn anew, each from their own and both scores of a record together; lines are drawn
    anew in every draw.

    Args:
        first: [N].
        second: [N] of the same records.
        member: [N] booleans.
        fpr: false positive rate, in (0, 1).
        level: nominal coverage.
        resamples: draws.
        seed: of the draws.

    Cost: sorts the non-members of every draw.
    """
    one, other, mask = _pair(first, second, member)
    value = roc(one, mask).tpr_at(fpr) - roc(other, mask).tpr_at(fpr)
    rng = np.random.default_rng(seed)
    inside, outside = np.flatnonzero(mask), np.flatnonzero(~mask)
    rows = max(1, _CELLS // len(mask))
    found = []
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        members = inside[rng.integers(len(inside), size=(count, len(inside)))]
        others = outside[rng.integers(len(outside), size=(count, len(outside)))]
        found.append(_rates(one[members], one[others], fpr) - _rates(other[members], other[others], fpr))
    lo, hi = np.quantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(
        value=float(value),
        lo=float(min(lo, value)),
        hi=float(max(hi, value)),
        n=len(mask),
        method="paired bootstrap",
        level=level,
    )


def _rates(members: np.ndarray, others: np.ndarray, fpr: float) -> np.ndarray:
    """The TPR of each draw: [R, m] and [R, n] -> [R]."""
    allowed = min(int(fpr * others.shape[1] + 1e-9), others.shape[1] - 1)
    line = np.sort(others, axis=1)[:, -1 - allowed]
    return np.asarray((members > line[:, None]).mean(axis=1))


def _placements(values: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V10 of the members and V01 of the non-members, ties counting half."""
    inside, outside = values[member], values[~member]
    found = []
    for own, others in ((inside, np.sort(outside)), (outside, np.sort(inside))):
        below = np.searchsorted(others, own, side="left") + np.searchsorted(others, own, side="right")
        found.append(below / (2 * len(others)))
    return found[0], 1 - found[1]


def _pair(first: ArrayLike, second: ArrayLike, member: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, other = (np.asarray(values, dtype=np.float64) for values in (first, second))
    mask = np.asarray(member).astype(bool)
    if one.ndim != 1 or one.shape != other.shape or one.shape != mask.shape:
        raise InputError(f"Scores are {one.shape} and {other.shape}, the truth {mask.shape}; all must be [N].")
    known = ~(np.isnan(one) | np.isnan(other))
    if not (mask & known).any() or not (~mask & known).any():
        raise InputError("At least one member and one non-member with both scores are needed.")
    return one[known], other[known], mask[known]
