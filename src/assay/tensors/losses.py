"""Losses of single samples (first version)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ce(logits: Tensor, target: Tensor, *, ignore_index: int | None = 255) -> Tensor:
    """Mean cross-entropy over valid positions: [B]."""
    valid = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    losses = F.cross_entropy(logits, torch.where(valid, target, 0), reduction="none") * valid
    return losses.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1) if losses.ndim > 1 else losses


def silog(prediction: Tensor, target: Tensor, *, valid: Tensor | None = None, beta: float = 0.15) -> Tensor:
    """sqrt(var(g) + beta mean(g)^2): [B]."""
    valid = target > 0 if valid is None else valid
    g = torch.where(valid, (prediction + 1e-3).log() - (target.clamp_min(0) + 1e-3).log(), 0).flatten(1)
    count = valid.flatten(1).sum(1).clamp_min(1)
    mean = g.sum(1) / count
    variance = (torch.where(valid.flatten(1), g - mean[:, None], 0).square().sum(1)) / count
    inside = variance + beta * mean.square()
    return torch.where(inside > 0, inside.clamp_min(1e-24).sqrt(), inside)
