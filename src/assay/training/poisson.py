"""Poisson sampling: at every step each sample takes part by a draw of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import SettingError
from ..data.dataset import Dataset
from ..tensors.random import Words, bits
from .batches import Batch, Batches


class PoissonBatches(Batches):
    """Batches in which each sample is present with probability q = size / N, independently of all others.

    A batch may hold any number of samples, none included. Its ``size`` is the
    expected number, a constant, and so ``batch.mean`` is Σ losses / size. An
    epoch is ⌈N / size⌉ steps; a sample may come in it twice, or not at all.

    Whether a sample takes part is a function of (seed, sample, step), so that
    neither the number of processes nor a restart changes it. Each process
    draws for its share of the samples alone.

    Args:
        data, place: as :class:`Batches` takes them.
        secure: draw from the operating system's entropy; a repeated step then has another batch.

    Raises:
        SettingError: ``size`` is above N.

    Cost: one hash of 64 bits a sample and step.
    """

    def __init__(self, data: Dataset, *, secure: bool = False, **place: Any) -> None:
        super().__init__(data, **place)
        if self.size > len(data):
            raise SettingError(
                f"TrainSettings.batch_size is {self.size}, but there are {len(data)} samples; Poisson sampling takes "
                f"part of them with probability batch_size / samples. Allowed: at most {len(data)}."
            )
        self.secure = secure
        self.own = np.arange(self.rank, len(data), self.world)
        self._words = Words(self.seeds[self.own])
        self._below = np.uint64(min(self.size * 2**64 // len(data), 2**64 - 1))

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step number ``first`` on."""
        for step in range(epoch * len(self) + first, (epoch + 1) * len(self)):
            rows = self.rows(step)
            yield self._batch(rows, bits(self.seeds[rows], 1, step + 1)[:, 0], 1.0, self.size)

    def rows(self, step: int) -> Tensor:
        """The samples of this process that take part in a step, counted from 0: [b].

        A sample's draw is word ``step`` of its stream 0, and its seed for the step comes from stream step + 1.
        """
        if self.size == len(self.data):
            return torch.from_numpy(self.own)
        words = np.frombuffer(os.urandom(8 * len(self.own)), np.uint64) if self.secure else self._words[step]
        return torch.from_numpy(self.own[words < self._below])
