"""The order of the data, on one process or many, and augmentation by sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.data import Dataset
from assay.tensors.random import sample_seeds
from assay.training.batches import Batches, crop_flip


def numbered(count: int) -> Dataset:
    """Images whose pixels say which sample they are."""
    images = np.arange(count, dtype=np.float32)[:, None, None] / 1000 * np.ones((1, 4, 4), np.float32)
    return Dataset.from_arrays(images, np.arange(count) % 2)


def make(data: Dataset, *, size: int, seed: int = 0, rank: int = 0, world: int = 1) -> Batches:
    device = torch.device("cpu")
    return Batches(data, size=size, seed=seed, names=("training",), device=device, rank=rank, world=world)


def rows_of(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 0, 0] * 1000).round().int().tolist()


@given(count=st.integers(2, 40), size=st.integers(1, 50), world=st.integers(1, 4), epoch=st.integers(0, 9))
def test_slices_of_all_processes_make_up_each_global_batch(count: int, size: int, world: int, epoch: int) -> None:
    data = numbered(count)
    alone = list(make(data, size=size).epoch(epoch))
    parts = [list(make(data, size=size, rank=rank, world=world).epoch(epoch)) for rank in range(world)]
    assert sorted(row for batch in alone for row in rows_of(batch.images)) == list(range(count))
    for number, whole in enumerate(alone):
        slices = [part[number] for part in parts]
        real = [row for batch in slices for row, w in zip(rows_of(batch.images), batch.weights, strict=True) if w]
        assert sorted(real) == sorted(rows_of(whole.images))
        losses = [batch.images[:, 0, 0, 0] for batch in slices]
        shares = sum(float(batch.mean(loss)) for batch, loss in zip(slices, losses, strict=True))
        assert shares == pytest.approx(float(whole.images[:, 0, 0, 0].mean()), abs=1e-6)


@given(first=st.integers(0, 7), epoch=st.integers(0, 5))
def test_an_epoch_can_be_entered_anywhere(first: int, epoch: int) -> None:
    batches = make(numbered(30), size=4)
    whole, rest = list(batches.epoch(epoch)), list(batches.epoch(epoch, first))
    assert len(whole) == len(batches) == 8
    assert len(rest) == 8 - first
    for a, b in zip(whole[first:], rest, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.seeds, b.seeds)


def test_order_and_seeds_change_with_epoch_and_seed_only() -> None:
    data = numbered(50)
    batches = make(data, size=8)
    assert torch.equal(batches.order(3), make(data, size=5).order(3))
    assert not torch.equal(batches.order(3), batches.order(4))
    assert not torch.equal(batches.order(3), make(data, size=8, seed=1).order(3))
    assert len(set(batches.epoch_seeds(3).tolist()) | set(batches.epoch_seeds(4).tolist())) == 100


def test_a_sample_keeps_its_seed_in_a_subset() -> None:
    data = numbered(20)
    subset = data.subset([7, 3])
    assert make(subset, size=2).epoch_seeds(1).tolist() == make(data, size=2).epoch_seeds(1)[[7, 3]].tolist()


@given(height=st.integers(4, 17), width=st.integers(4, 17), batch=st.integers(1, 5))
def test_crop_flip_against_the_obvious(height: int, width: int, batch: int) -> None:
    images = torch.rand(batch, 2, height, width) + 0.5
    seeds = sample_seeds(0, range(batch), "augment")
    found = crop_flip(images, seeds)
    pad = max(1, round(min(height, width) / 8))
    for image, result in zip(images, found, strict=True):
        padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)))
        crops = [
            padded[:, top : top + height, left : left + width]
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
        ]
        assert any(np.array_equal(result, c) or np.array_equal(result, c[:, :, ::-1]) for c in crops)


def test_crop_flip_belongs_to_the_sample_and_uses_every_choice() -> None:
    image = torch.arange(64.0).reshape(1, 1, 8, 8).expand(400, 1, 8, 8)
    seeds = sample_seeds(0, range(400), "augment")
    found = crop_flip(image, seeds)
    assert torch.equal(crop_flip(image[:3], seeds[5:8]), found[5:8])
    assert len({tuple(result.flatten().tolist()) for result in found}) == 3 * 3 * 2
