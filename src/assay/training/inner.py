"""The inner problem of adversarial training: a perturbation that makes the current model worse."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.settings import option, settings
from ..search.ascent import ascend, random_start
from ..search.engine import Space, Work
from ..search.threat import ThreatModel
from ..tensors.random import normal
from .batches import START, Batch
from .burn_in import BurnIn
from .losses import cross_entropy
from .state import TrainState

BOUNDS = (0.0, 1.0)
SMALL_START = 0.001


@settings
class InnerProblem(BurnIn):
    """Threat model and effort of the inner maximisation; recipes inherit these settings."""

    norm: str = option(default="linf", help="norm of the perturbation", choices=("linf", "l2"))
    eps: float = option(default="8/255", help="budget, for images in [0, 1]", at_least=0, below=float("inf"))
    steps: int = option(default=10, help="gradient steps of the inner problem", at_least=1)
    step_size: float | None = option(default=None, help="length of a step; default 2.5 * eps / steps", above=0)

    @property
    def threat(self) -> ThreatModel:
        """Norm and budget."""
        return ThreatModel(self.norm, self.eps)

    def adversary(self) -> InnerProblem:
        """This inner problem itself."""
        return self

    def attack(self, state: TrainState, batch: Batch) -> Tensor:
        """PGD on the cross-entropy from a random point of the ball: [b, C, H, W]."""
        count = torch.arange(len(batch.images), device=batch.images.device)
        work = Work(centres=batch.images, reference=batch.labels, seeds=batch.seeds, owner=count)
        start = random_start(work, Space(self.threat, BOUNDS), START)
        return self.maximise(state, batch, lambda logits: cross_entropy(logits, batch.labels), start)

    def small_start(self, batch: Batch) -> Tensor:
        """x + 0.001 N(0, I), where TRADES and MART begin."""
        return batch.images + SMALL_START * normal(batch.seeds, batch.images.shape[1:], START)

    def maximise(self, state: TrainState, batch: Batch, objective: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
        """Ascend ``objective(logits [b, K]) -> [b]`` with the model in evaluation mode: [b, C, H, W].

        Batch statistics and dropout are at rest: the perturbation is aimed at the
        model as it will be used, and running statistics are those of the training pass alone.

        Cost: ``steps`` forward and backward passes a sample.
        """
        with state.evaluating():
            state.cost.backward += self.steps * len(batch.images)
            return ascend(
                lambda points: objective(state.logits(points)),
                batch.images,
                self.threat,
                steps=self.steps,
                step_size=self.step_size or 2.5 * self.eps / self.steps,
                start=start,
                bounds=BOUNDS,
            )
