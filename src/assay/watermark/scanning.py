"""Marked passages in a large corpus: windows of a few sizes over every text, corrected for all windows of the corpus.

A window of w n-grams with g green ones has the exact tail P(Binomial(w, γ) >= g). With N windows tested in the whole
corpus, a window is reported whose N · tail is at most the wanted rate (Bonferroni), so that the chance of a single
false passage in all of the corpus is at most that rate. Windows overlap, so the correction is stricter than it need
be, by about one decimal; it needs no simulation and keeps its meaning for any corpus.
Exponential scores count as hits above their median, and tokens drawn from one list as if they were put back, which is
stricter too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import SettingError
from .detection import score_texts
from .kernel import best_window, count_windows
from .statistics import critical_count, log_binomial_tail

if TYPE_CHECKING:
    from .schemes.base import Scheme

SIZES = (25, 50, 100, 200, 400, 800)
EXACT = 4096
_LN10 = math.log(10.0)


@dataclass(frozen=True)
class Passage:
    """A marked passage of a text.

    Args:
        start: its first token.
        end: the token after its last.
        green: hits among its n-grams.
        scored: its n-grams that counted.
        z: of the passage.
        log10_tail: of the best window of a tested size within it; not corrected for anything.
    """

    start: int
    end: int
    green: int
    scored: int
    z: float
    log10_tail: float


@dataclass
class Scanned:
    """What was found in one text, and how much was looked at.

    Args:
        tokens: of the text.
        windows: that were tested.
        passages: candidates: their tail is at most the rate over the windows of this text.
    """

    tokens: int
    windows: int
    passages: list[Passage] = field(default_factory=list)


def scan(scheme: Scheme, texts: Sequence[np.ndarray], *, fpr: float, sizes: Sequence[int] = SIZES) -> list[Scanned]:
    """Look for marked passages in texts.

    Besides the given sizes, every text is tested as a whole. The passages returned are candidates: keep those whose
    ``log10_tail + log10(windows of the corpus)`` is at most ``log10(fpr)``.

    Args:
        scheme: the keyed rule.
        texts: ids, int64 [T] each, inside the vocabulary.
        fpr: chance of a false passage in the corpus, in (0, 1).
        sizes: n-grams of the windows, ascending.

    Returns:
        One for each text.

    Raises:
        DataError: ids outside the vocabulary. SettingError: rate or sizes that are not allowed.

    Cost: one pass, O(T · sizes).
    """
    if not 0 < fpr < 1:
        raise SettingError(f"fpr is {fpr:g}; allowed: above 0 and below 1.")
    wanted = np.unique(np.asarray(sizes, dtype=np.int64))
    if not len(wanted) or wanted[0] < 1:
        raise SettingError("Window sizes are whole numbers from 1 up, at least one.")
    made = score_texts(scheme, list(texts), independent=True)
    gamma, found = float(scheme.gamma), []
    for number, text in enumerate(texts):
        part = slice(int(made.ngrams.bounds[number]), int(made.ngrams.bounds[number + 1]))
        counted = made.counted[part]
        hits = made.hits[part][counted].astype(np.uint8)
        found.append((Scanned(len(text), windows_of(len(hits), wanted)), hits, counted))
    lengths = np.array([len(hits) for _, hits, _ in found], dtype=np.int64)
    green = np.array([int(hits.sum()) for _, hits, _ in found], dtype=np.int64)
    whole = log_binomial_tail(green, lengths, gamma)
    for (scanned, hits, counted), tail in zip(found, whole.tolist(), strict=True):
        if not len(hits):
            continue
        bound = math.log(fpr) - math.log(scanned.windows)
        fitting = wanted[wanted < len(hits)]
        some = tail <= bound
        if not some and len(fitting):
            least = _least(tuple(fitting.tolist()), gamma, fpr, scanned.windows.bit_length() - 1)
            some = bool(count_windows(hits[None], fitting, least)[0])
        if some:
            places = np.flatnonzero(counted) + scheme.preceding
            scanned.passages = sorted(
                _passages(hits, places, gamma, wanted, bound, tail), key=lambda passage: passage.start
            )
    return [scanned for scanned, _, _ in found]


def windows_of(length: int, sizes: Sequence[int] | np.ndarray = SIZES) -> int:
    """How many windows ``scan`` tests in a text of ``length`` n-grams that count.

    >>> windows_of(100, [25, 50]), windows_of(10, [25, 50]), windows_of(0, [25])
    (128, 1, 0)
    """
    return sum(length - int(size) + 1 for size in sizes if size < length) + 1 if length else 0


@functools.lru_cache(maxsize=512)
def _least(sizes: tuple[int, ...], gamma: float, fpr: float, doublings: int) -> np.ndarray:
    """Hits a window of each size must have to be looked at; a little fewer than it needs in the end."""
    return critical_count(np.array(sizes), gamma, fpr / 2.0**doublings)


def _passages(
    hits: np.ndarray, places: np.ndarray, gamma: float, sizes: np.ndarray, bound: float, whole: float
) -> Iterator[Passage]:
    """The best stretch first, then what lies before and after it."""
    total = np.concatenate([[0], np.cumsum(hits, dtype=np.int64)])
    waiting = [(0, len(hits))]
    while waiting:
        low, high = waiting.pop()
        tails, stretch = _stretch(total, low, high, gamma, sizes, bound)
        if (low, high) == (0, len(hits)) and whole <= min(bound, tails):
            tails, stretch = whole, (low, high)
        if stretch is None:
            continue
        begin, end = stretch
        every = np.arange(1, end - begin + 1)
        if end - begin > EXACT:
            every = np.unique(np.geomspace(1, end - begin, 200).astype(np.int64))
        z, start, size = best_window(hits[begin:end], gamma, every)
        begin, end = begin + start, begin + start + size
        green = int(total[end] - total[begin])
        yield Passage(int(places[begin]), int(places[end - 1]) + 1, green, size, z, tails / _LN10)
        waiting += [(low, begin), (end, high)]


def _stretch(
    total: np.ndarray, low: int, high: int, gamma: float, sizes: np.ndarray, bound: float
) -> tuple[float, tuple[int, int] | None]:
    """Tail of the best window between two n-grams, and the run of windows that pass around it."""
    passing = np.zeros(high - low + 1, dtype=np.int64)
    best, place = math.inf, -1
    for size in sizes[sizes <= high - low].tolist():
        counts = total[low + size : high + 1] - total[low : high - size + 1]
        least = int(critical_count(size, gamma, math.exp(bound)))
        starts = np.flatnonzero(counts >= least)
        if not len(starts):
            continue
        np.add.at(passing, starts, 1)
        np.add.at(passing, starts + size, -1)
        top = int(starts[np.argmax(counts[starts])])
        tail = float(log_binomial_tail(counts[top], size, gamma))
        if tail < best:
            best, place = tail, top
    if place < 0:
        return math.inf, None
    covered = np.cumsum(passing[:-1]) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], covered, [False]]).astype(np.int8)))
    run = int(np.searchsorted(edges, place, side="right")) - 1
    return best, (low + int(edges[run]), low + int(edges[run + 1]))
