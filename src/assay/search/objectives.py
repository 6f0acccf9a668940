"""Objectives: what an adversary pushes up, one value a sample.

``objective(logits [B, C], reference, step) -> [B]``. Untargeted objectives take
the labels [B] as reference; targeted ones [B, 2], the label and the target class.
Formulas as published, with the fallbacks that few classes need.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Objective = Callable[[Tensor, Tensor, int], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor, step: int) -> Tensor:
    """logsumexp(z) - z_y. Vanishing gradient where the model is confident."""
    return logits.logsumexp(1) - _of(logits, labels)


def margin(logits: Tensor, labels: Tensor, step: int) -> Tensor:
    """max_{j≠y} z_j - z_y, positive exactly where misclassified (Carlini and Wagner, 2017)."""
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1) - _of(logits, labels)


def difference_of_logits_ratio(logits: Tensor, labels: Tensor, step: int) -> Tensor:
    """-(z_y - max_{j≠y} z_j) / (z_π1 - z_π3), unchanged by shift and scale (arXiv 2003.01690).

    With two classes there is no third logit, and the margin takes its place.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels, step)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels, step) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_margin(logits: Tensor, reference: Tensor, step: int) -> Tensor:
    """z_t - z_y for reference [B, 2] = (y, t)."""
    return _of(logits, reference[:, 1]) - _of(logits, reference[:, 0])


def targeted_difference_of_logits_ratio(logits: Tensor, reference: Tensor, step: int) -> Tensor:
    """-(z_y - z_t) / (z_π1 - (z_π3 + z_π4) / 2) for reference [B, 2] = (y, t) (arXiv 2003.01690).

    Below four classes the denominator does not exist or is the numerator; the margin takes its place.
    """
    if logits.shape[1] < 4:
        return targeted_margin(logits, reference, step)
    top = logits.topk(4, dim=1).values
    return targeted_margin(logits, reference, step) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]
