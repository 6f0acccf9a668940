"""Adam and AdamW on inputs: the step rules of query optimisation, projected after every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .engine import Observation, Space, Work


@dataclass(frozen=True)
class Adam:
    r"""x ← Π(x - lr m̂ / (√v̂ + eps)), per row, from the points given or the centres (Kingma and Ba, arXiv 1412.6980).

    With g the gradient of what is pushed down (the objective with its sign changed):
    m ← β1 m + (1 - β1) g, v ← β2 v + (1 - β2) g², m̂ = m / (1 - β1^t), v̂ = v / (1 - β2^t).
    Weight decay w pulls towards ``origin`` o: decoupled, x ← x - lr w (x - o) before the step (AdamW,
    Loshchilov and Hutter, arXiv 1711.05101), or else g ← g + w (x - o). Between projections the
    arithmetic is that of ``torch.optim.Adam`` and ``torch.optim.AdamW``.

    Args:
        steps: number of steps.
        learning_rate: lr, in the units of the raw input.
        betas: β1 and β2.
        eps: what keeps the division finite.
        weight_decay: w.
        decoupled: AdamW's weight decay rather than Adam's.
        origin: o, in the units of the raw input.

    Cost: ``steps`` + 1 evaluations: the last points are looked at too.
    """

    steps: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = True
    origin: float = 0.0

    needs_gradient = True
    stays_inside = True

    @property
    def evaluations(self) -> int:
        """One more than the steps."""
        return self.steps + 1

    def begin(self, work: Work, space: Space) -> None:
        """From ``work.points`` where the caller has set them, else from the centres, moved into ball and box."""
        given = work.points if len(work.points) else work.centres
        work.points = space.project(given, work.centres)
        work.state = {"first": torch.zeros_like(work.points), "second": torch.zeros_like(work.points)}

    def advance(self, work: Work, space: Space, step: int, seen: Observation) -> None:
        """One projected step."""
        first, second = self.betas
        points, gradient = work.points, -seen.gradient
        if self.weight_decay and self.decoupled:
            points = points - self.learning_rate * self.weight_decay * (points - self.origin)
        elif self.weight_decay:
            gradient = gradient + self.weight_decay * (points - self.origin)
        mean = work.state["first"].mul_(first).add_(gradient, alpha=1 - first)
        square = work.state["second"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        size = self.learning_rate / (1 - first ** (step + 1))
        divisor = square.sqrt().div_((1 - second ** (step + 1)) ** 0.5).add_(self.eps)
        work.points = space.project(torch.addcdiv(points, mean, divisor, value=-size), work.centres)

    def finalists(self, work: Work, space: Space) -> torch.Tensor:
        """The last iterate."""
        return work.points
