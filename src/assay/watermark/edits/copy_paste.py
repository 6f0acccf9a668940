"""Copy-paste: spans of a marked document are hidden in unmarked text of people.

The result is as long as the marked document was. A share p of it is marked: k spans of about ``p n / k`` tokens,
cut from different places of the marked document and put, in their order, at random places of the unmarked text.
"""

from __future__ import annotations

import numpy as np

from ...core.errors import DataError
from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from .base import Surroundings

CARD = MethodCard(
    name="copy-paste",
    kind="edit",
    title="Copy-paste into human text",
    summary="Hides spans of marked text in unmarked text of the same total length.",
    settings="CopyPaste",
    citation=Citation(
        key="kirchenbauer2024reliability",
        title="On the Reliability of Watermarks for Large Language Models",
        authors="Kirchenbauer, John and Geiping, Jonas and Wen, Yuxin and Shu, Manli and Saifullah, Khalid and "
        "Kong, Kezhi and Fernando, Kasun and Saha, Aniruddha and Goldblum, Micah and Goldstein, Tom",
        year=2024,
        venue="International Conference on Learning Representations",
        arxiv="2306.04634",
    ),
)


@settings
class CopyPaste:
    """Settings of the copy-paste attack."""

    spans: int = option(default=1, help="marked spans in a text", at_least=1, at_most=100)
    share: float = option(default=0.25, help="share of the text that is marked, all spans together", above=0, at_most=1)

    level = "tokens"
    strength = "share"
    usual = (0.5, 0.25, 0.1)

    def apply(self, document: np.ndarray, surroundings: Surroundings) -> np.ndarray:
        """Unmarked text with the spans in it, [n] as the document."""
        rng, n = surroundings.rng, len(document)
        marked = round(self.share * n)
        spans = max(1, min(self.spans, marked))
        ends = np.arange(1, spans + 1) * marked // spans
        around = human_text(surroundings, n - marked)
        # Gaps between spans of the marked document, and between their places in the unmarked text.
        skipped = np.sort(rng.integers(0, n - marked + 1, size=spans))
        places = np.sort(rng.integers(0, len(around) + 1, size=spans))
        pieces, begin, used = [], 0, 0
        for end, skip, place in zip(ends.tolist(), skipped.tolist(), places.tolist(), strict=True):
            pieces += [around[used:place], document[begin + skip : end + skip]]
            begin, used = end, place
        return np.concatenate([*pieces, around[used:]])


def human_text(surroundings: Surroundings, tokens: int) -> np.ndarray:
    """So many tokens of unmarked text: from a random place of one document where one is long enough, else of several.

    Raises:
        DataError: all unmarked documents together are shorter.
    """
    rng = surroundings.rng
    if not tokens:
        return np.zeros(0, dtype=np.int64)
    lengths = np.array([len(document) for document in surroundings.human], dtype=np.int64)
    long_enough = np.flatnonzero(lengths >= tokens)
    if len(long_enough):
        source = surroundings.human[int(rng.choice(long_enough))]
        start = int(rng.integers(0, len(source) - tokens + 1))
        return np.asarray(source[start : start + tokens], dtype=np.int64)
    if lengths.sum() < tokens:
        raise DataError(
            f"The edit 'copy-paste' needs {tokens} tokens of unmarked text, and there are {lengths.sum()} in "
            f"{len(lengths)} documents. Give more human text."
        )
    order = rng.permutation(len(lengths))
    return np.concatenate([surroundings.human[index] for index in order])[:tokens].astype(np.int64)
