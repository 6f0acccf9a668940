"""The judge: the caller's own model in float32 decides what counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..subjects.lanes import in_lanes
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


@dataclass
class Verdict:
    """What the caller's model says of points.

    Args:
        score: how bad they are, by task: [B, k], compared column by column.
        loss: the tracked loss [B].
        success: whether the adversary has all it can want [B] bool, or None.
    """

    score: Tensor
    loss: Tensor
    success: Tensor | None

    def take_over(self, rows: Tensor, other: Verdict) -> None:
        """Replace the verdicts on some rows (an index tensor)."""
        self.score[rows], self.loss[rows] = other.score, other.loss
        if self.success is not None and other.success is not None:
            self.success[rows] = other.success

    def pick(self, rows: Tensor) -> Verdict:
        """The verdicts on some rows."""
        return Verdict(self.score[rows], self.loss[rows], None if self.success is None else self.success[rows])


class TaskJudge:
    """Verdicts on points for a model of any task, with a count of what they cost.

    Args:
        target: the model under attack.
        loss: ``loss(output, reference) -> [B]``, what is tracked and reported.
    """

    def __init__(self, target: Target[Any], loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.target, self.loss = target, loss
        self.forward_passes = 0

    def answer(self, points: Tensor) -> Tensor:
        """The caller's own model in float32."""
        self.forward_passes += len(points)
        return self.target.logits(points)

    def of(self, output: Tensor, reference: Tensor) -> Verdict:
        """The verdict on answers of the caller's own model."""
        loss = in_lanes(self.loss, output, reference)
        return Verdict(self.score(output, reference, loss).clone(), loss, self.target.task.success(output, reference))

    def score(self, output: Tensor, reference: Tensor, value: Tensor) -> Tensor:
        """What makes a point bad for the model, by task: [B, k].

        Segmentation: pixels that count and are right, fewer is worse, then the value. Classification: a wrong class,
        then the value. Else: the value.
        """
        task = self.target.task
        if task.name == "segmentation":
            right = task.right(output, reference).flatten(1).sum(1)
            return torch.stack([-right.to(value.dtype), value], 1)
        if task.name == "classification":
            return torch.stack([task.success(output, reference).to(value.dtype), value], 1)
        return value[:, None]
