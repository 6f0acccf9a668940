"""Larger radii first: a search through shrinking balls, each begun at the worst point of the one before.

SEA (arXiv 2306.12941) spends 30, 30 and 40 % of the steps at 2ε, 1.5ε and ε. Only
the last ball is the threat model's, and only its points are handed out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from .engine import Model, Space, StepRule, Work
from .objectives import Objective
from .strongest import From, Score, Strongest, strongest
from .threat import ThreatModel

RADII = ((2.0, 0.3), (1.5, 0.3), (1.0, 0.4))


def stages(steps: int, radii: tuple[tuple[float, float], ...] = RADII) -> list[tuple[float, int]]:
    """Radius factors with the steps at each, at least one; earlier stages are rounded, the last has the rest.

    >>> stages(300), stages(20), stages(1)
    ([(2.0, 90), (1.5, 90), (1.0, 120)], [(2.0, 6), (1.5, 6), (1.0, 8)], [(1.0, 1)])
    """
    if steps < len(radii):
        return [(radii[-1][0], steps)]
    early = [(factor, max(1, round(share * steps))) for factor, share in radii[:-1]]
    return [*early, (radii[-1][0], steps - sum(count for _, count in early))]


def through_radii(
    model: Model,
    rule: Callable[[int], StepRule],
    objective: Callable[[int], Objective],
    work: Work,
    space: Space,
    score: Score,
    *,
    steps: int,
    done: Callable[[Tensor, Tensor], Tensor] | None = None,
    confirm: Callable[[Tensor, Tensor], Tensor] | None = None,
    judge: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Strongest:
    """The worst points of the last ball; arguments as in :func:`strongest`, where not said otherwise.

    Args:
        rule: ``rule(steps)`` makes the step rule of a stage, whose step sizes begin anew.
        objective: ``objective(steps)`` makes the objective of a stage, whose schedule begins anew.
        steps: of all stages together.

    Cost: ``steps`` forward and backward passes a row and a forward pass a stage.
    """
    start: Tensor | None = None
    plan = stages(steps)
    still: Tensor | None = None
    for place, (factor, count) in enumerate(plan):
        last = place + 1 == len(plan)
        wider = Space(ThreatModel(space.threat.norm, factor * space.threat.eps), space.bounds)
        made = rule(count)
        found = strongest(
            model,
            made if start is None else From(made, start),
            objective(count),
            replace(work, state={}),
            space if factor == 1.0 else wider,
            score,
            done=done,
            confirm=confirm if last else None,
            judge=judge if last else None,
        )
        start = found.points[work.owner]
        still = found.still if still is None else still
    assert still is not None
    return replace(found, still=still)
