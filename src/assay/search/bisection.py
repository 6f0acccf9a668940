"""The finish of a minimum-norm search: from an adversarial point down to the decision boundary."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..tensors.norms import expand, norm, step_onto_hyperplane
from .engine import Model
from .threat import ThreatModel

HALVINGS = 14
_OUTWARD = (1.0, 1.01, 1.05, 1.2)


def to_boundary(
    adversarial: Callable[[Tensor, Tensor], Tensor],
    centres: Tensor,
    points: Tensor,
    bounds: tuple[float, float],
    halvings: int = HALVINGS,
) -> tuple[Tensor, Tensor]:
    """The nearest adversarial point on the segment from each centre to its point, by bisection.

    Args:
        adversarial: ``adversarial(points [b, ...], rows [b]) -> [b] bool``, by the caller's own model.
        centres: clean inputs, not adversarial [B, ...].
        points: [B, ...]; where the caller's model does not agree that a point is adversarial,
            points up to 20 % further out are tried.
        bounds: the box.
        halvings: the segment is cut to 2^-halvings of its length.

    Returns:
        The points [B, ...], adversarial by the caller's model where found, and found [B] bool.

    Cost: at most ``halvings + 4`` forward passes a row.
    """
    rows = torch.arange(len(points), device=points.device)
    best, found = points.clone(), torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for factor in _OUTWARD:
        left = rows[~found]
        if not len(left):
            break
        tried = (centres[left] + factor * (points[left] - centres[left])).clamp(*bounds)
        agreed = adversarial(tried, left)
        best[left[agreed]] = tried[agreed]
        found[left[agreed]] = True
    low = torch.zeros(len(points), dtype=torch.float64, device=points.device)
    high = torch.ones_like(low)
    far = best.clone()
    for _ in range(halvings):
        left = rows[found]
        if not len(left):
            break
        middle = (low + high)[left] / 2
        tried = centres[left] + expand(middle, far).to(far.dtype) * (far[left] - centres[left])
        agreed = adversarial(tried, left)
        best[left[agreed]] = tried[agreed]
        high[left] = torch.where(agreed, middle, high[left])
        low[left] = torch.where(agreed, low[left], middle)
    return best, found


def polish(
    model: Model,
    objective: Callable[[Tensor, Tensor], Tensor],
    reference: Tensor,
    adversarial: Callable[[Tensor, Tensor], Tensor],
    centres: Tensor,
    points: Tensor,
    threat: ThreatModel,
    bounds: tuple[float, float],
) -> Tensor:
    """One step along the boundary: the clean input projected onto the boundary linearised at the point found.

    Exact where the boundary is flat. The projection is kept if the caller's model agrees that a point
    at most a thousandth further is adversarial, and it is nearer than what was there.

    Args:
        model: the searching copy.
        objective: positive where adversarial, such as the logit difference to the class found.
        reference: what the objective compares with [B, ...].
        adversarial: as in :func:`to_boundary`.
        centres: clean inputs [B, ...].
        points: on the boundary, adversarial [B, ...].
        threat: the norm (its budget is not used).
        bounds: the box.

    Returns:
        Points [B, ...], adversarial and no further than before.

    Cost: 1 forward and backward pass, and at most 3 forward passes, a row.
    """
    _, value, gradient = model.value_and_gradient(points, objective, reference)
    change = ((centres - points) * gradient).flatten(1).sum(1, dtype=torch.float64).to(value.dtype)
    move = step_onto_hyperplane(centres, gradient, value + change, threat.norm, bounds)
    rows = torch.arange(len(points), device=points.device)
    best = points.clone()
    reach = norm(points - centres, threat.norm)
    for factor in (1.00002, 1.0002, 1.001):
        tried = (centres + factor * move).clamp(*bounds)
        nearer = (norm(tried - centres, threat.norm) < reach).nonzero()[:, 0]
        if not len(nearer):
            break
        kept = nearer[adversarial(tried[nearer], rows[nearer])]
        best[kept] = tried[kept]
        reach[kept] = 0.0
    return best
