"""N-grams of many texts at once, against one text and one n-gram at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError, SettingError
from assay.watermark.ngrams import as_ids, counted_once, distinct_lookups, ngrams_of

texts = st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=6)


@given(texts, st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_ngrams_are_the_ids_before_a_token_and_the_token(docs: list[list[int]], preceding: int) -> None:
    made = ngrams_of([as_ids(doc) for doc in docs], preceding, 4)
    slow = [
        (number, doc[i : i + preceding], doc[i + preceding])
        for number, doc in enumerate(docs)
        for i in range(len(doc) - preceding)
    ]
    assert [
        (int(t), c.tolist(), int(x)) for t, c, x in zip(made.texts, made.contexts, made.targets, strict=True)
    ] == slow
    assert made.bounds.tolist() == [0, *np.cumsum([max(0, len(doc) - preceding) for doc in docs]).tolist()]
    assert made.contexts.shape == (len(slow), preceding)
    assert len(made) == len(slow)
    assert made.preceding == preceding


@given(texts, st.integers(0, 3), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_each_ngram_counts_once_a_text(docs: list[list[int]], preceding: int, strict: bool, random: object) -> None:
    made = ngrams_of([as_ids(doc) for doc in docs], preceding, 4)
    among = np.random.default_rng(len(made)).random(len(made)) < 0.6
    if strict and not preceding:
        with pytest.raises(SettingError, match="single tokens"):
            counted_once(made, strict=True)
        return
    for allowed in (None, among):
        seen: set[tuple[object, ...]] = set()
        slow = []
        for i in range(len(made)):
            one = (int(made.texts[i]), *made.contexts[i].tolist(), *([] if strict else [int(made.targets[i])]))
            ok = allowed is None or bool(allowed[i])
            slow.append(ok and one not in seen)
            if ok:
                seen.add(one)
        assert counted_once(made, strict=strict, among=allowed).tolist() == slow


def test_a_token_counts_once_in_each_list() -> None:
    made = ngrams_of([np.array([1, 2, 3, 2, 3])], 1, 4)
    every = np.ones(4, dtype=bool)
    assert distinct_lookups(made, np.array([7, 8, 9, 8]), every).tolist() == [True, True, True, False]
    assert distinct_lookups(made, np.array([7, 7, 7, 7]), every).tolist() == [True, True, False, False]
    wide = np.array([7, 8, 7 + 2**32, 9], dtype=np.uint64)
    assert distinct_lookups(made, wide, every).tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    "ids",
    [
        [3, 1],
        (3, 1),
        np.array([3, 1], dtype=np.uint8),
        np.array([[3, 1]]),
        torch.tensor([3, 1]),
        torch.tensor([[3, 1]], dtype=torch.int32),
    ],
)
def test_ids_come_in_many_forms(ids: object) -> None:
    assert as_ids(ids).tolist() == [3, 1]


@pytest.mark.parametrize("ids", [[], (), np.zeros(0), torch.zeros(0, dtype=torch.int64), np.zeros((1, 0), dtype=int)])
def test_empty_texts_are_texts(ids: object) -> None:
    assert as_ids(ids).shape == (0,)
    assert len(ngrams_of([as_ids(ids)], 2, 5)) == 0


@pytest.mark.parametrize(
    "ids",
    [[1.0, 2.0], "text", [True], ["1"], [[1], [2]], [[1], [2, 3]], None, 5, [2**70], [None], {1: 2}, torch.zeros(2)],
)
def test_what_is_no_text_is_refused(ids: object) -> None:
    with pytest.raises(DataError):
        as_ids(ids)


def test_ids_outside_the_vocabulary_are_named() -> None:
    with pytest.raises(DataError, match=r"id 9 at position 2 is outside the vocabulary 0\.\.8"):
        ngrams_of([np.array([1, 2, 9])], 1, 9)
    with pytest.raises(DataError, match="id -1 at position 0 of text 11"):
        ngrams_of([np.array([1, 2]), np.array([-1])], 1, 9, first=10)
    with pytest.raises(DataError, match="position 0 of text 2"):
        ngrams_of([np.array([1, 2]), np.zeros(0, dtype=int), np.array([2**63], dtype=np.uint64)], 1, 9)
