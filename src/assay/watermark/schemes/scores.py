"""How a scheme changes scores: green tokens raised, or red ones forbidden; new tensors in the caller's precision.

torch is imported by what changes scores: detection needs none of it, and starts a second earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def copied(scores: Tensor) -> Tensor:
    """A contiguous copy outside the graph of gradients."""
    import torch

    return scores.detach().clone(memory_format=torch.contiguous_format)


def raised(scores: Tensor, green: Tensor, delta: float) -> Tensor:
    """delta added to green scores; the sum is rounded once, to the precision of the scores.

    Args:
        scores: [B, V], any floating-point dtype and device.
        green: bool [B, V] or [V], same device.
        delta: nats.
    """
    import torch

    scores = scores.detach()
    return torch.where(green, scores + delta, scores)


def forbidden(scores: Tensor, green: Tensor) -> Tensor:
    """Red scores turned to minus infinity; a row in which no token would be left stays as it is."""
    import torch

    kept = scores.detach().masked_fill(~green, float("-inf"))
    some = (kept > float("-inf")).any(dim=1, keepdim=True)
    return torch.where(some, kept, scores.detach())


def in_float32(scores: Tensor, delta: float, add: Callable[[np.ndarray, float], None]) -> Tensor | None:
    """Let a kernel function add to float32 rows in place, for scores on the CPU of at most that precision.

    float16 and bfloat16 are widened, changed and rounded back. PyTorch's own addition on the CPU rounds the number
    that is added to that precision too; so is delta here, and the sums are the same.

    Args:
        scores: [B, V].
        delta: what is added.
        add: function of float32 rows [B, V] and delta.

    Returns:
        the new scores; None if they are float64 or on another device.
    """
    import torch

    if scores.device.type != "cpu" or scores.dtype == torch.float64:
        return None
    rows = copied(scores) if scores.dtype == torch.float32 else scores.detach().to(torch.float32).contiguous()
    add(rows.numpy(), float(torch.tensor(delta, dtype=scores.dtype)))
    return rows.to(scores.dtype)


def to_numpy(ids: Tensor) -> np.ndarray:
    """Ids as a contiguous int64 array on the CPU."""
    import torch

    return np.ascontiguousarray(ids.detach().to("cpu", torch.int64).numpy())


def shifted(rows: np.ndarray, shift: int) -> np.ndarray:
    """Rows as a payload sees them: token t takes the place of (t + shift) mod V."""
    return np.roll(rows, -shift, axis=-1) if shift else rows


def likeliest(scores: Tensor, count: int) -> Tensor:
    """Ids of the ``count`` highest scores of every row, int64 [B, count]; of equal scores the lowest ids.

    That is the order of a stable descending sort. The order within a row is not defined.
    """
    import torch

    count = min(count, scores.shape[1])
    if count == scores.shape[1]:
        return torch.arange(count, device=scores.device).expand(len(scores), count)
    values, ids = torch.topk(scores, count + 1, dim=1)
    tied = values[:, count - 1] == values[:, count]
    ids = ids[:, :count]
    if bool(tied.any()):  # the limit falls among equal scores, where topk chooses any of them
        ids[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, :count]
    return ids
