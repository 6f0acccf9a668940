"""Substitution: a share of the tokens is replaced by others, drawn uniformly from the rest of the vocabulary.

Each replaced token is lost as a target, and spoils the context of the tokens that follow it within the context
width h: about ``1 - (1 - ε)^(h+1)`` of the n-grams are destroyed.
"""

from __future__ import annotations

import numpy as np

from ...core.methods import MethodCard
from ...core.settings import option, settings
from .base import Surroundings, chosen

CARD = MethodCard(
    name="substitute",
    kind="edit",
    title="Substitution of tokens",
    summary="Replaces a share of the tokens by random others.",
    settings="Substitute",
)


@settings
class Substitute:
    """Settings of the substitution."""

    rate: float = option(default=0.1, help="share of the tokens that is replaced", at_least=0, at_most=1)

    level = "tokens"
    strength = "rate"
    usual = (0.1, 0.3, 0.5, 0.7)

    def apply(self, document: np.ndarray, surroundings: Surroundings) -> np.ndarray:
        """``round(rate n)`` tokens become others; each other id is as likely."""
        rng, size = surroundings.rng, surroundings.vocab_size
        places = chosen(rng, len(document), self.rate)
        if size < 2:
            return document
        shifts = rng.integers(1, size, size=len(places))
        result = document.copy()
        result[places] = (document[places] + shifts) % size
        return result
