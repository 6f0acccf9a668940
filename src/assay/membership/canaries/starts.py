"""Where queries start: augmentations of a record, each from a random stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...tensors.random import bits, sample_seeds, uniform
from ...training.batches import crop_flip
from .settings import CanarySettings

_PIXELS = 3  # a stream of its own beside those of training.batches


def row_seeds(seed: int, ids: Sequence[int], queries: int) -> Tensor:
    """One random stream for each query of each record: [T, Q] int64."""
    return torch.stack([sample_seeds(seed, ids, "canary", query) for query in range(queries)], 1)


def centres(images: Tensor, seeds: Tensor, augment: str, bounds: tuple[float, float]) -> Tensor:
    """The middles of the balls: the record first, then augmentations of it: [T, C, H, W], [T, Q] -> [T, Q, C, H, W]."""
    count, queries = seeds.shape
    copies = images[:, None].repeat(1, queries, 1, 1, 1)
    if augment == "crop-flip" and queries > 1:
        moved = crop_flip(copies[:, 1:].flatten(0, 1), seeds[:, 1:].flatten())
        copies[:, 1:] = moved.clamp(*bounds).reshape(count, queries - 1, *images.shape[1:])
    return copies


def first_points(middles: Tensor, seeds: Tensor, how: CanarySettings, bounds: tuple[float, float]) -> Tensor:
    """The first points before they are moved into the balls [B, ...]: the middles, black, or uniform noise."""
    if how.init == "zeros":
        return torch.full_like(middles, bounds[0])
    if how.init == "random":
        return bounds[0] + (bounds[1] - bounds[0]) * uniform(seeds, middles.shape[1:], _PIXELS)
    return middles.clone()


def other_classes(seed: int, ids: Sequence[int], labels: Tensor, classes: int) -> Tensor:
    """A class that is not the record's, each with the same chance: [T]."""
    words = bits(sample_seeds(seed, ids, "canary-class"), 1)[:, 0] >> 1
    draws = (words & (2**62 - 1)) % (classes - 1)
    return (labels + 1 + draws.to(labels.device)) % classes
