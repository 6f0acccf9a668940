"""Scores and whose they are: the checks that everything in evidence shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import InputError
from ..core.roc import Roc, roc


def pair(scores: ArrayLike, member: ArrayLike, dimensions: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and members as booleans, of one shape.

    Args:
        scores: [N], or [T, N] for ``dimensions`` 2; NaN where there is none.
        member: booleans of the same shape.
        dimensions: 1 or 2.

    Raises:
        InputError: another shape, or no booleans.
    """
    values, mask = np.asarray(scores, dtype=np.float64), np.asarray(member)
    if values.ndim != dimensions or values.shape != mask.shape or mask.dtype != bool:
        shape, over = ("[N]", "records") if dimensions == 1 else ("[T, N]", "target models and records")
        raise InputError(
            f"scores are {values.shape} and member is {mask.dtype} {mask.shape}; numbers {shape} and booleans {shape}, "
            f"over the same {over}, are needed."
        )
    return values, mask


def curve_of(values: np.ndarray, member: np.ndarray) -> Roc:
    """The ROC of scores [N] of members [N]; NaN are counted and left out.

    Raises:
        InputError: there is no member or no non-member with a score.
    """
    for name, chosen in (("members", member), ("non-members", ~member)):
        if not (chosen & ~np.isnan(values)).any():
            lost = int(chosen.sum())
            because = f" ({lost:,} have a score that is not a number)" if lost else ""
            raise InputError(f"There are no {name} with a score{because}; give at least one of each side.")
    return roc(values, member)


def cluster_labels(clusters: ArrayLike, n: int) -> np.ndarray:
    """Labels of clusters as whole numbers from 0, one a record.

    Raises:
        InputError: there are not n of them.
    """
    labels = np.asarray(clusters)
    if labels.shape != (n,):
        raise InputError(f"clusters are {labels.shape} for {n} records; one label a record is needed.")
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def rate(name: str, value: float, *, ends: bool = True) -> float:
    """A number in [0, 1], or in (0, 1) without ``ends``.

    Raises:
        InputError: it is not.
    """
    if not (0 <= value <= 1 if ends else 0 < value < 1):
        between = "from 0 to 1" if ends else "between 0 and 1"
        raise InputError(f"{name} is {value}; a number {between} is needed.")
    return float(value)


def generator(seed: int) -> np.random.Generator:
    """Random numbers of a seed, which may be negative."""
    return np.random.default_rng(abs(seed) * 2 + (seed < 0))


def draws(name: str, count: int) -> int:
    """A number of random draws.

    Raises:
        InputError: fewer than 2.
    """
    if count < 2:
        raise InputError(f"{name} is {count}; at least 2 are needed (1000 is usual).")
    return count
