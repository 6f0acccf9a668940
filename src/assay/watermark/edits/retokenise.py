"""Retokenisation: text is written out and read again, as happens to any text that is saved or pasted.

A model may put two tokens where the tokenizer would read one, so that the ids that are read back are not the
ids that were drawn.
"""

from __future__ import annotations

import re

from ...core.methods import MethodCard
from ...core.settings import option, settings
from .base import Surroundings

CARD = MethodCard(
    name="retokenise",
    kind="edit",
    title="Retokenisation",
    summary="Writes the text out and tokenises it again, with white space as it is or tidied.",
    settings="Retokenise",
)


@settings
class Retokenise:
    """Settings of the retokenisation."""

    whitespace: str = option(
        default="keep", help="white space as it is, or runs of it as one space", choices=("keep", "tidy")
    )

    level = "text"
    strength = ""
    usual = ()

    def apply(self, document: str, surroundings: Surroundings) -> str:
        """The text, which is tokenised again afterwards."""
        return document if self.whitespace == "keep" else re.sub(r"\s+", " ", document).strip()
