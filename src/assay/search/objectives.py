"""Objectives: what an adversary pushes up, one value a sample.

``objective(logits [B, C], reference, step) -> [B]``. Untargeted objectives take
the labels [B] as reference; targeted ones [B, 2], the label and the target class.
The formulas are in ``assay.tensors.losses``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..tensors import losses

Objective = Callable[[Tensor, Tensor, int], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor, step: int) -> Tensor:
    """logsumexp(z) - z_y. Vanishing gradient where the model is confident."""
    return losses.ce(logits, labels, ignore_index=None)


def margin(logits: Tensor, labels: Tensor, step: int) -> Tensor:
    """max_{j≠y} z_j - z_y, positive exactly where misclassified (Carlini and Wagner, 2017)."""
    return losses.margin(logits, labels)


def difference_of_logits_ratio(logits: Tensor, labels: Tensor, step: int) -> Tensor:
    """-(z_y - max_{j≠y} z_j) / (z_π1 - z_π3), unchanged by shift and scale (arXiv 2003.01690).

    With two classes there is no third logit, and the margin takes its place.
    """
    return losses.dlr(logits, labels)


def targeted_margin(logits: Tensor, reference: Tensor, step: int) -> Tensor:
    """z_t - z_y for reference [B, 2] = (y, t)."""
    return losses.targeted_margin(logits, reference[:, 0], reference[:, 1])


def targeted_difference_of_logits_ratio(logits: Tensor, reference: Tensor, step: int) -> Tensor:
    """-(z_y - z_t) / (z_π1 - (z_π3 + z_π4) / 2) for reference [B, 2] = (y, t) (arXiv 2003.01690).

    Below four classes the denominator does not exist or is the numerator; the margin takes its place.
    """
    return losses.dlr_targeted(logits, reference[:, 0], reference[:, 1])
