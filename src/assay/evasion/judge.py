"""The judge: the caller's own model in float32 decides what counts."""

from __future__ import annotations

import torch
from torch import Tensor

from ..subjects.target import Target

TIE = 1e-5


class Judge:
    """Verdicts on points, with a count of what they cost.

    Args:
        target: the model under examination.
        eot: answers averaged for one verdict; more than 1 for randomised models.
    """

    def __init__(self, target: Target, eot: int = 1) -> None:
        self.target = target
        self.eot = eot
        self.forward_passes = 0

    def logits(self, points: Tensor) -> Tensor:
        """Mean logits over ``eot`` answers: [B, K]."""
        self.forward_passes += self.eot * len(points)
        answers = [self.target.logits(points) for _ in range(self.eot)]
        return answers[0] if self.eot == 1 else torch.stack(answers).mean(0)

    def wrong(self, points: Tensor, labels: Tensor) -> Tensor:
        """Which points are misclassified: [B] bool."""
        return self.target.task.success(self.logits(points), labels)

    def decision(self, points: Tensor, labels: Tensor, batch_size: int) -> Tensor:
        """z_y - max of the others for many points, positive where correct: [N], on the CPU."""
        parts = []
        for start in range(0, len(points), batch_size):
            chunk = slice(start, start + batch_size)
            place = self.target.device
            logits = self.logits(points[chunk].to(place))
            parts.append(self.target.task.margin(logits, labels[chunk].to(place)).cpu())
        return torch.cat(parts)
