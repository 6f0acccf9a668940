"""Which samples come when: the order of the data is a function of (seed, epoch) and of nothing else.

Each sample has a seed of its own, from the training's seed and the sample's id,
and from it one for each epoch. The order of an epoch sorts the samples by a
random word of theirs; augmentation and random starts draw from the same seed.
So neither the number of processes nor a restart changes what a sample meets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.dataset import Dataset
from ..tensors.random import bits, sample_seeds, uniform

ORDER, AUGMENT, START = 0, 1, 2
"""Streams of a sample's seed for an epoch; random starts may use ``START`` and ``START + 1``."""


@dataclass(frozen=True)
class Batch:
    """One process's slice of a global batch.

    Args:
        images: raw images [b, C, H, W] in [0, 1].
        labels: class indices [b].
        seeds: one random stream a sample, for this epoch [b].
        weights: 1, or 0 for a sample that only fills an otherwise empty slice [b].
        size: samples in the global batch, or their expected number where that is random.
        rows: position of each sample in the data [b].
    """

    images: Tensor
    labels: Tensor
    seeds: Tensor
    weights: Tensor
    size: int
    rows: Tensor

    def mean(self, losses: Tensor) -> Tensor:
        """This process's share of the mean over the global batch, Σ losses / size: [b] -> scalar.

        Summed over the processes it is the mean, whatever the sizes of the slices.
        """
        return (losses * self.weights).sum() / self.size


class Batches:
    """The batches of every epoch, as one process sees them.

    Args:
        data: the samples.
        size: samples in a global batch; the last one of an epoch may be smaller.
        seed: root of the samples' streams.
        names: what the streams are for.
        device: where batches are put.
        rank, world: this process and the number of processes.
        augment: ``"none"`` or ``"crop-flip"``.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        size: int,
        seed: int,
        names: tuple[str, ...],
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        augment: str = "none",
    ) -> None:
        self.data, self.size, self.device, self.augment = data, size, device, augment
        self.rank, self.world = rank, world
        self.labels = torch.from_numpy(np.asarray(data.labels, dtype=np.int64))
        self.seeds = sample_seeds(seed, data.sample_ids.tolist(), *names)

    def __len__(self) -> int:
        return -(-len(self.data) // self.size)

    def order(self, epoch: int) -> Tensor:
        """The samples in the order of an epoch: [N]."""
        return bits(self.epoch_seeds(epoch), 1, ORDER)[:, 0].argsort(stable=True)

    def epoch_seeds(self, epoch: int) -> Tensor:
        """Each sample's seed for an epoch: [N]."""
        return bits(self.seeds, 1, epoch)[:, 0]

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The shuffled batches of an epoch from batch number ``first`` on."""
        order = self.order(epoch)
        yield from (rows for _, rows in self._slices(order, self.epoch_seeds(epoch), first))

    def in_order(self) -> Iterator[tuple[Tensor, Batch]]:
        """Every sample once, unshuffled, with the rows of each slice; for validation."""
        yield from self._slices(torch.arange(len(self.data)), self.epoch_seeds(0), 0)

    def _slices(self, order: Tensor, seeds: Tensor, first: int) -> Iterator[tuple[Tensor, Batch]]:
        for start in range(first * self.size, len(order), self.size):
            whole = order[start : start + self.size]
            rows = whole[self.rank :: self.world]
            weight = 1.0 if len(rows) else 0.0
            rows = rows if len(rows) else whole[:1]
            yield rows, self._batch(rows, seeds[rows], weight, len(whole))

    def _batch(self, rows: Tensor, seeds: Tensor, weight: float, size: int) -> Batch:
        images = torch.from_numpy(self.data.images(rows.numpy())).to(self.device)
        seeds = seeds.to(self.device)
        if self.augment == "crop-flip":
            images = crop_flip(images, seeds)
        weights = torch.full((len(rows),), weight, device=self.device)
        return Batch(images, self.labels[rows].to(self.device), seeds, weights, size, rows)


def crop_flip(images: Tensor, seeds: Tensor) -> Tensor:
    """Shift each image by up to an eighth of its side, with zeros moving in, and mirror every second one.

    The augmentation of He et al. (arXiv 1512.03385, Section 4.2), which is 4
    pixels at a side of 32. Each sample draws from its own stream.

    Args:
        images: [B, C, H, W].
        seeds: [B].
    """
    count, _, height, width = images.shape
    pad = max(1, round(min(height, width) / 8))
    draws = uniform(seeds, (3,), AUGMENT)
    down, right = ((draws[:, i] * (2 * pad + 1)).long() for i in (0, 1))
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = right[:, None] + torch.arange(width, device=images.device)
    columns = torch.where(draws[:, 2:] < 0.5, columns, columns.flip(1))
    padded = F.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    sample = torch.arange(count, device=images.device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
