"""Scanning finds planted passages where they are, counts its windows, and keeps its promise on unmarked text."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from assay.core.errors import DataError, SettingError
from assay.watermark import Watermark
from assay.watermark.scanning import SIZES, scan, windows_of

from .tiny import marked_ids

V = 1000
MARK = Watermark("philox", vocab_size=V, key=31)


def blind(n: int, seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, n)


def slow_candidate(text: np.ndarray, fpr: float, sizes: tuple[int, ...]) -> tuple[int, float]:
    """Windows of a text, and the smallest tail among them."""
    found = MARK.detect(text)
    hits = found.mask[found.counted]
    n = len(hits)
    tails = [
        binom.logsf(hits[a : a + w].sum() - 1, w, MARK.settings.gamma) / math.log(10)
        for w in {*(size for size in sizes if size < n), n} - {0}
        for a in range(n - w + 1)
    ]
    return len(tails), min(tails, default=0.0)


@settings(max_examples=40)
@given(
    length=st.integers(0, 150),
    share=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    sizes=st.sampled_from([(10, 20), (25,), (60, 7), SIZES]),
    seed=st.integers(0, 99),
)
def test_candidates_are_those_of_the_definition(length: int, share: float, sizes: tuple[int, ...], seed: int) -> None:
    text = np.array(marked_ids(MARK, length, share=share, seed=seed), dtype=np.int64)
    (found,) = scan(MARK.scheme, [text], fpr=0.01, sizes=sizes)
    count, tail = slow_candidate(text, 0.01, sizes)
    assert found.windows == count
    assert found.tokens == length
    if count and abs(tail + math.log10(count) + 2) > 1e-6:
        assert bool(found.passages) == (tail + math.log10(count) <= -2)
    if found.passages:
        assert min(passage.log10_tail for passage in found.passages) == pytest.approx(tail, rel=1e-9)


def test_planted_passages_are_found_where_they_are() -> None:
    planted = [(700, 150), (1500, 60), (2500, 1300), (8000, 300)]
    text = blind(9000)
    for seed, (start, length) in enumerate(planted):
        text[start : start + length] = marked_ids(MARK, length, share=0.8, seed=seed)
    found, other = scan(MARK.scheme, [text, blind(5000, 1)], fpr=1e-3)
    assert other.passages == []
    assert len(found.passages) == len(planted)
    for passage, (start, length) in zip(found.passages, planted, strict=True):
        assert abs(passage.start - start) < 20
        assert abs(passage.end - start - length) < 20
        assert passage.green / passage.scored > 0.7
        assert passage.z > 8
        whole = MARK.detect(text)
        inside = slice(passage.start - whole.offset, passage.end - whole.offset)
        assert passage.green == whole.mask[inside].sum()
        assert passage.scored == whole.counted[inside].sum()
        assert whole.mask[inside][[0, -1]].all(), "a passage begins and ends with a hit"


def test_results_do_not_depend_on_what_else_is_scanned() -> None:
    texts = [np.array(marked_ids(MARK, n, seed=n)) for n in (30, 200, 90)]
    together = scan(MARK.scheme, texts, fpr=1e-3)
    assert together == [scan(MARK.scheme, [text], fpr=1e-3)[0] for text in texts]


@pytest.mark.parametrize("name", ["philox", "simple_1", "unigram", "gumbel", "hf-selfhash"])
def test_a_corpus_without_the_mark_yields_nothing(name: str) -> None:
    rng = np.random.default_rng(5)
    mark = Watermark(name, vocab_size=V, key=31)
    alarms = 0
    for _ in range(25):
        corpus = [(rng.zipf(1.3, 200) % V).astype(np.int64) for _ in range(20)]
        found = scan(mark.scheme, corpus, fpr=0.05, sizes=(25, 50, 100))
        bound = math.log10(0.05 / sum(one.windows for one in found))
        alarms += any(passage.log10_tail <= bound for one in found for passage in one.passages)
    assert alarms <= 4


def test_repeated_text_is_no_evidence() -> None:
    again = np.tile(np.array(marked_ids(MARK, 12, share=0.5)), 200)
    assert MARK.detect(again, unique_ngrams=False).p_value < 1e-9
    (found,) = scan(MARK.scheme, [again], fpr=1e-3)
    assert found.passages == []


def test_empty_and_refused() -> None:
    assert scan(MARK.scheme, [], fpr=0.1) == []
    assert [one.windows for one in scan(MARK.scheme, [blind(0), blind(4), blind(5)], fpr=0.1)] == [0, 0, 1]
    assert windows_of(1000, SIZES) == sum(1001 - w for w in SIZES) + 1
    with pytest.raises(SettingError, match="fpr"):
        scan(MARK.scheme, [], fpr=0.0)
    with pytest.raises(SettingError, match="sizes"):
        scan(MARK.scheme, [], fpr=0.1, sizes=[])
    with pytest.raises(DataError, match="outside"):
        scan(MARK.scheme, [np.array([V])], fpr=0.1)
