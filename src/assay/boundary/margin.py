"""The soft logit margin, whose zero set is the decision boundary that everything here measures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.errors import DataError, SettingError


def soft_margin(logits: Tensor, labels: Tensor, temperature: float = 5.0) -> Tensor:
    r"""How far each sample is inside its own class, in logits; smooth in the logits.

    φ = z_y - (1/β) log Σ_{j≠y} exp(β z_j). The soft maximum is never below the true one, so
    φ is at most the exact margin z_y - max_{j≠y} z_j, and at most log(K - 1) / β below it: φ > 0 implies
    that the sample is classified correctly. With two classes, or β = ∞, φ is the exact margin.

    Args:
        logits: z, [B, K] with K >= 2, finite.
        labels: y, class indices [B].
        temperature: the sharpness β, above 0; the paper calls it temperature. ``math.inf`` gives the exact margin.

    Returns:
        φ, [B], differentiable by the logits.

    Raises:
        DataError, SettingError: fewer than two classes, labels of another length, or a β that is not above 0.

    Cost: O(B K).

    Xu et al., Exploring and Exploiting Decision Boundary Dynamics for Adversarial Robustness (arXiv 2302.03015).

    >>> soft_margin(torch.tensor([[2.0, 0.5]]), torch.tensor([0]))
    tensor([1.5000])
    """
    check_temperature(temperature)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(f"The logits have shape {tuple(logits.shape)}; [B, K] with at least two classes is needed.")
    if labels.shape != logits.shape[:1]:
        raise DataError(f"The labels have shape {tuple(labels.shape)} for {len(logits)} rows of logits; give [B].")
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    if math.isinf(temperature):
        return own - others.amax(1)
    return own - (temperature * others).logsumexp(1) / temperature


def check_temperature(temperature: float) -> float:
    """The temperature itself, if it is above 0 (infinity is allowed).

    Raises:
        SettingError: it is not.
    """
    if not temperature > 0:
        raise SettingError(
            f"temperature is {temperature!r}; allowed: above 0, such as the published 5, or inf for the exact margin."
        )
    return float(temperature)
