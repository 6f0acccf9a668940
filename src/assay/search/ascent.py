"""Projected gradient ascent: the plain step rule, and the same as a function for use inside training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors.norms import expand, norm
from ..tensors.random import normal, uniform
from .engine import Observation, Space, Work
from .threat import ThreatModel

SPARSITY = 0.05


def steepest(gradient: Tensor, kind: str) -> Tensor:
    """The direction of steepest ascent of unit length in a norm: [B, ...].

    Linf: sign(g). L2: g / ||g||. L1: the sign on the 5 % of coordinates of largest
    magnitude, shared equally (Tramèr and Boneh, arXiv 1904.13000). Zero where g is zero.
    """
    if kind == "linf":
        return gradient.sign()
    if kind == "l2":
        return gradient / expand(norm(gradient, "l2").clamp_min(1e-30), gradient)
    flat = gradient.flatten(1)
    keep = max(1, round(SPARSITY * flat.shape[1]))
    places = flat.abs().topk(keep, dim=1).indices
    chosen = torch.zeros_like(flat).scatter(1, places, flat.gather(1, places).sign())
    return (chosen / chosen.abs().sum(1, keepdim=True).clamp_min(1)).reshape(gradient.shape)


def random_start(work: Work, space: Space, stream: int = 0) -> Tensor:
    """A random point of the ball around each centre, projected into the box: [B, ...].

    Linf: uniform in the cube. L2 and L1: a random direction with length ε u^(1/D).
    """
    shape = work.centres.shape[1:]
    threat = space.threat
    if threat.norm == "linf":
        noise = (2 * uniform(work.seeds, shape, stream) - 1) * threat.eps
    else:
        direction = normal(work.seeds, shape, stream)
        length = uniform(work.seeds, (1,), stream + 1)[:, 0] ** (1 / max(1, shape.numel())) * threat.eps
        noise = direction * expand(length / norm(direction, threat.norm).clamp_min(1e-30), direction)
    return space.project(work.centres + noise, work.centres)


@dataclass(frozen=True)
class ProjectedGradient:
    """x_{k+1} = Π(x_k + a s(g_k)), from a random point of the ball (Madry et al., arXiv 1706.06083)."""

    steps: int
    step_size: float
    random_start: bool = True

    needs_gradient = True
    stays_inside = True

    @property
    def evaluations(self) -> int:
        """One more than the steps: the last point is looked at too."""
        return self.steps + 1

    def begin(self, work: Work, space: Space) -> None:
        """A random point of the ball, or the clean input."""
        work.points = random_start(work, space) if self.random_start else work.centres.clone()

    def advance(self, work: Work, space: Space, step: int, seen: Observation) -> None:
        """One projected step."""
        moved = work.points + self.step_size * steepest(seen.gradient, space.threat.norm)
        work.points = space.project(moved, work.centres)

    def finalists(self, work: Work, space: Space) -> Tensor:
        """The last iterate."""
        return work.points


def ascend(
    objective: Callable[[Tensor], Tensor],
    images: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """Plain projected gradient ascent on a function of the input; the inner problem of adversarial training.

    Args:
        objective: ``objective(points [B, ...]) -> [B]``, differentiable by its argument.
        images: centres of the ball [B, ...].
        threat: norm and budget.
        steps: number of steps.
        step_size: length of a step in the threat's norm.
        start: first points [B, ...]; the images themselves if None. Projected first.
        bounds: the box of raw inputs.

    Returns:
        The last iterate [B, ...], inside ball and box, without gradient history.
        No parameter's ``.grad`` is touched.

    Cost: ``steps`` forward and backward passes a sample.
    """
    points = threat.project((images if start is None else start).detach(), images, bounds)
    for _ in range(steps):
        leaf = points.detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(objective(leaf).sum(), leaf)
        moved = points + step_size * steepest(gradient, threat.norm)
        points = threat.project(moved, images, bounds)
    return points.detach()
