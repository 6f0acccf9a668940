"""WinMax: windows against all windows, positions in the text, and p-values against enumeration and simulation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaincc

from assay.core.errors import SettingError
from assay.watermark import Watermark, kernel, maxima, windows
from assay.watermark.detection import detect
from assay.watermark.maxima import bounds_of_maximum, tail_of_maximum
from assay.watermark.schemes.base import BERNOULLI, EXPONENTIAL
from assay.watermark.windows import detect_windows, window_sizes

from .toys import Toy, marked, matches, not_above


def best_by_hand(scheme: Any, ids: list[int], sizes: list[int]) -> tuple[float, int, int]:
    """The best of all windows, and the token positions it spans: largest z, or smallest tail of its own."""
    plain = detect(scheme, ids)
    places = np.flatnonzero(plain.counted)
    values = plain.values[places]
    gamma, found = scheme.gamma, []
    for size in sizes:
        for start in range(len(values) - size + 1):
            total = values[start : start + size].sum()
            if scheme.null == EXPONENTIAL:
                z = (total - size) / math.sqrt(size)
                rank = -math.log(gammaincc(size, total))
            else:
                z = rank = (total - gamma * size) / math.sqrt(size * gamma * (1 - gamma))
            first, last = places[start], places[start + size - 1]
            found.append((round(rank, 9), size, -start, z, first + scheme.preceding, last + scheme.preceding + 1))
    *_, z, start, end = max(found)
    return z, int(start), int(end)


@given(
    st.lists(st.integers(0, 9), min_size=4, max_size=40), st.sampled_from([BERNOULLI, EXPONENTIAL]), st.integers(1, 3)
)
@settings(max_examples=60, deadline=None)
def test_the_best_window_is_the_best_of_all(ids: list[int], null: str, preceding: int) -> None:
    scheme = Toy(vocab_size=10, preceding=preceding, null=null)
    found = detect_windows(scheme, ids)
    z, start, end = best_by_hand(scheme, ids, list(range(1, found.length + 1)))
    assert found.z == pytest.approx(z, abs=1e-8)
    assert (found.start, found.end) == (start, end)
    inside = found.counted.copy()
    inside[: start - preceding] = inside[end - preceding :] = False
    assert found.scored == inside.sum()
    assert found.green == (inside & found.mask).sum()
    few = detect_windows(scheme, ids, [2, 5])
    sizes = sorted({min(2, found.length), min(5, found.length)})
    assert few.z == pytest.approx(best_by_hand(scheme, ids, sizes)[0], abs=1e-8)
    assert few.sizes == "2,5"


def test_the_marked_part_of_a_text_is_found() -> None:
    scheme = Toy(vocab_size=5000)
    rng = np.random.default_rng(0)
    inside = marked(scheme, 80, seed=1)
    ids = [*rng.integers(0, 5000, 400).tolist(), *inside, *rng.integers(0, 5000, 400).tolist()]
    for name in ("max", "geometric", "20,40,80"):
        found = detect_windows(scheme, ids, name)
        assert abs(found.start - 400) <= 12, name
        assert abs(found.end - 480) <= 12, name
        assert found.p_value < 1e-9
        assert found.verdict() == "marked"
        assert found.sizes == name
        assert found.p_value < detect(scheme, ids).p_value
    assert found.as_dict()["start"] == found.start
    assert "start=" in repr(found)


def test_the_whole_text_is_a_window_too() -> None:
    scheme = Toy(vocab_size=5000)
    ids = marked(scheme, 120, share=1.0)
    found, plain = detect_windows(scheme, ids), detect(scheme, ids)
    assert found.z >= plain.z
    assert found.scored == plain.scored
    assert (found.start, found.end) == (1, 120)


@pytest.mark.parametrize("ids", [[], [1], [1, 2], [1, 2, 3]])
@pytest.mark.parametrize("null", [BERNOULLI, EXPONENTIAL])
@pytest.mark.parametrize("sizes", ["max", "geometric", "20,50", 1])
def test_texts_shorter_than_the_windows(ids: list[int], null: str, sizes: Any) -> None:
    found = detect_windows(Toy(null=null), ids, sizes)
    assert found.length == max(0, len(ids) - 1)
    assert 0 <= found.p_value <= 1
    if not found.length:
        assert (found.z, found.p_value, found.start, found.end, found.scored) == (0.0, 1.0, 0, 0, 0)
    assert found.verdict() == "not enough tokens"
    assert repr(found)


@pytest.mark.parametrize("sizes", ["", "a", "0", "5,-1", [], [2.5], [None], "max,20", -3, 0, {}])
def test_sizes_that_are_none(sizes: Any) -> None:
    with pytest.raises(SettingError, match="sizes are"):
        detect_windows(Toy(), [1, 2, 3], sizes)


def test_sizes_are_clipped_to_the_text_and_sorted() -> None:
    assert window_sizes("50, 20,20", 30)[1].tolist() == [20, 30]
    assert window_sizes(np.int64(7), 30)[1].tolist() == [7]
    assert window_sizes("max", 4)[1].tolist() == [1, 2, 3, 4]
    name, sizes = window_sizes("max", 100_000)
    assert name == "geometric"
    assert sizes[0] == 1
    assert sizes[-1] == 100_000
    assert len(sizes) < 150
    assert (sizes[1:] > sizes[:-1]).all()
    assert windows.LONGEST[EXPONENTIAL] < windows.LONGEST[BERNOULLI]


def exact_tail(n: int, gamma: float, sizes: list[int], z: float) -> float:
    """By looking at every text of n hits and misses."""
    total = 0.0
    for hits in itertools.product((0, 1), repeat=n):
        sums = np.concatenate([[0], np.cumsum(hits)])
        best = max(((sums[w:] - sums[:-w]).max() - gamma * w) / math.sqrt(w * gamma * (1 - gamma)) for w in sizes)
        if best >= z - 1e-9:
            total += gamma ** sum(hits) * (1 - gamma) ** (n - sum(hits))
    return total


@pytest.mark.parametrize(("n", "gamma", "sizes"), [(8, 0.25, range(1, 9)), (9, 0.5, range(1, 10)), (9, 0.1, [2, 5])])
def test_the_calibrated_p_value_is_the_exact_one(n: int, gamma: float, sizes: Any) -> None:
    widths = np.array(sizes, dtype=np.int64)
    for z in (-0.5, 0.4, 1.0, 1.7, 2.2, 2.6, 3.0, 4.5):
        exact = exact_tail(n, gamma, list(sizes), z)
        found = tail_of_maximum(z, n, widths, BERNOULLI, gamma)
        assert math.exp(found.log_p) == pytest.approx(exact, rel=max(0.01, 5 * found.error), abs=1e-12), z
        assert found.error <= 0.2 if exact else True
        lower, upper = bounds_of_maximum(z, n, widths, BERNOULLI, gamma)
        assert math.exp(lower) <= exact * (1 + 1e-9)
        assert exact <= math.exp(upper) * (1 + 1e-9)


@pytest.mark.parametrize(("gamma", "seed"), [(0.25, 0), (0.5, 1), (0.1, 2)])
def test_the_calibrated_p_value_is_that_of_simulated_texts(gamma: float, seed: int) -> None:
    n, count = 60, 8000
    widths = np.arange(1, n + 1)
    hits = (np.random.default_rng(seed).random((count, n)) < gamma).astype(np.uint8)
    maxima_seen = np.sort([kernel.best_window(row, gamma, widths)[0] for row in hits])
    for share in (0.5, 0.1, 0.01, 0.002):
        z = float(maxima_seen[int((1 - share) * count)])
        seen = int((maxima_seen >= z - 1e-9).sum())
        found = tail_of_maximum(z, n, widths, BERNOULLI, gamma)
        p = math.exp(found.log_p)
        assert abs(seen / count - p) < 5 * math.sqrt(p / count + (found.error * p) ** 2), (share, seen / count, p)
        assert found.error <= maxima.PRECISION


def test_p_values_of_the_best_window_are_calibrated() -> None:
    scheme = Toy(vocab_size=100_000)
    docs = np.random.default_rng(3).integers(0, 100_000, (1500, 41))
    found = [detect_windows(scheme, doc) for doc in docs]
    not_above([one.p_value for one in found])
    normal = np.mean([one.p_value_normal <= 1e-3 for one in found])
    assert normal > 0.01  # the published p-value is none
    verdicts = [one.verdict(0.05) for one in [detect_windows(scheme, doc) for doc in docs[:300]]]
    assert [verdict == "marked" for verdict in verdicts] == [one.p_value <= 0.05 for one in found[:300]]


def test_p_values_of_the_best_window_of_exponential_scores_are_uniform() -> None:
    scheme = Toy(vocab_size=100_000, null=EXPONENTIAL)
    docs = np.random.default_rng(4).integers(0, 100_000, (250, 31))
    matches([detect_windows(scheme, doc).p_value for doc in docs], (0.5, 0.2, 0.05), slack=0.1)
    found = detect_windows(scheme, [*docs[0].tolist(), *marked(scheme, 25, share=0.8), *docs[1].tolist()])
    assert found.p_value < 1e-6
    assert abs(found.start - 32) < 8
    assert abs(found.end - 56) < 8


def test_tiny_p_values_are_resolved_and_lie_between_their_bounds() -> None:
    levels = {BERNOULLI: (5.0, 7.0, 9.0, 11.0, 13.0, 15.0), EXPONENTIAL: (-8.0, -20.0, -60.0, -200.0, -900.0)}
    for kind in levels:
        logs = []
        for level in levels[kind]:
            found = tail_of_maximum(level, 120, np.arange(1, 121), kind, 0.25)
            assert found.lower <= found.log_p <= found.upper
            assert found.error < 0.1
            logs.append(found.log_p)
        assert all(b < a - 2 for a, b in itertools.pairwise(logs))
        assert logs[-1] < -50
    assert tail_of_maximum(30.0, 120, np.arange(1, 121), BERNOULLI, 0.25).log_p == -math.inf


def test_p_values_depend_on_the_arguments_alone() -> None:
    sizes = np.arange(1, 51)
    first = tail_of_maximum(4.2, 50, sizes, BERNOULLI, 0.25)
    tail_of_maximum(4.7, 50, sizes, BERNOULLI, 0.25)
    maxima._tail.cache_clear()
    with kernel.using("numpy"):
        assert tail_of_maximum(4.2, 50, sizes, BERNOULLI, 0.25) == first


def test_a_verdict_needs_no_simulation_where_bounds_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = Toy(vocab_size=5000)
    monkeypatch.setattr(windows, "tail_of_maximum", None)
    assert detect_windows(scheme, marked(scheme, 200)).verdict() == "marked"
    assert detect_windows(scheme, np.random.default_rng(0).integers(0, 5000, 300)).verdict(1e-6) == "not marked"


def test_windows_of_real_schemes() -> None:
    for name in ("philox", "gumbel", "unigram", "simple_1"):
        mark = Watermark(name, vocab_size=200, key=5)
        found = mark.detect_windows(np.random.default_rng(0).integers(0, 200, 60))
        assert 0 < found.p_value <= 1
        assert 0 <= found.start < found.end <= 60
