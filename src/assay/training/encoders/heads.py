"""Heads that encoders have in training alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def projector(dim: int, hidden: int, out: int) -> nn.Sequential:
    """SimSiam's projector: three linear layers with BatchNorm, the last one without scale and shift."""
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, out, bias=False),
        nn.BatchNorm1d(out, affine=False),
    )


def predictor(dim: int, hidden: int) -> nn.Sequential:
    """SimSiam's predictor: two linear layers through a bottleneck."""
    return nn.Sequential(nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim))


class Prototypes(nn.Module):
    """DINO's head: three linear layers, and the cosine with prototypes of unit length.

    Args:
        dim: of the embedding.
        hidden: of the layers between.
        bottleneck: of the vectors that are compared with the prototypes.
        count: of the prototypes.
    """

    def __init__(self, dim: int, *, hidden: int, bottleneck: int, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.empty(count, bottleneck))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.prototypes)

    def forward(self, embedding: Tensor) -> Tensor:
        """[B, dim] -> [B, count], within [-1, 1]."""
        return F.linear(F.normalize(self.layers(embedding)), F.normalize(self.prototypes))
