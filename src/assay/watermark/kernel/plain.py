"""The NumPy path: every function of the kernel without a compiler. Arguments were checked by the caller."""

from __future__ import annotations

from typing import Any

import numpy as np

WEYL = (0x9E3779B9, 0xBB67AE85)
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
STATE, TOKEN = 0x574D4358, 0x574D544B
"""Domain separators: one for the state of a context, one for the words of tokens."""
CHUNK = 1 << 16
"""Philox calls at a time: the arrays of one chunk stay in the cache."""


class Draws:
    """Where slot i swaps, for i below ``count``: j = i + (u_i mod (V - i)), u the words of MT19937."""

    def __init__(self, vocab_size: int, count: int) -> None:
        self._slots = np.arange(count, dtype=np.uint32)
        self._divisors = np.uint32(vocab_size) - self._slots
        self._words = np.random.MT19937(0)
        self._seeding = np.random.RandomState(self._words)  # seeds as torch does; making one is slow, seeding is not

    def __call__(self, seed: int) -> np.ndarray:
        """uint32 [count] for a 32-bit seed."""
        self._seeding.seed(seed)
        words = self._words.random_raw(len(self._slots)).astype(np.uint32)
        swaps: np.ndarray = self._slots + words % self._divisors
        return swaps


def green_list(swaps: np.ndarray) -> list[int]:
    """The first entries of the shuffle; a dictionary holds only what has moved."""
    moved: dict[int, int] = {}
    first = []
    for slot, other in enumerate(swaps.tolist()):
        here = moved.pop(slot, slot)
        if other == slot:
            first.append(here)
        else:
            first.append(moved.get(other, other))
            moved[other] = here
    return first


def green_row(swaps: np.ndarray, vocab_size: int) -> np.ndarray:
    """The set of the first entries as a mask, by running the shuffle backwards on bits instead of ids.

    Read backwards, ``row[p]`` says whether the token at position p after step i ends in the list. Step i puts the
    token of position j into the list and the token of slot i at position j.
    """
    row = bytearray(vocab_size)
    for slot, other in zip(range(len(swaps) - 1, -1, -1), swaps[::-1].tolist(), strict=True):
        row[slot] = row[other]
        row[other] = 1
    return np.frombuffer(row, dtype=bool)


def green_lists(seeds: np.ndarray, vocab_size: int, count: int, out: np.ndarray) -> None:
    draws = Draws(vocab_size, count)
    for index, seed in enumerate(seeds.tolist()):
        out[index] = green_list(draws(seed))


def green_rows(seeds: np.ndarray, vocab_size: int, count: int, last: bool, out: np.ndarray) -> None:
    draws = Draws(vocab_size, count)
    for index, seed in enumerate(seeds.tolist()):
        out[index] = green_row(draws(seed), vocab_size) ^ last


