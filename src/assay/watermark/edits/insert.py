"""Insertion: random tokens are put between the tokens of a document.

An inserted token breaks the n-grams that span its place: the h n-grams whose context it enters, and one more of
which it is the target.
"""

from __future__ import annotations

import numpy as np

from ...core.methods import MethodCard
from ...core.settings import option, settings
from .base import Surroundings

CARD = MethodCard(
    name="insert",
    kind="edit",
    title="Insertion of tokens",
    summary="Puts random tokens at random places.",
    settings="Insert",
)


@settings
class Insert:
    """Settings of the insertion."""

    rate: float = option(default=0.1, help="tokens put in, as a share of those there", at_least=0, at_most=10)

    level = "tokens"
    strength = "rate"
    usual = (0.1, 0.3, 0.5, 0.7)

    def apply(self, document: np.ndarray, surroundings: Surroundings) -> np.ndarray:
        """``round(rate n)`` uniform ids, each before a token or at the end."""
        rng, count = surroundings.rng, round(self.rate * len(document))
        places = rng.integers(0, len(document) + 1, size=count)
        return np.insert(document, places, rng.integers(0, surroundings.vocab_size, size=count))
