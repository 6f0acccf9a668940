"""Boundary: how far each sample lies from the decision boundary, how the boundary moves, and how to push it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .closest import BoundaryPoints, closest_boundary_points
    from .conflict import conflict
    from .dyart import DyART
    from .loss import Priority, dyart_loss
    from .margin import soft_margin
    from .speed import check_speed, gradient_flow_direction, relative_speed, relative_speed_by_layer

METHODS: tuple[str, ...] = ("margins", "dynamics", "dyart")

__all__ = [
    "METHODS",
    "BoundaryPoints",
    "DyART",
    "Priority",
    "check_speed",
    "closest_boundary_points",
    "conflict",
    "dyart_loss",
    "gradient_flow_direction",
    "relative_speed",
    "relative_speed_by_layer",
    "soft_margin",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "BoundaryPoints": ".closest",
        "DyART": ".dyart",
        "Priority": ".loss",
        "check_speed": ".speed",
        "closest_boundary_points": ".closest",
        "conflict": ".conflict",
        "dyart_loss": ".loss",
        "gradient_flow_direction": ".speed",
        "relative_speed": ".speed",
        "relative_speed_by_layer": ".speed",
        "soft_margin": ".margin",
    },
)
