"""Truncation: the end of a document is cut off."""

from __future__ import annotations

import numpy as np

from ...core.methods import MethodCard
from ...core.settings import option, settings
from .base import Surroundings

CARD = MethodCard(
    name="truncate",
    kind="edit",
    title="Truncation",
    summary="Cuts off the end of a document.",
    settings="Truncate",
)


@settings
class Truncate:
    """Settings of the truncation."""

    rate: float = option(default=0.5, help="share of the tokens that is cut off", at_least=0, at_most=1)

    level = "tokens"
    strength = "rate"
    usual = (0.25, 0.5, 0.75, 0.9)

    def apply(self, document: np.ndarray, surroundings: Surroundings) -> np.ndarray:
        """The first ``n - round(rate n)`` tokens."""
        return document[: len(document) - round(self.rate * len(document))]
