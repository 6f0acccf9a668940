"""Schemes without keys' mathematics, and what calibration means, for tests of the statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import bdtr, bdtrc

from assay.watermark.schemes.base import BERNOULLI, EXPONENTIAL
from assay.watermark.settings import WatermarkSettings


def uniforms(columns: np.ndarray, key: int) -> np.ndarray:
    """A uniform number for every row, by a mixing hash: in (0, 1), float64 [n]."""
    with np.errstate(over="ignore"):
        state = np.full(len(columns), key, dtype=np.uint64)
        for column in columns.T.astype(np.uint64):
            state = (state ^ column) * np.uint64(0x9E3779B97F4A7C15)
            state ^= state >> np.uint64(29)
            state *= np.uint64(0xBF58476D1CE4E5B9)
            state ^= state >> np.uint64(32)
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


class Toy:
    """A scheme whose uniform numbers come from a hash of n-gram and key."""

    self_salt = False

    def __init__(
        self,
        *,
        vocab_size: int = 1000,
        gamma: float = 0.25,
        preceding: int = 1,
        key: int = 1,
        null: str = BERNOULLI,
        fixed: bool = False,
        strict: bool = False,
        **settings: Any,
    ) -> None:
        self.settings = WatermarkSettings(scheme="philox", vocab_size=vocab_size, gamma=gamma, **settings)
        self.preceding = 0 if fixed else preceding
        self.null, self.fixed, self.strict, self.key = null, fixed, strict, key
        self.gamma = 0.5 if null == EXPONENTIAL else gamma
        self.green = int(vocab_size * gamma) if fixed else None
        order = np.random.default_rng(key).permutation(vocab_size)
        self.list = np.isin(np.arange(vocab_size), order[: self.green or 0])

    def score(self, contexts: np.ndarray, targets: np.ndarray, *, shift: int = 0) -> np.ndarray:
        tokens = (targets + shift) % self.settings.vocab_size
        if self.fixed:
            return self.list[tokens]
        u = uniforms(np.concatenate([contexts, tokens[:, None]], axis=1), self.key)
        return -np.log1p(-u) if self.null == EXPONENTIAL else u < self.gamma

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        size = self.settings.vocab_size
        if self.fixed:
            return np.broadcast_to(self.list, (len(contexts), size))
        grid = np.repeat(contexts, size, axis=0)
        return self.score(grid, np.tile(np.arange(size), len(contexts))).reshape(len(contexts), size)

    def bias(self, input_ids: Any, scores: Any) -> Any:
        raise NotImplementedError


def marked(scheme: Any, length: int, *, seed: int = 0, share: float = 0.9, shift: int = 0) -> list[int]:
    """Ids in which a share of tokens is taken among the scheme's favourites."""
    rng = np.random.default_rng(seed)
    size = scheme.settings.vocab_size
    ids = rng.integers(0, size, max(1, scheme.preceding)).tolist()
    while len(ids) < length:
        candidates = rng.integers(0, size, 40)
        context = np.repeat(np.array([ids[len(ids) - scheme.preceding :]], dtype=np.int64), 40, axis=0)
        scores = np.asarray(scheme.score(context.reshape(40, scheme.preceding), candidates, shift=shift), np.float64)
        ids.append(int(candidates[np.argmax(scores)] if rng.random() < share else candidates[0]))
    return ids


def not_above(p_values: Any, alphas: Any = (0.5, 0.2, 0.1, 0.05, 0.01, 0.002)) -> None:
    """Assert that p-values of the null are at most alpha no more often than alpha, but for a chance of 1e-6 a level."""
    p = np.asarray(p_values)
    for alpha in alphas:
        count = int((p <= alpha).sum())
        assert bdtrc(count - 1, len(p), alpha) > 1e-6 if count else True, (alpha, count / len(p))


def matches(p_values: Any, alphas: Any = (0.5, 0.2, 0.1, 0.05, 0.01, 0.002), *, slack: float = 0.0) -> None:
    """Assert that p-values of the null are uniform: at most alpha as often as alpha, up to a relative slack."""
    p = np.asarray(p_values)
    for alpha in alphas:
        count = int((p <= alpha).sum())
        high, low = min(1.0, alpha * (1 + slack)), alpha * (1 - slack)
        assert bdtrc(count - 1, len(p), high) > 1e-6 if count else True, (alpha, count / len(p))
        assert bdtr(count, len(p), low) > 1e-6, (alpha, count / len(p))
