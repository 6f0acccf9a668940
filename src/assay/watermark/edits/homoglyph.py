"""Homoglyphs: Latin letters are replaced by letters of other scripts that look the same."""

from __future__ import annotations

from ...core.methods import MethodCard
from ...core.settings import option, settings
from .base import Surroundings, replaced

CARD = MethodCard(
    name="homoglyph",
    kind="edit",
    title="Homoglyphs",
    summary="Replaces a share of the Latin letters by Cyrillic or Greek ones that look the same.",
    settings="Homoglyph",
)

# Cyrillic and Greek letters with the shape of a Latin one in usual fonts (Unicode Technical Standard 39).
_CYRILLIC = dict(zip("aceijopsxyABCEHIJKMOPSTXY", "асеіјорѕхуАВСЕНІЈКМОРЅТХУ", strict=True))
LOOKALIKES = {**_CYRILLIC, "v": "ν", "N": "Ν", "Z": "Ζ"}


@settings
class Homoglyph:
    """Settings of the homoglyphs."""

    rate: float = option(
        default=0.1, help="share of the letters with a lookalike that is replaced", at_least=0, at_most=1
    )

    level = "text"
    strength = "rate"
    usual = (0.05, 0.2, 0.5)

    def apply(self, document: str, surroundings: Surroundings) -> str:
        """``round(rate m)`` of the m letters that have a lookalike are replaced by it."""
        return replaced(document, surroundings.rng, self.rate, LOOKALIKES)
