"""The nearest point where a scalar function of the logits is zero (interim)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors.norms import dual_norm, expand, norm as norm_of, step_onto_hyperplane
from .engine import Model

Function = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ClosestPoints:
    points: Tensor
    distance: Tensor
    found: Tensor
    value: Tensor
    slope: Tensor
    alignment: Tensor


def closest_points(
    model: Model,
    objective: Function,
    centres: Tensor,
    labels: Tensor,
    *,
    norm: str,
    bounds: tuple[float, float],
    steps: int = 20,
    value: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> ClosestPoints:
    count = len(centres)
    rows = torch.arange(count, device=centres.device)
    judge = value or (lambda points, at: objective(model.logits(points), labels[at]))

    def look(points: Tensor) -> tuple[Tensor, Tensor]:
        _, h, g = model.value_and_gradient(points, objective, labels)
        return -side * h, expand(-side, g) * g

    side = torch.ones(count, device=centres.device)
    _, start, gradient = model.value_and_gradient(centres, objective, labels)
    side = torch.where(start > 0, 1.0, -1.0)
    h, g = -side * start, expand(-side, gradient) * gradient
    points = centres.clone()
    nearest = centres.clone()
    best = centres.new_full((count,), torch.inf)
    at = points
    for _ in range(steps):
        crossed = h >= 0
        far = norm_of(at - centres, norm)
        better = crossed & (far < best)
        best = torch.where(better, far, best)
        nearest = torch.where(expand(better, at), at, nearest)
        base = torch.where(expand(crossed, at), 0.1 * centres + 0.9 * at, at)

        def offset(p: Tensor) -> Tensor:
            return h + ((p - at) * g).flatten(1).sum(1)

        move = step_onto_hyperplane(base, g, offset(base), norm, bounds)
        clean = step_onto_hyperplane(centres, g, offset(centres), norm, bounds)
        a, b = norm_of(move, norm).clamp_min(1e-8), norm_of(clean, norm).clamp_min(1e-8)
        share = expand((a / (a + b)).clamp_max(0.1), base)
        at = ((1 - share) * (base + 1.05 * move) + share * (centres + 1.05 * clean)).clamp(*bounds)
        h, g = look(at)
    crossed = h >= 0
    far = norm_of(at - centres, norm)
    better = crossed & (far < best)
    nearest = torch.where(expand(better, at), at, nearest)
    best = torch.where(better, far, best)
    found = torch.isfinite(best)
    low, high = torch.zeros_like(best), torch.ones_like(best)
    for _ in range(10):
        mid = (low + high) / 2
        inside = -side * judge(centres + expand(mid, centres) * (nearest - centres), rows) >= 0
        high, low = torch.where(inside, mid, high), torch.where(inside, low, mid)
    at = centres + expand(high, centres) * (nearest - centres)
    h, g = look(at)
    distance = torch.where(found, norm_of(at - centres, norm), torch.inf)
    return ClosestPoints(at, distance, found, -side * h, dual_norm(g, norm), torch.ones_like(distance))
