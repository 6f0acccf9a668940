"""The loss of windows of tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def window_losses(logits: Tensor, ids: Tensor) -> Tensor:
    """-1/(L-1) Σ_t log p(x_(t+1) | x_0 .. x_t), in nats a token: [b, L, V], [b, L] -> [b]."""
    count, length = ids.shape
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    return losses.view(count, length - 1).mean(1)
