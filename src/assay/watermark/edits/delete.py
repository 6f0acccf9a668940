"""Deletion: a share of the tokens is left out."""

from __future__ import annotations

import numpy as np

from ...core.methods import MethodCard
from ...core.settings import option, settings
from .base import Surroundings, chosen

CARD = MethodCard(
    name="delete",
    kind="edit",
    title="Deletion of tokens",
    summary="Leaves out a share of the tokens.",
    settings="Delete",
)


@settings
class Delete:
    """Settings of the deletion."""

    rate: float = option(default=0.1, help="share of the tokens that is left out", at_least=0, at_most=1)

    level = "tokens"
    strength = "rate"
    usual = (0.1, 0.3, 0.5, 0.7)

    def apply(self, document: np.ndarray, surroundings: Surroundings) -> np.ndarray:
        """``round(rate n)`` tokens go, any set of places being as likely."""
        return np.delete(document, chosen(surroundings.rng, len(document), self.rate))
