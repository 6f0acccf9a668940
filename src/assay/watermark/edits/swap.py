"""Swaps: neighbouring tokens change places.

The pairs are disjoint, and every set of so many disjoint pairs of neighbours is as likely: k pairs among n tokens
are k of ``n - k`` places of which each chosen one is then two tokens wide.
"""

from __future__ import annotations

import numpy as np

from ...core.methods import MethodCard
from ...core.settings import option, settings
from .base import Surroundings

CARD = MethodCard(
    name="swap",
    kind="edit",
    title="Swaps of neighbouring tokens",
    summary="Lets pairs of neighbouring tokens change places.",
    settings="Swap",
)


@settings
class Swap:
    """Settings of the swaps."""

    rate: float = option(default=0.1, help="share of the tokens that moves", at_least=0, at_most=1)

    level = "tokens"
    strength = "rate"
    usual = (0.1, 0.3, 0.5, 0.7)

    def apply(self, document: np.ndarray, surroundings: Surroundings) -> np.ndarray:
        """``round(rate n / 2)`` disjoint pairs change places, at most ``n // 2``."""
        n = len(document)
        pairs = min(n // 2, round(self.rate * n / 2))
        places = np.sort(surroundings.rng.choice(n - pairs, size=pairs, replace=False)) if pairs else np.zeros(0, int)
        left = places + np.arange(pairs)
        result = document.copy()
        result[left], result[left + 1] = document[left + 1], document[left]
        return result
