"""Poisson batches: independent draws, on one process or many, entered anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import SettingError
from assay.data import Dataset
from assay.training.poisson import PoissonBatches


def numbered(count: int) -> Dataset:
    """Images whose pixels say which sample they are."""
    images = np.arange(count, dtype=np.float32)[:, None, None] / 1000 * np.ones((1, 4, 4), np.float32)
    return Dataset.from_arrays(images, np.arange(count) % 2)


def make(data: Dataset, *, size: int, seed: int = 0, secure: bool = False, **place) -> PoissonBatches:
    device = torch.device("cpu")
    return PoissonBatches(data, size=size, seed=seed, names=("training",), device=device, secure=secure, **place)


@given(count=st.integers(1, 40), share=st.floats(0.01, 1), world=st.integers(1, 4), epoch=st.integers(0, 9))
def test_slices_of_all_processes_make_up_the_batch_of_one(count: int, share: float, world: int, epoch: int) -> None:
    data, size = numbered(count), max(1, round(share * count))
    alone = list(make(data, size=size).epoch(epoch))
    parts = [list(make(data, size=size, rank=rank, world=world).epoch(epoch)) for rank in range(world)]
    assert len(alone) == -(-count // size)
    for number, whole in enumerate(alone):
        slices = [part[number] for part in parts]
        rows = torch.cat([batch.rows for batch in slices])
        assert sorted(rows.tolist()) == whole.rows.tolist()
        assert dict(zip(rows.tolist(), torch.cat([batch.seeds for batch in slices]).tolist(), strict=True)) == dict(
            zip(whole.rows.tolist(), whole.seeds.tolist(), strict=True)
        )
        for batch in (*slices, whole):
            assert batch.size == size
            assert batch.weights.tolist() == [1.0] * len(batch.rows)
            assert torch.equal(batch.images, torch.from_numpy(data.images(batch.rows.numpy())))
            assert batch.labels.tolist() == (batch.rows % 2).tolist()


@given(first=st.integers(0, 7), epoch=st.integers(0, 5))
def test_an_epoch_can_be_entered_anywhere(first: int, epoch: int) -> None:
    batches = make(numbered(30), size=4)
    whole, rest = list(batches.epoch(epoch)), list(batches.epoch(epoch, first))
    assert [batch.rows.tolist() for batch in whole[first:]] == [batch.rows.tolist() for batch in rest]
    assert [batch.seeds.tolist() for batch in whole[first:]] == [batch.seeds.tolist() for batch in rest]


@pytest.mark.parametrize("secure", [False, True])
def test_each_sample_takes_part_with_the_rate_by_itself(secure: bool) -> None:
    count, size, steps = 200, 20, 3000
    batches = make(numbered(count), size=size, secure=secure)
    present = torch.zeros(steps, count)
    for step in range(steps):
        present[step, batches.rows(step)] = 1
    rate = size / count
    spread = (rate * (1 - rate)) ** 0.5
    z = (present.mean(0) - rate) / (spread / steps**0.5)
    assert z.abs().max() < 6
    sizes = present.sum(1)
    assert sizes.var().item() == pytest.approx(count * rate * (1 - rate), rel=0.15)
    standard = (present - rate) / spread
    pairs = (standard[:, :-1] * standard[:, 1:]).mean(0) * steps**0.5  # neighbouring samples, same step
    steps_apart = (standard[:-1] * standard[1:]).mean(0) * steps**0.5  # same sample, neighbouring steps
    assert pairs.abs().max() < 6
    assert steps_apart.abs().max() < 6


def test_a_sample_keeps_its_draw_whatever_the_data_around_it() -> None:
    data = numbered(40)
    whole, part = make(data, size=20), make(data.subset(range(20)), size=10)
    for step in range(20):
        assert [row for row in whole.rows(step).tolist() if row < 20] == part.rows(step).tolist()


def test_a_larger_rate_keeps_those_of_a_smaller_one() -> None:
    data = numbered(50)
    small, large = make(data, size=5), make(data, size=25)
    for step in range(30):
        assert set(small.rows(step).tolist()) <= set(large.rows(step).tolist())


def test_draws_change_with_seed_step_and_entropy() -> None:
    data = numbered(100)
    first = make(data, size=50).rows(0).tolist()
    assert first != make(data, size=50, seed=1).rows(0).tolist()
    assert first != make(data, size=50).rows(1).tolist()
    secure = make(data, size=50, secure=True)
    assert secure.rows(0).tolist() != secure.rows(0).tolist()


def test_a_full_rate_takes_all_and_a_larger_one_is_refused() -> None:
    data = numbered(7)
    assert make(data, size=7, secure=True).rows(3).tolist() == list(range(7))
    with pytest.raises(SettingError, match=r"batch_size is 8, but there are 7 samples.*at most 7"):
        make(data, size=8)


def test_an_empty_batch_has_the_shape_of_images() -> None:
    batches = make(numbered(30), size=1)
    empty = next(batch for epoch in range(9) for batch in batches.epoch(epoch) if not len(batch.rows))
    assert empty.images.shape == (0, 1, 4, 4)
    assert empty.mean(torch.zeros(0)).item() == 0.0
