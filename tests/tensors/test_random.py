"""Streams that belong to a sample: the same draw wherever, whenever and beside whomever it is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from assay.tensors.random import Words, bits, normal, sample_seeds, signs, uniform

DRAWS = (uniform, normal, signs)
words = st.integers(-(2**63), 2**63 - 1)
MASK = 2**64 - 1


def splitmix(state: int) -> int:
    """SplitMix64's output function, in Python's integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


@given(words, st.one_of(words, st.integers(0, 100)))
def test_words_are_splitmix_of_the_counter(seed: int, stream: int) -> None:
    golden = 0x9E3779B97F4A7C15
    start = splitmix((seed + golden + stream * 0xD1B54A32D192ED03) & MASK)
    expected = [splitmix((start + place * golden) & MASK) for place in (1, 2, 3)]
    found = bits(torch.tensor([seed]), 3, stream)[0].tolist()
    assert [word & MASK for word in found] == expected


@given(st.lists(words, max_size=5), st.integers(0, 9), st.integers(0, 20))
def test_single_words_are_columns_of_bits(seeds: list[int], stream: int, place: int) -> None:
    together = torch.tensor(seeds, dtype=torch.int64)
    found = Words(together, stream)
    found[place + 1]  # overwritten by what follows
    assert found[place].view(np.int64).tolist() == bits(together, place + 1, stream)[:, place].tolist()


@pytest.mark.parametrize("draw", DRAWS)
def test_a_sample_draws_the_same_in_every_batch_and_order(draw) -> None:
    seeds = sample_seeds(3, range(50), "test")
    together = draw(seeds, (2, 5), 7)
    assert together.dtype == torch.float32
    assert together.shape == (50, 2, 5)
    for size in (1, 7, 49):
        assert torch.equal(torch.cat([draw(part, (2, 5), 7) for part in seeds.split(size)]), together)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(seeds[order], (2, 5), 7), together[order])


def test_a_stream_a_sample_is_the_stream_of_that_number() -> None:
    seeds = sample_seeds(0, range(4), "test")
    streams = torch.tensor([0, 5, 2**62, -1])
    together = uniform(seeds, (3,), streams)
    for place, stream in enumerate(streams.tolist()):
        assert torch.equal(together[place], uniform(seeds[place : place + 1], (3,), stream)[0])


def test_global_randomness_is_neither_used_nor_moved() -> None:
    seeds = sample_seeds(0, range(4), "test")
    first = normal(seeds, (9,))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(normal(seeds, (9,)), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_moments_and_shape_of_the_distributions() -> None:
    seeds = sample_seeds(11, range(200), "moments")
    flat = uniform(seeds, (500,)).flatten().numpy()
    assert flat.min() >= 0
    assert flat.max() < 1
    assert stats.kstest(flat, "uniform").pvalue > 1e-3
    bell = normal(seeds, (500,)).flatten().numpy()
    assert stats.kstest(bell, "norm").pvalue > 1e-3
    ways = signs(seeds, (500,)).flatten().numpy()
    assert set(np.unique(ways)) == {-1.0, 1.0}
    assert abs(ways.mean()) < 4 / np.sqrt(len(ways))


def test_streams_samples_and_names_are_uncorrelated() -> None:
    by_name = [sample_seeds(0, range(100), name) for name in ("a", "b")]
    columns = [uniform(by_name[0], (400,), stream) for stream in (0, 1, 2**40)] + [uniform(by_name[1], (400,))]
    for first in range(len(columns)):
        for second in range(first):
            together = np.corrcoef(columns[first].flatten(), columns[second].flatten())[0, 1]
            assert abs(together) < 4 / np.sqrt(40_000)
    between_samples = np.corrcoef(columns[0][:-1].flatten(), columns[0][1:].flatten())[0, 1]
    assert abs(between_samples) < 4 / np.sqrt(40_000)


def test_seeds_hang_on_every_name() -> None:
    seeds = sample_seeds(0, [1, 2], "apgd", 0)
    assert seeds.dtype == torch.int64
    assert not torch.equal(seeds, sample_seeds(0, [1, 2], "apgd", 1))
    assert not torch.equal(seeds, sample_seeds(1, [1, 2], "apgd", 0))
    assert torch.equal(seeds.flip(0), sample_seeds(0, [2, 1], "apgd", 0))
