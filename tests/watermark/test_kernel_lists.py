from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError, SettingError
from assay.watermark import kernel
from assay.watermark.kernel import checks

from .kernels import PATHS, on_every_path, permutation, seeds

SEEDS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**32 + 7, 2**64 - 1]))


@st.composite
def lists(draw: st.DrawFn) -> tuple[int, int]:
    """A vocabulary and the length of a list: small ones, one block of words and more than one."""
    size = draw(st.one_of(st.integers(1, 12), st.integers(13, 3000)))
    return size, draw(st.one_of(st.just(0), st.just(size), st.integers(0, size)))


@pytest.fixture
def two_threads() -> Iterator[None]:
    kernel.set_threads(2)
    yield
    kernel.set_threads(1)


@settings(max_examples=60, deadline=None)
@given(lists(), st.lists(SEEDS, min_size=1, max_size=20))
def test_lists_are_those_of_torch(shape: tuple[int, int], numbers: list[int]) -> None:
    size, count = shape
    wanted = [permutation(seed, size) for seed in numbers]
    for found in on_every_path(lambda: kernel.green_lists(seeds(*numbers), size, count)):
        assert found.dtype == np.int32
        assert np.array_equal(found, [p[:count] for p in wanted])


@settings(max_examples=60, deadline=None)
@given(lists(), st.lists(SEEDS, min_size=1, max_size=20), st.booleans())
def test_rows_hold_the_set_of_the_list(shape: tuple[int, int], numbers: list[int], last: bool) -> None:
    size, count = shape
    wanted = np.zeros((len(numbers), size), dtype=bool)
    for row, seed in zip(wanted, numbers, strict=True):
        row[permutation(seed, size)[size - count :] if last else permutation(seed, size)[:count]] = True
    for found in on_every_path(lambda: kernel.green_rows(seeds(*numbers), size, count, last=last)):
        assert found.dtype == np.bool_
        assert np.array_equal(found, wanted)


@settings(max_examples=80, deadline=None)
@given(lists(), st.lists(SEEDS, min_size=1, max_size=4), st.data(), st.booleans())
def test_membership_agrees_with_the_rows(
    shape: tuple[int, int], numbers: list[int], data: st.DataObject, last: bool
) -> None:
    """Few tokens a seed are followed, many are looked up; seeds come in any order and repeat."""
    size, count = shape
    asked = data.draw(st.integers(0, 120))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = random.integers(0, len(numbers), asked)
    targets = random.integers(0, size, asked)
    wanted = kernel.green_rows(seeds(*numbers), size, count, last=last)[rows, targets]
    for found in on_every_path(lambda: kernel.member(seeds(*numbers)[rows], targets, size, count, last=last)):
        assert found.dtype == np.bool_
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("size", [50257, 50272, 151936])
def test_the_vocabularies_of_models(size: int) -> None:
    number, count = 15485863 * 41, size // 4
    wanted = permutation(number, size)[:count]
    green = np.zeros(size, dtype=bool)
    green[wanted] = True
    targets = np.random.default_rng(0).integers(0, size, 20)
    for path in PATHS:
        with kernel.using(path):
            assert np.array_equal(kernel.green_lists(seeds(number), size, count)[0], wanted)
            assert np.array_equal(kernel.green_rows(seeds(number), size, count)[0], green)
            for target in targets:
                assert kernel.member(seeds(number), np.array([target]), size, count)[0] == green[target]


def test_the_whole_permutation() -> None:
    for path in PATHS:
        with kernel.using(path):
            assert kernel.randperm(5, 1).tolist() == [0]
            found = kernel.randperm(2**40 + 3, 100_003)
            assert found.dtype == np.int64
            assert np.array_equal(found, permutation(2**40 + 3, 100_003))


def test_the_largest_vocabulary() -> None:
    """Remainders stay exact up to the last size that torch shuffles with 32-bit words."""
    size = checks.MOST_SHUFFLED
    numbers = seeds(1, 2, 3)
    listed = on_every_path(lambda: _prefix(numbers, size, 2000))
    assert all(np.array_equal(listed[0], other) for other in listed)
    with pytest.raises(SettingError, match="vocab_size"):
        kernel.green_lists(numbers, size + 1, 5)