def member(
    seeds: np.ndarray, starts: np.ndarray, targets: np.ndarray, vocab_size: int, count: int, last: bool, out: np.ndarray
) -> None:
    """Targets of ``seeds[g]`` lie from ``starts[g]`` to ``starts[g + 1]``."""
    draws = Draws(vocab_size, count)
    for seed, start, stop in zip(seeds.tolist(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        swaps = draws(seed)
        for index in range(start, stop):
            out[index] = is_drawn(swaps, int(targets[index])) ^ last


def is_drawn(swaps: np.ndarray, token: int) -> bool:
    """Follow one token through the shuffle: it is in the list as soon as its position is drawn."""
    start, position = 0, token
    while position < len(swaps):
        if (swaps[start : position + 1] == position).any():
            return True
        start, position = position + 1, int(swaps[position])
    return bool((swaps[start:] == position).any())


def add_to_green(scores: np.ndarray, seeds: np.ndarray, count: int, delta: np.float32, last: bool, shift: int) -> None:
    draws = Draws(scores.shape[1], count)
    for row, seed in zip(scores, seeds.tolist(), strict=True):
        green = np.roll(green_row(draws(seed), len(row)), -shift)
        np.add(row, delta, out=row, where=green ^ last)


def philox(counter: tuple[np.ndarray, ...], k0: Any, k1: Any) -> tuple[np.ndarray, ...]:
    """Philox4x32-10 on uint64 arrays that hold 32-bit words; the key's words are of that type too."""
    c0, c1, c2, c3 = counter
    for _ in range(10):
        a, b = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (b >> HALF) ^ c1 ^ k0, b & LOW, (a >> HALF) ^ c3 ^ k1, a & LOW
        k0, k1 = (k0 + np.uint64(WEYL[0])) & LOW, (k1 + np.uint64(WEYL[1])) & LOW
    return c0, c1, c2, c3


def philox_states(contexts: np.ndarray, key: int, out: np.ndarray) -> None:
    for start in range(0, len(contexts), CHUNK):
        out[start : start + CHUNK] = _states(contexts[start : start + CHUNK], key)


def _states(contexts: np.ndarray, key: int) -> np.ndarray:
    n, width = contexts.shape
    state = tuple(np.full(n, word, np.uint64) for word in (STATE, width, 0, 0))
    for offset in range(0, width, 4):
        block = [
            contexts[:, offset + i].astype(np.uint64) & LOW if offset + i < width else LOW - np.uint64(i)
            for i in range(4)
        ]
        k0, k1 = np.uint64((key & 0xFFFFFFFF) ^ offset), np.uint64(key >> 32)
        state = philox(tuple(s ^ b for s, b in zip(state, block, strict=True)), k0, k1)
    return np.stack(state, axis=1).astype(np.uint32)


def philox_words(states: np.ndarray, calls: np.ndarray, key: int) -> tuple[np.ndarray, ...]:
    """Words of tokens 4·call … 4·call + 3; ``states`` [n, 4] and ``calls`` broadcast against one another."""
    s0, s1, s2, s3 = (states[..., i].astype(np.uint64) for i in range(4))
    calls, s0, s1, s2, s3 = np.broadcast_arrays(calls.astype(np.uint64), s0, s1, s2, s3)
    k0, k1 = np.uint64(key & 0xFFFFFFFF) ^ s3, np.uint64((key >> 32) ^ TOKEN)
    return philox((calls, s0, s1, s2), k0, k1)


def uniforms_of(words: np.ndarray) -> np.ndarray:
    """((word >> 8) + 1) / (2^24 + 1), rounded to float32."""
    return (((words >> np.uint64(8)) + np.uint64(1)).astype(np.float64) / 16777217.0).astype(np.float32)


def philox_uniforms(states: np.ndarray, tokens: np.ndarray, key: int, out: np.ndarray) -> None:
    for start in range(0, len(tokens), CHUNK):
        part = slice(start, start + CHUNK)
        words = np.stack(philox_words(states[part], tokens[part] >> 2, key))
        out[part] = uniforms_of(np.take_along_axis(words, tokens[None, part] & 3, axis=0)[0])


def _row_words(state: np.ndarray, start: int, stop: int, key: int) -> np.ndarray:
    """Words of tokens start … stop - 1, start a multiple of 4."""
    calls = np.arange(start // 4, (stop + 3) // 4)
    return np.stack(philox_words(state, calls, key), axis=-1).reshape(-1)[: stop - start]


def philox_rows(states: np.ndarray, key: int, out: np.ndarray) -> None:
    vocab_size = out.shape[1]
    for state, row in zip(states, out, strict=True):
        for start in range(0, vocab_size, 4 * CHUNK):
            stop = min(start + 4 * CHUNK, vocab_size)
            row[start:stop] = uniforms_of(_row_words(state, start, stop, key))


def add_philox_green(
    scores: np.ndarray, states: np.ndarray, key: int, limit: int, delta: np.float32, shift: int
) -> None:
    for row, state in zip(scores, states, strict=True):
        words = _row_words(state, 0, len(row), key)
        np.add(row, delta, out=row, where=np.roll((words >> np.uint64(8)) < np.uint64(limit), -shift))


def first_seen(rows: np.ndarray, documents: np.ndarray, salt: int, out: np.ndarray) -> None:
    columns = [*rows.T[::-1], documents]
    keys = mixed(columns, salt)
    order = np.argsort(keys, kind="stable")  # equal rows stay in text order
    new = _differs(columns, order)
    if (new[1:] & ~_differs([keys], order)[1:]).any():  # different rows share a key: sort by the rows themselves
        order = np.lexsort(columns)
        new = _differs(columns, order)
    out[order] = new


def mixed(columns: list[np.ndarray], salt: int) -> np.ndarray:
    """A 64-bit key for every row; different rows almost never share one."""
    keys = np.full(len(columns[0]), salt, dtype=np.uint64)
    for column in columns:
        keys = (keys ^ column.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _differs(columns: list[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Whether a row is another one than the row before it, in that order."""
    new = np.arange(len(order)) == 0
    for column in columns:
        ordered = column[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    return new


def best_window(hits: np.ndarray, gamma: float, sizes: np.ndarray) -> tuple[float, int, int]:
    sums = np.concatenate([[0], np.cumsum(hits, dtype=np.int64)])
    best = (-np.inf, 0, 0)
    for size in sizes.tolist():
        counts = sums[size:] - sums[:-size]
        start = int(counts.argmax())
        z = (float(counts[start]) - gamma * size) / np.sqrt(size * gamma * (1.0 - gamma))
        if z >= best[0]:
            best = (float(z), start, size)
    return best


def count_windows(hits: np.ndarray, sizes: np.ndarray, least: np.ndarray, out: np.ndarray) -> None:
    out[:] = 0
    step = max(1, (1 << 20) // max(1, hits.shape[1]))
    for start in range(0, len(hits), step):
        part = slice(start, start + step)
        sums = np.zeros((len(hits[part]), hits.shape[1] + 1), dtype=np.int64)
        np.cumsum(hits[part], axis=1, dtype=np.int64, out=sums[:, 1:])
        for size, enough in zip(sizes.tolist(), least.tolist(), strict=True):
            out[part] += ((sums[:, size:] - sums[:, :-size]) >= enough).sum(axis=1)
