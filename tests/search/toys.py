"""Small models that answer the stepping core directly, and records of what it asked them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from assay.search.engine import Space, Work
from assay.search.threat import ThreatModel
from assay.tensors.random import sample_seeds, uniform


class Spy:
    """A differentiable function of the input as a searching model; ``asked`` keeps every point in order."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function
        self.asked: list[Tensor] = []
        self.values: list[Tensor] = []

    def logits(self, points: Tensor) -> Tensor:
        self.asked.append(points.clone())
        with torch.no_grad():
            return self.function(points)

    def value_and_gradient(self, points: Tensor, objective, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.asked.append(points.clone())
        leaf = points.detach().requires_grad_(True)
        with torch.enable_grad():
            output = self.function(leaf)
            value = objective(output, reference)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        self.values.append(value.detach())
        return output.detach(), value.detach(), gradient


def network(inputs: int, classes: int, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """A smooth two-layer function with curved boundaries."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(inputs, 32, generator=generator) * (8 / inputs) ** 0.5
    second = torch.randn(32, classes, generator=generator)
    return lambda points: torch.tanh((points.flatten(1) - 0.5) @ first) @ second


def make_work(count: int, shape: tuple[int, ...], labels: Tensor | None = None, name: str = "toy") -> Work:
    """Random centres in the unit box, some coordinates on its walls."""
    seeds = sample_seeds(0, range(count), name)
    centres = (uniform(seeds, shape) * 1.4 - 0.2).clamp(0, 1)
    labels = torch.zeros(count, dtype=torch.int64) if labels is None else labels
    return Work(centres=centres, reference=labels, seeds=seeds, owner=torch.arange(count))


def space(norm: str, eps: float) -> Space:
    return Space(ThreatModel(norm, eps), (0.0, 1.0))
