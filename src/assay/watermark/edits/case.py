"""Changes of case: a share of the words is written in another case, which most tokenizers read as other tokens."""

from __future__ import annotations

import re

from ...core.methods import MethodCard
from ...core.settings import option, settings
from .base import Surroundings, chosen

CARD = MethodCard(
    name="case",
    kind="edit",
    title="Change of case",
    summary="Writes a share of the words in another case.",
    settings="Case",
)

_CHANGES = {"upper": str.upper, "lower": str.lower, "swap": str.swapcase}


@settings
class Case:
    """Settings of the change of case."""

    rate: float = option(default=0.1, help="share of the words that is changed", at_least=0, at_most=1)
    how: str = option(default="swap", help="what becomes of a word", choices=("swap", "upper", "lower"))

    level = "text"
    strength = "rate"
    usual = (0.1, 0.5, 1.0)

    def apply(self, document: str, surroundings: Surroundings) -> str:
        """``round(rate w)`` of the w words that would change do."""
        change = _CHANGES[self.how]
        words = [word for word in re.finditer(r"\w+", document) if change(word[0]) != word[0]]
        pieces, used = [], 0
        for index in chosen(surroundings.rng, len(words), self.rate):
            word = words[index]
            pieces += [document[used : word.start()], change(word[0])]
            used = word.end()
        return "".join([*pieces, document[used:]])