def _prefix(numbers: np.ndarray, size: int, count: int) -> np.ndarray:
    targets = np.arange(len(numbers)) * 7919
    return kernel.member(numbers, targets, size, count)


@settings(max_examples=60, deadline=None)
@given(lists(), st.lists(SEEDS, min_size=1, max_size=5), st.booleans(), st.integers(-5, 4000), st.floats(-9, 9))
def test_scores_of_green_tokens_rise(
    shape: tuple[int, int], numbers: list[int], last: bool, shift: int, delta: float
) -> None:
    size, count = shape
    scores = np.random.default_rng(size).standard_normal((len(numbers), size)).astype(np.float32)
    scores[:, 0], scores[:, -1] = -np.inf, -0.0
    green = np.roll(kernel.green_rows(seeds(*numbers), size, count, last=last), -shift, axis=1)
    wanted = np.where(green, scores + np.float32(delta), scores)

    def marked() -> np.ndarray:
        changed = scores.copy()
        kernel.add_to_green(changed, seeds(*numbers), size, count, delta, last=last, shift=shift)
        return changed

    for found in on_every_path(marked):
        assert np.array_equal(found.view(np.int32), wanted.view(np.int32))  # -0.0 stays -0.0


@pytest.mark.usefixtures("two_threads")
def test_threads_change_nothing() -> None:
    random = np.random.default_rng(1)
    numbers = random.integers(0, 2**64, 37, dtype=np.uint64)
    repeated = numbers[random.integers(0, 37, 500)]
    targets = random.integers(0, 2000, 500)
    scores = np.zeros((37, 2000), dtype=np.float32)

    def everything() -> list[np.ndarray]:
        changed = scores.copy()
        kernel.add_to_green(changed, numbers, 2000, 500, 2.0, shift=3)
        return [
            changed,
            kernel.green_lists(numbers, 2000, 500),
            kernel.green_rows(numbers, 2000, 500, last=True),
            kernel.member(repeated, targets, 2000, 500),
        ]

    assert kernel.threads() == 2
    split = everything()
    kernel.set_threads(1)
    assert all(np.array_equal(a, b) for a, b in zip(split, everything(), strict=True))


def test_nothing_to_do() -> None:
    none = seeds()
    for path in PATHS:
        with kernel.using(path):
            assert kernel.green_lists(none, 10, 3).shape == (0, 3)
            assert kernel.green_lists(seeds(1), 10, 0).shape == (1, 0)
            assert kernel.green_rows(none, 10, 3).shape == (0, 10)
            assert kernel.member(none, np.array([], dtype=np.int64), 10, 3).shape == (0,)


@pytest.mark.parametrize(("size", "count"), [(0, 0), (-1, 0), (10, 11), (10, -1), (2**31, 5), (10.0, 5), (10, None)])
def test_numbers_out_of_range(size: int, count: int) -> None:
    with pytest.raises(SettingError, match="allowed: a whole number from"):
        kernel.green_rows(seeds(1), size, count)


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"targets\[1\] is 10; allowed: ids from 0 to 9"):
        kernel.member(seeds(1, 1), np.array([9, 10]), 10, 3)
    with pytest.raises(DataError, match=r"targets\[0\] is -1"):
        kernel.member(seeds(1), np.array([-1]), 10, 3)
    with pytest.raises(DataError, match=r"targets has shape \(1,\); needed: \[2\]"):
        kernel.member(seeds(1, 1), np.array([1]), 10, 3)
    with pytest.raises(DataError, match="seeds holds float64"):
        kernel.green_rows(np.array([1.0]), 10, 3)
    with pytest.raises(DataError, match="seeds has shape"):
        kernel.green_rows(np.array(1), 10, 3)
    for scores in (np.zeros((1, 10)), np.zeros((1, 9), np.float32), np.zeros((2, 10), np.float32), [[0.0] * 10]):
        with pytest.raises(DataError, match=r"needed: a float32 array \[1, 10\]"):
            kernel.add_to_green(scores, seeds(1), 10, 3, 2.0)
    for scores in (np.zeros((10, 1), np.float32).T.repeat(2, 1)[:, ::2], np.broadcast_to(np.float32(0), (1, 10))):
        with pytest.raises(DataError, match="not contiguous, or cannot be written"):
            kernel.add_to_green(scores, seeds(1), 10, 3, 2.0)
