"""Zero-width characters: invisible ones are put between the characters of a text."""

from __future__ import annotations

from ...core.methods import MethodCard
from ...core.settings import option, settings
from .base import Surroundings, chosen

CARD = MethodCard(
    name="zero-width",
    kind="edit",
    title="Zero-width characters",
    summary="Puts invisible characters into a text.",
    settings="ZeroWidth",
)

INVISIBLE = ("\u200b", "\u200c", "\u200d", "\u2060")  # zero width space, non-joiner, joiner, word joiner


@settings
class ZeroWidth:
    """Settings of the zero-width characters."""

    rate: float = option(
        default=0.1, help="characters put in, as a share of the places between two", at_least=0, at_most=1
    )

    level = "text"
    strength = "rate"
    usual = (0.02, 0.1, 0.5)

    def apply(self, document: str, surroundings: Surroundings) -> str:
        """``round(rate g)`` of the g places between two characters get one of four invisible characters."""
        rng = surroundings.rng
        places = chosen(rng, max(0, len(document) - 1), self.rate) + 1
        pieces, used = [], 0
        for place, kind in zip(places, rng.integers(0, len(INVISIBLE), size=len(places)), strict=True):
            pieces += [document[used:place], INVISIBLE[kind]]
            used = int(place)
        return "".join([*pieces, document[used:]])
