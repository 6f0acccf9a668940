"""The FAB step rule: walk along the decision boundary towards the clean input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors.norms import dual_norm, expand, norm, step_onto_hyperplane
from ..tensors.random import normal, uniform
from .engine import Model, Observation, Space, Work
from .objectives import targeted_margin


@dataclass(frozen=True)
class BoundaryWalk:
    r"""Fast adaptive boundary steps (Croce and Hein, arXiv 1907.02044).

    The objective h is positive where the goal is reached. With h linearised at
    the point last looked at, δ and δ0 are the smallest moves of the point x_k and
    of the clean x onto {h = 0} within the box;
    α = min(||δ|| / (||δ|| + ||δ0||), α_max),
    x_{k+1} = clip((1 - α)(x_k + η δ) + α (x + η δ0)).
    A point found adversarial is remembered if it is the nearest so far, and the walk
    goes on from x_k = (1 - β) x + β u. The linearisation stays the one at u, next to the
    boundary, so that every iteration costs one pass forward and backward and no second look.

    Args:
        steps: iterations.
        start_radius: 0 starts at the clean input; otherwise at noise of this norm.
    """

    steps: int
    start_radius: float = 0.0
    overshoot: float = 1.05
    pull: float = 0.1
    back: float = 0.9

    needs_gradient = True
    stays_inside = False

    @property
    def evaluations(self) -> int:
        """Steps and the start."""
        return self.steps + 1

    def begin(self, work: Work, space: Space) -> None:
        """The clean input, or noise of exactly ``start_radius`` around it; what was found before is kept."""
        kind = space.threat.norm
        work.points = work.centres.clone()
        if self.start_radius:
            shape = work.centres.shape[1:]
            noise = 2 * uniform(work.seeds, shape) - 1 if kind == "linf" else normal(work.seeds, shape)
            length = norm(noise, kind).clamp_min(1e-12)
            work.points = (work.centres + noise * expand(self.start_radius / length, noise)).clamp(*space.bounds)
        if "nearest" not in work.state:
            work.state["nearest"] = work.centres.clone()
            work.state["distance"] = work.centres.new_full((len(work),), torch.inf)

    def advance(self, work: Work, space: Space, step: int, seen: Observation) -> None:
        """Remember what was found, linearise, step."""
        kind, bounds = space.threat.norm, space.bounds
        reached = self.remember(work, space, seen)
        base = torch.where(
            expand(reached, work.points), (1 - self.back) * work.centres + self.back * work.points, work.points
        )
        normals = seen.gradient
        offset = self._offset(base, work.points, seen)
        offset_clean = self._offset(work.centres, work.points, seen)
        move = step_onto_hyperplane(base, normals, offset, kind, bounds)
        move_clean = step_onto_hyperplane(work.centres, normals, offset_clean, kind, bounds)
        length, length_clean = norm(move, kind).clamp_min(1e-8), norm(move_clean, kind).clamp_min(1e-8)
        share = expand((length / (length + length_clean)).clamp_max(self.pull), base)
        along, from_clean = base + self.overshoot * move, work.centres + self.overshoot * move_clean
        work.points = ((1 - share) * along + share * from_clean).clamp(*bounds)

    def remember(self, work: Work, space: Space, seen: Observation) -> Tensor:
        """Keep the nearest adversarial point of each row; returns which points are adversarial [B] bool."""
        state = work.state
        reached = goal_reached(seen.output, work.reference)
        distance = norm(work.points - work.centres, space.threat.norm)
        nearer = reached & (distance < state["distance"])
        state["distance"] = torch.where(nearer, distance, state["distance"])
        state["nearest"] = torch.where(expand(nearer, work.points), work.points, state["nearest"])
        return reached

    def finalists(self, work: Work, space: Space) -> Tensor:
        """The nearest adversarial point of each row."""
        return work.state["nearest"]

    def _offset(self, points: Tensor, seen_at: Tensor, seen: Observation) -> Tensor:
        """The linearised objective at other points: h(u) + <∇h(u), p - u>."""
        change = ((points - seen_at) * seen.gradient).flatten(1).sum(1, dtype=torch.float64)
        return (seen.value + change).to(seen.value.dtype)


def goal_reached(output: Tensor, reference: Tensor) -> Tensor:
    """Whether the model says anything but the label; reference is [B] labels or [B, 2] with targets."""
    labels = reference if reference.ndim == 1 else reference[:, 0]
    return output.argmax(1) != labels


@dataclass(frozen=True)
class NearestClass:
    """A model whose objective is, at every point, z_l - z_y for the class l with the nearest linearised boundary.

    l minimises |z_l - z_y| / ||∇(z_l - z_y)||_q, q the dual exponent. Costs one forward
    and one backward pass a wrong class.
    """

    model: Model
    num_classes: int
    kind: str

    def logits(self, points: Tensor) -> Tensor:
        """The model's logits."""
        return self.model.logits(points)

    def value_and_gradient(
        self, points: Tensor, objective: Callable[[Tensor, Tensor], Tensor], reference: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, the chosen difference and its gradient; the objective given is not used."""
        wrong = self.num_classes - 1
        ranks = torch.arange(1, self.num_classes, device=points.device)
        targets = (reference[:, None] + ranks) % self.num_classes
        pairs = torch.stack([reference[:, None].expand(-1, wrong), targets], -1).reshape(-1, 2)
        repeated = points.repeat_interleave(wrong, 0)
        output, value, gradient = self.model.value_and_gradient(
            repeated, lambda logits, rows: targeted_margin(logits, rows, 0), pairs
        )
        distance = value.abs() / (dual_norm(gradient, self.kind) + 1e-12)
        chosen = distance.reshape(-1, wrong).argmin(1) + torch.arange(len(points), device=points.device) * wrong
        return output[chosen], value[chosen], gradient[chosen]
