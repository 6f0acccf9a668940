"""Lanes: fixed shapes for network calls, so that results do not depend on the batch.

Matrix and convolution kernels choose their inner loops by the shape of the
batch, and so round differently for 1, 37 and 256 rows. With a number of rows
that is a multiple of four the same loops run for every row (measured on
float32 convolutional and linear networks, bit for bit; the tests hold it), and
lanes whose activations fit in cache are also faster than one large call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ROWS = 4
_CPU_LANE_VALUES = 64 * 3 * 32 * 32


def lane_size(points: Tensor) -> int:
    """Rows a network call takes at once: all of them on an accelerator, a cacheful on a CPU."""
    if points.device.type != "cpu":
        return -(-len(points) // ROWS) * ROWS
    values = max(1, points[0].numel())
    return max(ROWS, _CPU_LANE_VALUES // values // ROWS * ROWS)


def in_lanes(call: Callable[..., Any], points: Tensor, *rows: Tensor) -> Any:
    """``call(points, *rows)`` lane by lane, padded to a multiple of four rows.

    Args:
        call: takes [b, ...] tensors and returns a tensor, or a tuple of them, with b rows.
        points: [B, ...], at least one row.
        rows: more tensors with B rows.

    Returns:
        What ``call`` would return for all rows at once.
    """
    count, size = len(points), lane_size(points)
    parts = []
    for start in range(0, count, size):
        lane = [tensor[start : start + size] for tensor in (points, *rows)]
        wanted = len(lane[0])
        missing = -wanted % ROWS
        if missing:
            lane = [torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])]) for tensor in lane]
        answer = call(*lane)
        if missing:
            answer = tuple(a[:wanted] for a in answer) if isinstance(answer, tuple) else answer[:wanted]
        parts.append(answer)
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))
    return torch.cat(parts)
