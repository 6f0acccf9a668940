from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError, SettingError
from assay.watermark import kernel
from assay.watermark.kernel import plain

from .kernels import PATHS, on_every_path


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 300), st.integers(0, 4), st.integers(1, 30), st.integers(0, 2**32))
def test_first_appearances(n: int, width: int, variety: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.integers(-variety, variety, (n, width)) * random.choice([1, 2**40])
    documents = np.sort(random.integers(-3, 4, n))
    seen: set[tuple[int, ...]] = set()
    wanted = []
    for document, row in zip(documents.tolist(), rows.tolist(), strict=True):
        wanted.append((document, *row) not in seen)
        seen.add((document, *row))
    for found in on_every_path(lambda: kernel.first_seen(rows, documents)):
        assert found.dtype == np.bool_
        assert found.tolist() == wanted


def test_a_text_of_one_word() -> None:
    """Long runs of one n-gram and long texts without a repetition: both ends of a hash table."""
    same, other = np.zeros((50_000, 2), np.int64), np.arange(50_000)[:, None] * 2**32
    for path in PATHS:
        with kernel.using(path):
            assert kernel.first_seen(same, np.zeros(50_000, np.int64)).nonzero()[0].tolist() == [0]
            assert kernel.first_seen(other, np.zeros(50_000, np.int64)).all()


def test_rows_that_share_a_key_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "mixed", lambda columns, salt: np.zeros(len(columns[0]), np.uint64))
    with kernel.using("numpy"):
        rows, documents = np.array([[1, 2], [2, 1], [1, 2], [2, 1]]), np.array([0, 0, 0, 1])
        assert kernel.first_seen(rows, documents).tolist() == [True, True, False, True]


def test_documents_must_follow_one_another() -> None:
    with pytest.raises(DataError, match="document numbers decrease"):
        kernel.first_seen(np.zeros((2, 1), np.int64), np.array([1, 0]))
    with pytest.raises(DataError, match="documents has shape"):
        kernel.first_seen(np.zeros((2, 1), np.int64), np.array([1]))


HITS = st.lists(st.integers(0, 1), max_size=40)
SIZES = st.sets(st.integers(1, 45), max_size=20).map(sorted)


def slow_best(hits: list[int], gamma: float, sizes: list[int]) -> tuple[float, int, int]:
    best = (-math.inf, 0, 0)
    for size in sizes:
        for start in range(len(hits) - size + 1):
            z = (sum(hits[start : start + size]) - gamma * size) / math.sqrt(size * gamma * (1 - gamma))
            if z > best[0] or (z == best[0] and size > best[2]):
                best = (z, start, size)
    return best if best[2] else (0.0, 0, 0)


@settings(max_examples=150, deadline=None)
@given(HITS, st.sampled_from([0.1, 0.25, 0.5, 0.9]), SIZES)
def test_the_best_window(hits: list[int], gamma: float, sizes: list[int]) -> None:
    given = np.array(hits, dtype=np.uint8)
    for found in on_every_path(lambda: kernel.best_window(given, gamma, np.array(sizes, dtype=np.int64))):
        assert found == slow_best(hits, gamma, sizes)


def test_a_long_text_has_the_same_best_window_on_every_path() -> None:
    hits = (np.random.default_rng(0).random(3000) < 0.25).astype(np.uint8)
    hits[1000:1100] |= (np.random.default_rng(1).random(100) < 0.5).astype(np.uint8)
    found = on_every_path(lambda: kernel.best_window(hits, 0.25, np.arange(1, 3001)))
    assert all(one == found[0] for one in found)
    assert found[0][0] > 4


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 4), st.integers(0, 40), SIZES, st.integers(0, 2**32))
def test_windows_that_hold_enough(rows: int, n: int, sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    hits = (random.random((rows, n)) < 0.4).astype(np.uint8)
    least = random.integers(-1, 30, len(sizes))
    wanted = [
        sum(
            int(row[start : start + size].sum()) >= enough
            for size, enough in zip(sizes, least.tolist(), strict=True)
            for start in range(n - size + 1)
        )
        for row in hits
    ]
    for found in on_every_path(lambda: kernel.count_windows(hits, np.array(sizes, dtype=np.int64), least)):
        assert found.dtype == np.int64
        assert found.tolist() == wanted


def test_windows_are_counted_the_same_by_two_threads() -> None:
    hits = (np.random.default_rng(0).random((301, 100)) < 0.3).astype(np.uint8)
    sizes = np.arange(1, 101)
    alone = kernel.count_windows(hits, sizes, sizes // 2)
    kernel.set_threads(2)
    try:
        assert np.array_equal(kernel.count_windows(hits, sizes, sizes // 2), alone)
    finally:
        kernel.set_threads(1)


def test_what_windows_do_not_take() -> None:
    hits = np.array([0, 1], dtype=np.uint8)
    with pytest.raises(SettingError, match="ascend"):
        kernel.best_window(hits, 0.5, np.array([2, 1]))
    with pytest.raises(SettingError, match="ascend"):
        kernel.count_windows(hits[None], np.array([0]), np.array([1]))
    with pytest.raises(SettingError, match=r"gamma is 1\.0"):
        kernel.best_window(hits, 1.0, np.array([1]))
    with pytest.raises(DataError, match="hits hold 2"):
        kernel.best_window(np.array([2]), 0.5, np.array([1]))
