"""Green lists, bit for bit as `torch.randperm` makes them on a CPU.

torch seeds MT19937 with the low 32 bits of a seed and shuffles forwards: for i = 0 … V - 2 it swaps entry i with
entry j = i + (u_i mod (V - i)). So the first G entries need G draws, and whether one token is among them needs no
array at all: it is enough to follow the token's position.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from . import checks, plain
from .backends import native, over_rows

CACHED = 1 << 20
"""Reciprocals of longer lists are not kept."""
SEEDS = 16
"""Seeds that are worth a thread of their own, where a seed has few tokens."""


def green_lists(seeds: np.ndarray, vocab_size: int, count: int) -> np.ndarray:
    """The first ``count`` entries of ``torch.randperm(vocab_size)`` for every seed, in torch's order.

    Args:
        seeds: uint64 [n]; the low 32 bits act.
        vocab_size: V, 1 to 214,748,363 (beyond, torch draws other words).
        count: G, 0 to V.

    Returns:
        int32 [n, count]. Cost: O(n (V + G)); a list of a quarter of V = 50,272 takes some 20 microseconds in C.

    Raises:
        SettingError: a number is outside its range. DataError: seeds are no vector of whole numbers.

    >>> import numpy as np
    >>> green_lists(np.array([42], dtype=np.uint64), 10, 4).tolist()
    [[2, 6, 1, 8]]
    """
    seeds, vocab_size, count = _checked(seeds, vocab_size, count)
    out = np.empty((len(seeds), count), dtype=np.int32)
    if (run := native()) is None:
        plain.green_lists(seeds, vocab_size, count, out)
        return out
    inverse = reciprocals(vocab_size, count)
    over_rows(lambda a, b: run("green_lists", seeds[a:b], b - a, inverse, vocab_size, count, out[a:b]), len(seeds))
    return out


def green_rows(seeds: np.ndarray, vocab_size: int, count: int, last: bool = False) -> np.ndarray:
    """Which tokens are among the first ``count`` entries of the permutation, as a mask over the vocabulary.

    Args:
        seeds: uint64 [n]; the low 32 bits act.
        vocab_size: V, 1 to 214,748,363.
        count: G, 0 to V.
        last: take the last ``count`` entries instead (legacy ``select_green_tokens=False``).

    Returns:
        bool [n, V].

    >>> import numpy as np
    >>> green_rows(np.array([42], dtype=np.uint64), 10, 4).nonzero()[1].tolist()
    [1, 2, 6, 8]
    """
    seeds, vocab_size, count = _checked(seeds, vocab_size, count)
    out = np.empty((len(seeds), vocab_size), dtype=bool)
    first = vocab_size - count if last else count  # the last entries are what the first of the others leave
    if (run := native()) is None:
        plain.green_rows(seeds, vocab_size, first, last, out)
        return out
    inverse = reciprocals(vocab_size, first)
    over_rows(lambda a, b: run("green_rows", seeds[a:b], b - a, inverse, vocab_size, first, last, out[a:b]), len(seeds))
    return out


def member(seeds: np.ndarray, targets: np.ndarray, vocab_size: int, count: int, last: bool = False) -> np.ndarray:
    """Whether each target is among the first ``count`` entries of the permutation of its seed.

    Equal seeds are worked on together, so that text, in which contexts repeat, costs less than its length.

    Args:
        seeds: uint64 [n]; the low 32 bits act.
        targets: ids, int64 [n], 0 to V - 1.
        vocab_size: V, 1 to 214,748,363.
        count: G, 0 to V.
        last: take the last ``count`` entries instead.

    Returns:
        bool [n]. Cost: at most G draws for each distinct seed.

    Raises:
        DataError: a target is outside the vocabulary, or lengths differ.

    >>> import numpy as np
    >>> member(np.array([42, 42], dtype=np.uint64), np.array([6, 7]), 10, 4).tolist()
    [True, False]
    """
    seeds, vocab_size, count = _checked(seeds, vocab_size, count)
    targets = checks.array("targets", targets, np.int64, (len(seeds),))
    checks.ids("targets", targets, vocab_size)
    order, starts = _by_seed(seeds)
    groups = np.ascontiguousarray(seeds[order[starts[:-1]]])
    tokens = targets[order].astype(np.int32)
    found = np.empty(len(seeds), dtype=bool)
    first = vocab_size - count if last else count
    if (run := native()) is None:
        plain.member(groups, starts, tokens, vocab_size, first, last, found)
    else:
        inverse = reciprocals(vocab_size, first)

        def part(a: int, b: int) -> None:
            run("member", groups[a:b], starts[a : b + 1], b - a, tokens, inverse, vocab_size, first, last, found)

        over_rows(part, len(groups), SEEDS)
    out = np.empty(len(seeds), dtype=bool)
    out[order] = found
    return out


def add_to_green(
    scores: np.ndarray,
    seeds: np.ndarray,
    vocab_size: int,
    count: int,
    delta: float,
    last: bool = False,
    shift: int = 0,
) -> None:
    """Add ``delta`` to the scores of green tokens, in place.

    Args:
        scores: float32 [B, V], contiguous; changed.
        seeds: uint64 [B].
        vocab_size: V, the width of the scores.
        count: G, 0 to V.
        delta: what is added, as float32.
        last: take the last ``count`` entries instead.
        shift: token t is green iff (t + shift) mod V is in the list.

    >>> import numpy as np
    >>> scores = np.zeros((1, 10), dtype=np.float32)
    >>> add_to_green(scores, np.array([42], dtype=np.uint64), 10, 4, 2.0)
    >>> scores[0].tolist()
    [0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 2.0, 0.0]
    """
    seeds, vocab_size, count = _checked(seeds, vocab_size, count)
    scores = checks.scores(scores, len(seeds), vocab_size)
    first, shift = vocab_size - count if last else count, shift % vocab_size
    if (run := native()) is None:
        plain.add_to_green(scores, seeds, first, np.float32(delta), last, shift)
        return
    inverse = reciprocals(vocab_size, first)

    def part(a: int, b: int) -> None:
        run("add_to_green", scores[a:b], seeds[a:b], b - a, inverse, vocab_size, first, last, shift, float(delta))

    over_rows(part, len(seeds))


def randperm(seed: int, n: int) -> np.ndarray:
    """``torch.randperm(n)`` of a CPU generator with that seed, int64 [n].

    >>> randperm(42, 10).tolist()
    [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]
    """
    return green_lists(np.array([int(seed) & 0xFFFFFFFF], dtype=np.uint64), n, n)[0].astype(np.int64)


def reciprocals(vocab_size: int, count: int) -> np.ndarray:
    """floor((2^32 - 1) / (V - i)) for i below ``count``: the C kernel takes remainders by them, exactly."""
    return _cached(vocab_size, count) if count <= CACHED else _reciprocals(vocab_size, count)


def _reciprocals(vocab_size: int, count: int) -> np.ndarray:
    divisors = np.arange(vocab_size, vocab_size - count, -1, dtype=np.uint32)
    return np.uint32(0xFFFFFFFF) // divisors


_cached = lru_cache(maxsize=8)(_reciprocals)


def _by_seed(seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order in which equal seeds lie together, and where each group of them starts; the end is the last one."""
    order = np.argsort(seeds, kind="stable")
    ordered = seeds[order]
    edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return order, np.concatenate([[0], edges, [len(seeds)]] if len(seeds) else [[0]]).astype(np.int64)


def _checked(seeds: np.ndarray, vocab_size: int, count: int) -> tuple[np.ndarray, int, int]:
    low = (checks.array("seeds", seeds, np.uint64, (None,)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    vocab_size = checks.whole("vocab_size", vocab_size, 1, checks.MOST_SHUFFLED)
    return low, vocab_size, checks.whole("count", count, 0, vocab_size)
