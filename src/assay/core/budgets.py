"""Budgets in metric names: how they are written, and when two names mean the same metric."""

from __future__ import annotations

import math

from .errors import SettingError
from .settings import number

NORM_SYMBOLS = {"linf": "L∞", "l2": "L2", "l1": "L1"}


def budget_text(eps: float) -> str:
    """A budget as people write it: a short decimal if that is exact, else ``k/255``, else ten digits.

    >>> [budget_text(eps) for eps in (8 / 255, 0.5, 0.2, 3, 0.123456789)]
    ['8/255', '0.5', '0.2', '3', '0.123456789']
    """
    short = f"{eps:.6g}"
    if float(short) == eps or not math.isfinite(eps):
        return short
    steps = round(eps * 255)
    if steps > 0 and abs(eps * 255 - steps) <= 1e-9:
        return f"{steps}/255"
    return f"{eps:.10g}"


def same_name(first: str, second: str) -> bool:
    """Whether two metric names mean the same: budgets are compared as numbers, within 1e-9 relative.

    >>> same_name("robust_accuracy@linf:8/255", "robust_accuracy@linf:0.03137254901960784")
    True
    >>> same_name("robust_accuracy@linf:8/255", "robust_accuracy@l2:8/255")
    False
    """
    one, other = _parts(first), _parts(second)
    if one[0] != other[0]:
        return False
    if isinstance(one[1], float) and isinstance(other[1], float):
        return one[1] == other[1] or math.isclose(one[1], other[1], rel_tol=1e-9)
    return one[1] == other[1]


def _parts(name: str) -> tuple[str, float | str]:
    """``"robust_accuracy@linf:8/255"`` -> ``("robust_accuracy@linf", 0.0313...)``."""
    plain = "".join(name.split())
    head, colon, budget = plain.rpartition(":")
    if not colon or "@" not in head:
        return plain, ""
    try:
        return head, number(budget)
    except SettingError:
        return plain, ""
