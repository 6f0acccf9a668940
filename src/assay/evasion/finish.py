"""The finish of a minimum-norm attack: onto the decision boundary of the caller's own model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..search.bisection import polish, to_boundary
from ..search.objectives import targeted_margin
from ..search.threat import ThreatModel
from ..subjects.target import SearchModel
from ..tensors.norms import norm

POLISHINGS = 2


def on_boundary(
    copy: SearchModel,
    wrong: Callable[[Tensor, Tensor], Tensor],
    centres: Tensor,
    points: Tensor,
    labels: Tensor,
    kind: str,
    bounds: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Points moved to the boundary by bisection, then twice projected onto its linearisation if that is nearer.

    Args:
        copy: the searching copy, for gradients.
        wrong: ``wrong(points, labels) -> [b] bool``, the verdict of the caller's own model.
        centres: clean inputs [B, ...].
        points: adversarial points [B, ...].
        labels: [B].
        kind: the norm to be made small.
        bounds: the box.

    Returns:
        The points [B, ...] and their distances [B]; inf where the caller's model does not call a point wrong.

    Cost: about 25 forward passes and two forward and backward passes a row.
    """
    moved, found = to_boundary(lambda at, rows: wrong(at, labels[rows]), centres, points, bounds)
    distance = points.new_full((len(points),), torch.inf)
    rows = found.nonzero()[:, 0]
    if not len(rows):
        return moved, distance
    own = labels[rows]
    reached = copy.logits(moved[rows]).scatter(1, own[:, None], -torch.inf).argmax(1)
    pairs = torch.stack([own, reached], 1)
    near = moved[rows]
    for _ in range(POLISHINGS):
        near = polish(
            copy,
            lambda output, reference: targeted_margin(output, reference, 0),
            pairs,
            lambda at, some: wrong(at, own[some]),
            centres[rows],
            near,
            ThreatModel(kind, 0.0),
            bounds,
        )
    moved[rows] = near
    distance[rows] = norm(near - centres[rows], kind)
    return moved, distance
