"""Learning-rate schedules: pure functions of the position, so that there is no schedule state to save."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]

DROPS = (0.5, 0.75)


def constant(position: float) -> float:
    """1 throughout."""
    return 1.0


def cosine(position: float) -> float:
    """(1 + cos πt) / 2, from 1 to 0 (Loshchilov and Hutter, arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * position))


def multistep(position: float) -> float:
    """0.1 to the power of the drops passed; drops at one half and three quarters of the way."""
    return 0.1 ** sum(position >= drop for drop in DROPS)


def linear(position: float) -> float:
    """From 1 down to 0 in a straight line."""
    return 1.0 - position


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "multistep": multistep, "linear": linear}


def factor(schedule: str, step: int, *, total: int, warmup: int = 0) -> float:
    """What the learning rate is multiplied by at a step.

    During ``warmup`` steps it rises in a straight line, (step + 1) / warmup; over
    the rest the schedule runs from position 0 towards 1.

    Args:
        schedule: a key of ``SCHEDULES``.
        step: the step about to be taken, from 0.
        total: number of steps of the whole training.
        warmup: steps of warm-up, below ``total``.

    >>> [round(factor("linear", step, total=6, warmup=2), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[schedule]((step - warmup) / max(1, total - warmup))
