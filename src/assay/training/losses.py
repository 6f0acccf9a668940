"""Losses of one sample each, [B]: reduced by the recipe, with the mean over the global batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """-Σ_k q_k log p_k with q = (1 - s) e_y + s / K: [B, K], [B] -> [B]."""
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)


def kl_divergence(first: Tensor, second: Tensor) -> Tensor:
    """KL(p || q) = Σ_k p_k (log p_k - log q_k), p and q the softmax of two logits [B, K] -> [B].

    Differentiable by both.
    """
    log_p, log_q = F.log_softmax(first, dim=1), F.log_softmax(second, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(1)
